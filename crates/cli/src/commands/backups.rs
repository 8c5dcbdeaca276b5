//! `backstop backups`.

use backstop_engine::backup::{ebs, report};
use backstop_engine::ports::VolumeSnapshots;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::report::{
    BackupRow, BackupState, BackupsReport, EbsSnapshots, TaggedReport, VolumeState,
};
use backstop_repo::{CatalogEntry, Reader};

use super::{Ended, known_or_stored};
use crate::args::BackupsArgs;
use crate::cloud::Cloud;
use crate::compose::App;
use crate::output::Output;

/// Lists a shard's backups, newest first.
///
/// # Errors
/// [`Kind::NotRecoverable`] with `--latest` when there is none; when the repository cannot be read, or with `--from-tags`
/// AWS cannot be asked.
pub async fn run(args: &BackupsArgs, app: &App, output: &Output) -> Result<Ended> {
    if args.from_tags {
        output.report(&app.world.unless_stopped(tagged(args, app)).await?);
    } else {
        output.report(&app.world.unless_stopped(listed(args, app)).await?);
    }
    Ok(Ended::Well)
}

async fn listed(args: &BackupsArgs, app: &App) -> Result<BackupsReport> {
    let repository = app.repository().await?;
    known_or_stored(app, &repository, &args.shard).await?;
    let reader = repository.reader(&args.shard);
    let catalog = reader.catalog().await?;
    let mut backups = Vec::new();
    for entry in catalog.iter().rev().take(count(args)) {
        backups.push(row(args, app, &reader, entry).await?);
    }
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
        return Err(Fault::new(Kind::NotRecoverable, format!("shard {} has no backup yet", args.shard))
            .hint(format!("make one with `backstop backup {}`", args.shard)));
    }
    Ok(())
}

/// A backup in EBS is shown with its snapshots and how far they are now.
async fn row(args: &BackupsArgs, app: &App, reader: &Reader, entry: &CatalogEntry) -> Result<BackupRow> {
    let mut report = report(entry);
    if entry.facts.lineage.is_ebs() {
        report.ebs = ebs(reader.storage_of(entry).await?, None);
        if let Some(snapshots) = &mut report.ebs {
            ask(args, app, snapshots).await;
        }
    }
    let state = match report.ebs.as_ref().and_then(|snapshots| snapshots.state) {
        None | Some(VolumeState::Completed) => BackupState::Complete,
        Some(VolumeState::Pending) => BackupState::Pending,
        Some(VolumeState::Error | VolumeState::Missing) => BackupState::Damaged,
    };
    Ok(BackupRow { report, state })
}

/// The list is of use without it.
async fn ask(args: &BackupsArgs, app: &App, snapshots: &mut EbsSnapshots) {
    if !Cloud::is_reachable() {
        return;
    }
    match app.volumes(&args.shard).state(&snapshots.snapshot_ids, &snapshots.region).await {
        Ok(state) => snapshots.state = Some(state),
        Err(fault) => app.world.reporter.notice(&format!("the state of EBS snapshots is not known: {fault}")),
    }
}
