//! Transactions that were committed between a position that was read without a lock and the
//! snapshot, read from the snapshot's own binary log.

use std::fs::File;
use std::path::Path;

use backstop_binlog::BinlogFile;
use backstop_engine::datadir_files::{LogFiles, ServerFiles};
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::server::Position;

/// Returns the position of the snapshot itself: adds every whole transaction that its binary logs
/// hold after `position`. Crash recovery keeps exactly those, since InnoDB prepares a transaction
/// durably before it is in the binary log.
///
/// # Errors
/// Returns an error if a binary log is not in the snapshot or cannot be read.
pub(super) async fn complete_position(position: Position, files: ServerFiles) -> Result<Position> {
    let read = tokio::task::spawn_blocking(move || read(position, &files)).await;
    read.failed("cannot read the binary logs in the snapshot")?
}

fn read(position: Position, files: &ServerFiles) -> Result<Position> {
    let missing = |what: &str| Error::failed(format!("cannot read the binary logs in the snapshot: {what}"));
    let logs = files.binlogs.as_ref().ok_or_else(|| missing("the snapshot has none"))?;
    let first = position.binlog_file.as_deref().ok_or_else(|| missing("the position names none"))?;
    let index =
        std::fs::read_to_string(&logs.index).failed(format!("cannot read {}", logs.index.display()))?;
    let mut all =
        index.lines().filter_map(|line| line.trim().rsplit('/').next()).filter(|name| !name.is_empty());
    let mut names: Vec<_> = all.by_ref().skip_while(|name| *name != first).collect();
    if names.is_empty() {
        return Err(missing(&format!("the index does not name {first}")));
    }
    let mut executed = position.gtid_executed;
    let last = names.pop();
    let mut from = position.binlog_position;
    let mut end = from;
    for name in names.into_iter().chain(last) {
        end = add(&mut executed, &path(logs, name), from)?.max(from);
        from = 0;
    }
    Ok(Position { gtid_executed: executed, binlog_file: last.map(str::to_owned), binlog_position: end })
}

fn path(logs: &LogFiles, name: &str) -> std::path::PathBuf {
    logs.base.with_file_name(name)
}

/// Adds the transactions of one file; returns the offset after the last one.
fn add(executed: &mut GtidSet, file: &Path, from: u64) -> Result<u64> {
    let doing = format!("cannot read {}", file.display());
    let mut log = BinlogFile::open(File::open(file).failed(&doing)?).failed(&doing)?;
    let transactions = log.transactions(from).failed(&doing)?;
    for transaction in &transactions {
        executed.insert(&transaction.gtid);
    }
    Ok(transactions.last().map_or(0, |transaction| transaction.end))
}
