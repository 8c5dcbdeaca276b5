//! `backstop backups`.

use backstop_engine::backup::report;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::report::{BackupRow, BackupState, BackupsReport};

use super::{Ended, known_or_stored};
use crate::args::BackupsArgs;
use crate::compose::App;
use crate::output::Output;

/// Lists a shard's backups, newest first.
///
/// # Errors
/// [`Kind::NotRecoverable`] with `--latest` when there is none; when the repository cannot be read.
pub async fn run(args: &BackupsArgs, app: &App, output: &Output) -> Result<Ended> {
    let report = app.world.unless_stopped(listed(args, app)).await?;
    output.report(&report);
    Ok(Ended::Well)
}

async fn listed(args: &BackupsArgs, app: &App) -> Result<BackupsReport> {
    let repository = app.repository().await?;
    known_or_stored(app, &repository, &args.shard).await?;
    let catalog = repository.reader(&args.shard).catalog().await?;
    let count = if args.latest { 1 } else { usize::MAX };
    let row = |entry| BackupRow { report: report(entry), state: BackupState::Complete };
    let backups: Vec<BackupRow> = catalog.iter().rev().take(count).map(row).collect();
    if args.latest && backups.is_empty() {
        return Err(Fault::new(Kind::NotRecoverable, format!("shard {} has no backup yet", args.shard))
            .hint(format!("make one with `backstop backup {}`", args.shard)));
    }
    Ok(BackupsReport { shard: args.shard.clone(), backups })
}
