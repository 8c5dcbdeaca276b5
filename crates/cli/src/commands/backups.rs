//! The command `backstop backups`.

use backstop_engine::backup::report;
use backstop_engine::backup_health::{BackupHealth, backup_health};
use backstop_engine::ports::VolumeSnapshots;
use backstop_engine::report::{BackupReport, BackupRow, BackupsReport, TaggedReport};
use backstop_policy::backup_availability::BackupAvailability;
use backstop_repo::CatalogEntry;
use backstop_types::error::{Error, ErrorKind, Result};

use super::{CommandOutcome, known_or_stored};
use crate::app::App;
use crate::args::BackupsArgs;
use crate::output::Output;

/// Lists a shard's backups, newest first.
///
/// # Errors
/// Returns [`ErrorKind::NotRecoverable`] with `--latest` if none exists, and an error if the
/// repository cannot be read or, with `--from-tags`, AWS cannot be queried.
pub async fn run(args: &BackupsArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    if args.from_tags {
        output.report(&app.ctx.unless_stopped(tagged(args, app)).await?);
    } else {
        output.report(&app.ctx.unless_stopped(listed(args, app)).await?);
    }
    Ok(CommandOutcome::Well)
}

async fn listed(args: &BackupsArgs, app: &App) -> Result<BackupsReport> {
    let repository = app.repository().await?;
    known_or_stored(app, &repository, &args.shard).await?;
    let reader = repository.reader(&args.shard);
    let mut listed = reader.catalog().await?;
    listed.reverse();
    listed.truncate(count(args));
    let stands = backup_health(&reader, &listed, &app.volumes(&args.shard)).await?;
    let backups: Vec<BackupRow> =
        listed.iter().zip(&stands).map(|(entry, health)| row(app, entry, health)).collect();
    refuse_none(args, backups.is_empty())?;
    Ok(BackupsReport { shard: args.shard.clone(), backups })
}

async fn tagged(args: &BackupsArgs, app: &App) -> Result<TaggedReport> {
    let mut from_tags = app.volumes(&args.shard).tagged(&args.shard).await?;
    from_tags.truncate(count(args));
    refuse_none(args, from_tags.is_empty())?;
    Ok(TaggedReport { shard: args.shard.clone(), from_tags })
}

fn count(args: &BackupsArgs) -> usize {
    if args.latest { 1 } else { usize::MAX }
}

fn refuse_none(args: &BackupsArgs, none: bool) -> Result<()> {
    if args.latest && none {
        return Err(Error::new(ErrorKind::NotRecoverable, format!("shard {} has no backup yet", args.shard))
            .hint(format!("make one with `backstop backup {}`", args.shard)));
    }
    Ok(())
}

/// Returns the row of a backup. A backup in EBS is shown with its snapshots and their present
/// progress, if AWS answers; the list is useful without that.
fn row(app: &App, entry: &CatalogEntry, health: &BackupHealth) -> BackupRow {
    if let BackupAvailability::Lost(why) | BackupAvailability::Unknown(why) = &health.availability {
        app.ctx.reporter.notice(&format!("backup {}: {why}", entry.facts.backup_id));
    }
    let report = BackupReport { ebs: health.ebs.clone(), ..report(entry) };
    let damage = match &health.availability {
        BackupAvailability::Lost(why) => Some(why.clone()),
        _ => None,
    };
    BackupRow { report, state: health.availability.state(), damage }
}
