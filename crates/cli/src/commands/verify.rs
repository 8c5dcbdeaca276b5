//! The command `backstop verify`.

use backstop_engine::backup_health::{BackupHealth, backup_health};
use backstop_engine::record_run;
use backstop_engine::report::{
    DamagedObject, LostKeyCopy, ShardVerification, UncheckedObject, VerifiedBackup, VerifyReport,
    VerifyVerdict,
};
use backstop_policy::backup_availability::BackupAvailability;
use backstop_repo::{KeyCopies, Repository, ShardReader, VerifyDepth};
use backstop_types::archive::ArchiveDamage;
use backstop_types::backup::BackupState;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::{BackupId, ShardName};
use backstop_types::progress::Progress;
use backstop_types::run_history::Operation;

use super::{CommandOutcome, known_or_stored};
use crate::app::App;
use crate::args::VerifyArgs;
use crate::output::Output;

/// Checks the stored objects.
///
/// # Errors
/// Returns the error that prevented the check; [`ErrorKind::NotRecoverable`] if nothing is stored.
/// Damage is a result: exit code 22.
pub async fn run(args: &VerifyArgs, app: &App, output: &Output) -> Result<CommandOutcome> {
    let report = verified(args, app).await?;
    let ended = match report.verdict() {
        VerifyVerdict::Nothing => return Err(nothing(args)),
        VerifyVerdict::NothingFound => CommandOutcome::Well,
        VerifyVerdict::NotAllChecked | VerifyVerdict::KeyCopyLost => CommandOutcome::Attention,
        VerifyVerdict::Damaged => CommandOutcome::Damaged,
    };
    output.report(&report);
    Ok(ended)
}

fn nothing(args: &VerifyArgs) -> Error {
    let (whose, shard) = match &args.shard {
        Some(shard) => (format!(" of shard {shard}"), shard.to_string()),
        None => (String::new(), "SHARD".to_owned()),
    };
    let message = format!("cannot verify the data{whose}: nothing is stored, no backup and no archive");
    Error::new(ErrorKind::NotRecoverable, message).hint(format!(
        "check that this is the intended repository, then make a backup: `backstop backup {shard}`"
    ))
}

async fn verified(args: &VerifyArgs, app: &App) -> Result<VerifyReport> {
    let repository = app.ctx.unless_stopped(app.repository()).await?;
    let shards = match &args.shard {
        Some(shard) => {
            app.ctx.unless_stopped(known_or_stored(app, &repository, shard)).await?;
            vec![shard.clone()]
        }
        None => app.ctx.unless_stopped(repository.shards()).await?,
    };
    let depth = if args.content { VerifyDepth::Content } else { VerifyDepth::Objects };
    let mut verified = Vec::new();
    for shard in shards {
        let work = app.ctx.unless_stopped(one(app, &repository, &shard, depth));
        let kept = record_run::record_run((&repository, &shard), Operation::Verify, &app.ctx, work, said);
        verified.push(app.ctx.step("verify", kept).await?);
    }
    let keys = match app.settings.repository.encryption_key {
        Some(_) => app.ctx.unless_stopped(repository.key_copies()).await?,
        None => Vec::new(),
    };
    let lost = keys.into_iter().flat_map(|KeyCopies { id, lost, .. }| {
        lost.into_iter().map(move |(object, wrong)| LostKeyCopy { key_id: id.clone(), object, wrong })
    });
    Ok(VerifyReport::new(verified, lost.collect()))
}

/// Summarizes the result in a few words.
fn said(verified: &ShardVerification) -> Option<String> {
    let (backups, depth) = (verified.backups.len(), verified.depth);
    let damaged = verified.damaged.len();
    Some(format!("{backups} backups verified ({depth}), {damaged} damaged objects"))
}

