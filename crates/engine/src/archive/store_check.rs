//! Checks that the store keeps what it accepted: reads the newest entries of the journal, and
//! stores lost ones again while the spool has them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use backstop_repo::LostEntry;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};

use super::{Archiver, Shared};

/// Interval of the checks after an upload, and otherwise.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
const IDLE_STORE_CHECK_INTERVAL: Duration = Duration::from_secs(60);
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
const STORE_ALERT: &str = "store's memory";

/// Checks while it is polled. Returns when another archiver has taken the lease.
pub(super) async fn watch_store(archiver: &Archiver<'_>, shared: &Shared) -> Error {
    // The entry up to which everything was seen, and when; the entries that could not be stored
    // again the last time.
    let (mut seen, mut missed) = (None, BTreeSet::new());
    loop {
        archiver.ctx.host.clock.sleep(STORE_CHECK_INTERVAL).await;
        let (newest, now) = (archiver.store.newest().await, archiver.ctx.host.clock.monotonic());
        if seen.is_some_and(|(number, at)| number == newest && now < at + IDLE_STORE_CHECK_INTERVAL) {
            continue;
        }
        match check_store(archiver, shared, &mut missed).await {
            Ok(()) => {
                shared.alerts.clear(STORE_ALERT);
                seen = Some((newest, now));
            }
            Err(error) if error.kind == ErrorKind::Held => return error,
            Err(error) => shared.alerts.raise(STORE_ALERT, &error, REMINDER_INTERVAL),
        }
    }
}

async fn check_store(archiver: &Archiver<'_>, shared: &Shared, missed: &mut BTreeSet<u64>) -> Result<()> {
    let before = std::mem::take(missed);
    let mut gone: Vec<LostEntry> = Vec::new();
    for lost in archiver.store.lost().await? {
        match spooled_bytes(shared, &lost).await? {
            Some(bytes) => {
                archiver.store.put_again(&lost, &bytes).await?;
                archiver.ctx.reporter.notice(&format!(
                    "the store lost {} after it reported it as written; it was stored again (check the store)",
                    lost.object()
                ));
            }
            // A full segment may just be replacing it.
            None if !before.contains(&lost.number()) || shared.queue.is_replacing() => {
                missed.insert(lost.number());
            }
            None => {
                missed.insert(lost.number());
                gone.push(lost);
            }
        }
    }
    let Some(first) = gone.first() else { return Ok(()) };
    let gtids = first.segment().map(|piece| piece.gtids.to_string()).unwrap_or_default();
    let message = format!(
        "cannot keep the archive: the store lost {} with transactions {gtids}, and the spool no longer has it ({} in all)",
        first.object(),
        gone.len()
    );
    Err(Error::new(ErrorKind::Damaged, message)
        .hint("take a backup now, and check the store: it lost data that it reported as written"))
}

/// Returns the bytes of an entry's segment, if the spool has them.
async fn spooled_bytes(shared: &Shared, lost: &LostEntry) -> Result<Option<Vec<u8>>> {
    let Some(piece) = lost.segment() else { return Ok(Some(Vec::new())) };
    let Some((path, skip)) = shared.queue.find_spooled(piece) else { return Ok(None) };
    let size = usize::try_from(piece.size()).unwrap_or(usize::MAX);
    let read = tokio::task::spawn_blocking(move || read(path, skip, size));
    let bytes = read.await.failed("cannot read the spool")?;
    Ok(bytes.filter(|bytes| *blake3::hash(bytes).as_bytes() == piece.hash.0))
}

fn read(path: PathBuf, skip: u64, size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    File::open(path).and_then(|file| file.read_exact_at(&mut bytes, skip)).ok()?;
    Some(bytes)
}
