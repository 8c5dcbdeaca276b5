//! Prune: deletes backups that the retention policy no longer keeps. It plans first, and deletes
//! only what the plan names.
//!
//! A backup in EBS is first removed from the list. After its grace period its EBS snapshots are
//! deleted, and only then its manifest, which names them: if prune is killed in between, the next
//! prune continues.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_config::retention::Retention;
use backstop_config::settings::ProviderSetting;
use backstop_policy::archive_expiry::expired_segments;
use backstop_policy::retention::{RetentionVerdict, RetentionVote, apply_retention};
use backstop_repo::{CatalogEntry, Condemned, GcPlan, Repository, ShardWriter, Storage};
use backstop_types::archive::Archive;
use backstop_types::backup::BackupRef;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};

use crate::backup_health::backup_ref;
use crate::context::RunContext;
use crate::damaged_backups::ShardBackups;
use crate::ports::VolumeSnapshots;
use crate::report::{ArchivePruned, CondemnedBackup, PruneReport};

/// Grace period before objects of a deleted backup are removed; restores in progress may still read
/// them.
pub const OBJECT_GRACE_PERIOD: Duration = Duration::from_secs(3600);

/// Inputs of a prune.
pub struct Prune<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// Its retention policy. `None`: no backup is deleted, only the remains of dead runs are swept.
    pub retention: Option<&'a Retention>,
    /// Repository of its backups.
    pub repository: &'a Repository,
    /// Deletes the EBS snapshots of its backups.
    pub volumes: &'a dyn VolumeSnapshots,
    /// True if more than half of a shard's backups may be deleted in one run.
    pub yes_really: bool,
    /// Provider of its snapshots: with [`ProviderSetting::Ebs`], the remains of dead runs in EC2
    /// are deleted too.
    pub provider: ProviderSetting,
    /// Clock, progress reporter, cancellation.
    pub ctx: &'a RunContext,
}

/// Returns the backups that would be deleted, and why each backup is kept or not. Reads only.
///
/// # Errors
/// As [`backstop_repo::ShardReader::catalog`].
pub async fn plan(prune: &Prune<'_>) -> Result<PruneReport> {
    let now = prune.ctx.host.clock.now();
    let reader = prune.repository.reader(prune.shard);
    let backups = prune.ctx.unless_stopped(ShardBackups::of(&reader)).await?;
    let votes = votes(prune, &backups, now);
    let contents = prune.ctx.unless_stopped(prune.repository.archive(prune.shard).contents()).await?;
    let archive =
        ArchivePruned::new(&contents, &unneeded_segments(prune, &backups.catalog, &votes, &contents, now));
    let condemned = condemned_rows(&prune.ctx.unless_stopped(reader.condemned()).await?);
    Ok(PruneReport { archive, condemned, ..PruneReport::planned(prune.shard.clone(), votes) })
}

/// Deletes under the shard's lease. It plans again there, since backups may have come and gone, and
/// by the store's clock.
///
/// # Errors
/// Returns [`ErrorKind::Held`](backstop_types::error::ErrorKind::Held) if another run holds the
/// lease; [`ErrorKind::Refused`](backstop_types::error::ErrorKind::Refused) if this host's clock is
/// off, or more than half of the backups would be deleted. After a fault the next prune continues:
/// a backup is first removed from the list, and its objects are removed later.
pub async fn prune(prune: &Prune<'_>) -> Result<PruneReport> {
    let mut writer = claim(prune).await?;
    let outcome = prune.ctx.unless_stopped(story(prune, &mut writer)).await;
    release(prune, writer, outcome).await
}

/// Restores these deleted backups, or all whose grace period is not over, and the segments of the
/// archive that were dropped since.
///
/// # Errors
/// Returns [`ErrorKind::NotRecoverable`](backstop_types::error::ErrorKind::NotRecoverable) if one
/// of them cannot be restored, or none can; otherwise as [`prune`].
pub async fn undo(prune: &Prune<'_>, ids: &[BackupId]) -> Result<PruneReport> {
    let mut writer = claim(prune).await?;
    let outcome = prune.ctx.unless_stopped(undelete(prune, ids, &mut writer)).await;
    release(prune, writer, outcome).await
}