async fn one(
    app: &App,
    repository: &Repository,
    shard: &ShardName,
    depth: VerifyDepth,
) -> Result<ShardVerification> {
    let progress = |progress: Progress| app.ctx.reporter.progress(progress);
    let reader = repository.reader(shard);
    let found = reader.verify(depth, &progress).await?;
    note(app, shard, reader.note(&found, depth, app.ctx.host.clock.now()).await);
    let kept = kept_elsewhere(app, &reader, shard).await?;
    let sound = found.sound();
    let state = |id: &BackupId| match kept.iter().find(|(kept, _)| kept == id) {
        _ if !sound.contains(id) => BackupState::Damaged,
        Some((_, health)) => health.availability.state(),
        None => BackupState::Complete,
    };
    let backups = found.backups.iter().map(|id| VerifiedBackup { backup_id: id.clone(), state: state(id) });
    let damaged = found.damaged.iter().map(|damage| DamagedObject {
        object: damage.object.clone(),
        wrong: damage.wrong.clone(),
        backups: damage.backups.clone(),
        gtids: None,
        moments: None,
    });
    let archive = repository.archive(shard).verify(depth, &progress).await?;
    note(app, shard, repository.archive(shard).note(&archive, depth, app.ctx.host.clock.now()).await);
    let segments = archive.damaged.into_iter().map(segment);
    Ok(ShardVerification {
        shard: shard.clone(),
        depth: if depth == VerifyDepth::Content { "content" } else { "objects" },
        contents_read: depth == VerifyDepth::Content && kept.is_empty(),
        backups: backups.collect(),
        objects: found.objects + archive.segments,
        bytes_read: found.bytes_read + archive.bytes_read,
        damaged: damaged.chain(kept.iter().filter_map(lost)).chain(segments).collect(),
        unchecked: kept.iter().filter_map(unasked).collect(),
        unreferenced: found.unreferenced,
        segments: archive.segments,
    })
}

/// Warns if the result could not be recorded. A user who may only read can verify too, but then the
/// result is not recorded for others.
fn note<T>(app: &App, shard: &ShardName, noted: Result<T>) {
    if let Err(error) = noted {
        app.ctx.reporter.notice(&format!(
            "cannot record the findings of shard {shard}, so `status`, `plan` and `backups` do not have them: {error}"
        ));
    }
}

fn segment(damage: ArchiveDamage) -> DamagedObject {
    DamagedObject {
        object: damage.object,
        wrong: damage.wrong,
        backups: Vec::new(),
        gtids: Some(damage.gtids),
        moments: damage.committed,
    }
}

/// Returns the backups whose data is in EBS snapshots, with the state of those snapshots.
/// Unreadable parts of the repository have been reported already.
async fn kept_elsewhere(
    app: &App,
    reader: &ShardReader,
    shard: &ShardName,
) -> Result<Vec<(BackupId, BackupHealth)>> {
    let catalog = match reader.catalog().await {
        Err(error) if error.kind == ErrorKind::Damaged => return Ok(Vec::new()),
        catalog => catalog?,
    };
    let kept = backup_health(reader, &catalog, &app.volumes(shard)).await?;
    let ids = catalog.into_iter().map(|entry| entry.facts.backup_id);
    Ok(ids.zip(kept).filter(|(_, health)| health.ebs.is_some()).collect())
}

fn lost((id, health): &(BackupId, BackupHealth)) -> Option<DamagedObject> {
    let BackupAvailability::Lost(wrong) = &health.availability else { return None };
    Some(DamagedObject {
        object: health.ebs.as_ref()?.snapshot_ids.join(", "),
        wrong: wrong.clone(),
        backups: vec![id.clone()],
        gtids: None,
        moments: None,
    })
}

fn unasked((id, health): &(BackupId, BackupHealth)) -> Option<UncheckedObject> {
    let BackupAvailability::Unknown(why) = &health.availability else { return None };
    let object = format!("EBS {}", health.ebs.as_ref()?.snapshot_ids.join(", "));
    Some(UncheckedObject { object, why: why.clone(), backups: vec![id.clone()] })
}