async fn claim(prune: &Prune<'_>) -> Result<ShardWriter> {
    prune
        .ctx
        .unless_stopped(prune.ctx.step("claim", prune.repository.acquire_lease(prune.shard, "prune")))
        .await
}

async fn release(
    prune: &Prune<'_>,
    writer: ShardWriter,
    outcome: Result<PruneReport>,
) -> Result<PruneReport> {
    let released = prune.ctx.step("release", writer.release()).await;
    let report = outcome?;
    released.map(|()| report)
}

async fn story(prune: &Prune<'_>, writer: &mut ShardWriter) -> Result<PruneReport> {
    let now = writer.agreed_time(prune.ctx.host.clock.now()).await?;
    let backups = ShardBackups::of(writer.reader()).await?;
    let votes = votes(prune, &backups, now);
    let doomed: Vec<BackupId> =
        votes.iter().filter(|vote| vote.is_delete()).map(|vote| vote.id.clone()).collect();
    refuse_many(prune, doomed.len(), votes.len())?;
    if !doomed.is_empty() {
        prune.ctx.step("condemn", writer.condemn(&doomed, now)).await?;
    }
    let plan = writer.gc_plan(now, OBJECT_GRACE_PERIOD).await?;
    let removed_snapshots = volumes(prune, writer, &plan).await?;
    let swept = prune.ctx.step("sweep", writer.sweep(plan)).await?;
    let archive = prune_archive(prune, writer, &backups.catalog, &votes, now);
    let (archive, objects, bytes) = prune.ctx.step("archive", archive).await?;
    let report = PruneReport::planned(prune.shard.clone(), votes)
        .applied(swept.objects + objects, swept.bytes + bytes);
    let condemned = condemned_rows(&writer.reader().condemned().await?);
    Ok(PruneReport { removed_snapshots, archive, condemned, ..report })
}

async fn undelete(prune: &Prune<'_>, ids: &[BackupId], writer: &mut ShardWriter) -> Result<PruneReport> {
    let now = writer.agreed_time(prune.ctx.host.clock.now()).await?;
    let young = |each: &&Condemned| (now - each.at).to_std().map_or(true, |age| age < OBJECT_GRACE_PERIOD);
    let condemned = writer.reader().condemned().await?;
    let undone: Vec<BackupId> = match ids {
        [] => condemned.iter().filter(young).map(|each| each.entry.facts.backup_id.clone()).collect(),
        ids => ids.to_vec(),
    };
    writer.undo(&undone, now, OBJECT_GRACE_PERIOD).await?;
    let plan = writer.archive_view().await?.undo_plan(now, OBJECT_GRACE_PERIOD);
    if undone.is_empty() && plan.segments.is_empty() {
        let message =
            format!("cannot undo deletions of shard {}: none is within its grace period", prune.shard);
        return Err(Error::new(ErrorKind::NotRecoverable, message));
    }
    writer.prune_archive(plan).await?;
    let backups = ShardBackups::of(writer.reader()).await?;
    let condemned = condemned_rows(&writer.reader().condemned().await?);
    let votes = votes(prune, &backups, now);
    Ok(PruneReport { undone, condemned, ..PruneReport::planned(prune.shard.clone(), votes) })
}

/// Refuses to delete a large part of the backups: a wrong policy or clock shows in their number.
fn refuse_many(prune: &Prune<'_>, doomed: usize, all: usize) -> Result<()> {
    if prune.yes_really || doomed * 2 <= all {
        return Ok(());
    }
    let message = format!(
        "cannot prune shard {}: this would delete {doomed} of its {all} backups, more than half",
        prune.shard
    );
    Err(Error::refused(message)
        .hint(format!("check `backstop prune {}`; if this is intended, add --yes-really", prune.shard)))
}

fn condemned_rows(condemned: &[Condemned]) -> Vec<CondemnedBackup> {
    let row = |each: &Condemned| CondemnedBackup {
        backup_id: each.entry.facts.backup_id.clone(),
        deleted_at: each.at,
        until: each.at + OBJECT_GRACE_PERIOD,
    };
    condemned.iter().map(row).collect()
}

/// Drops the segments of the archive that no backup needs, and removes the objects of those dropped
/// before. Reads the archive once for both.
async fn prune_archive(
    prune: &Prune<'_>,
    writer: &ShardWriter,
    catalog: &[CatalogEntry],
    votes: &[RetentionVote],
    now: DateTime<Utc>,
) -> Result<(ArchivePruned, u64, u64)> {
    let view = writer.archive_view().await?;
    let forgotten = unneeded_segments(prune, catalog, votes, view.archive(), now);
    let pruned = ArchivePruned::new(view.archive(), &forgotten);
    let plan = view.plan(&forgotten, now, OBJECT_GRACE_PERIOD);
    let (objects, bytes) = (plan.objects.len() as u64, plan.bytes());
    writer.prune_archive(plan).await?;
    Ok((pruned, objects, bytes))
}

/// Returns the segments of the archive that no remaining backup needs.
fn unneeded_segments(
    prune: &Prune<'_>,
    catalog: &[CatalogEntry],
    votes: &[RetentionVote],
    archive: &Archive,
    now: DateTime<Utc>,
) -> BTreeSet<u64> {
    let stays = |known: &BackupRef| !votes.iter().any(|vote| vote.is_delete() && vote.id == known.backup_id);
    let kept: Vec<BackupRef> = catalog.iter().map(backup_ref).filter(stays).collect();
    expired_segments(prune.retention.and_then(|rules| rules.binlogs), archive, &kept, now)
}

/// Deletes the EBS snapshots of the backups that the plan forgets, and those of dead runs.
async fn volumes(prune: &Prune<'_>, writer: &ShardWriter, plan: &GcPlan) -> Result<Vec<String>> {
    let condemned = writer.reader().condemned().await?;
    let over =
        condemned.iter().map(|condemned| &condemned.entry).filter(|entry| entry.facts.lineage.is_ebs());
    let mut removed = Vec::new();
    for entry in over.filter(|entry| plan.backups.contains(&entry.facts.backup_id)) {
        if let Storage::Ebs { snapshot_ids, region, .. } = writer.reader().storage_of(entry).await? {
            prune.ctx.step("volumes", prune.volumes.delete(&snapshot_ids, &region)).await?;
            removed.extend(snapshot_ids);
        }
    }
    if prune.provider == ProviderSetting::Ebs {
        removed.extend(prune.ctx.step("clear", prune.volumes.clear_dead_runs(prune.shard)).await?);
        report_stray_snapshots(prune, writer, &condemned).await?;
    }
    Ok(removed)
}

/// Reports proven snapshots that no backup names, and never deletes them: they are good, and may be
/// all that is left of a repository.
async fn report_stray_snapshots(
    prune: &Prune<'_>,
    writer: &ShardWriter,
    condemned: &[Condemned],
) -> Result<()> {
    let catalog = writer.reader().catalog().await?;
    let named = catalog.iter().chain(condemned.iter().map(|condemned| &condemned.entry));
    let named: BTreeSet<_> = named.map(|entry| &entry.facts.backup_id).collect();
    for stray in
        prune.volumes.tagged(prune.shard).await?.iter().filter(|tagged| !named.contains(&tagged.backup_id))
    {
        prune.ctx.reporter.notice(&format!(
            "the EBS snapshots {} of run {} are proven, but no backup refers to them: keep them or delete them in EC2",
            stray.ebs.snapshot_ids.join(", "),
            stray.backup_id
        ));
    }
    Ok(())
}

/// Returns the retention votes; a damaged backup displaces no whole one, and one whose snapshots
/// failed is never kept.
fn votes(prune: &Prune<'_>, backups: &ShardBackups, now: DateTime<Utc>) -> Vec<RetentionVote> {
    let judge = |entries: &mut dyn Iterator<Item = &CatalogEntry>| {
        let moments: Vec<_> =
            entries.map(|entry| (entry.facts.backup_id.clone(), entry.facts.taken_at)).collect();
        apply_retention(prune.retention, &moments, now)
    };
    let mut votes = judge(&mut backups.catalog.iter());
    let sound = judge(&mut backups.sound());
    for vote in votes.iter_mut().filter(|vote| vote.is_delete()) {
        if let Some(kept) = sound.iter().find(|other| other.id == vote.id && !other.is_delete()) {
            *vote = kept.clone();
        }
    }
    for vote in votes.iter_mut().filter(|vote| backups.failed.contains(&vote.id)) {
        let reason = "EC2 could not complete its snapshots".to_owned();
        vote.verdict = RetentionVerdict::Delete { reason };
    }
    votes
}
