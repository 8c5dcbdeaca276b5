//! Prune: deletes what retention no longer wants. The plan comes first; nothing is deleted but what it names.
//!
//! A backup in EBS is first taken from the list. When its grace is over its EBS snapshots are deleted, and only then its
//! manifest, which is what names them: after a kill in between the next prune goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_model::archive::Archive;
use backstop_model::archive_expiry::expired_segments;
use backstop_model::error::{Error, ErrorKind, Result};
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::plan::BackupRef;
use backstop_model::report::{ArchivePruned, CondemnedBackup, PruneReport};
use backstop_model::retention::{Retention, RetentionVote, apply_retention};
use backstop_model::settings::ProviderSetting;
use backstop_repo::{CatalogEntry, Condemned, GcPlan, Repository, ShardWriter, Storage};
use chrono::{DateTime, Utc};

use crate::context::RunContext;
use crate::damaged_backups::ShardBackups;
use crate::plan::backup_ref;
use crate::ports::VolumeSnapshots;

/// A deleted backup's objects stay for so long, for a recovery that is reading them right now.
pub const OBJECT_GRACE_PERIOD: Duration = Duration::from_secs(3600);

/// What a prune is made of.
pub struct Prune<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// Its rules. `None`: nothing is deleted, only what dead runs left is swept.
    pub retention: Option<&'a Retention>,
    /// Where its backups are.
    pub repository: &'a Repository,
    /// Deletes the EBS snapshots of its backups.
    pub volumes: &'a dyn VolumeSnapshots,
    /// True if more than half of a shard's backups may go at once.
    pub yes_really: bool,
    /// What takes its snapshots: with [`ProviderSetting::Ebs`], what dead runs left in EC2 goes too.
    pub provider: ProviderSetting,
    /// Time, reporter, stop.
    pub ctx: &'a RunContext,
}

/// What would be deleted, and why each backup is kept or not. Reads only.
///
/// # Errors
/// As [`backstop_repo::ShardReader::catalog`].
pub async fn plan(prune: &Prune<'_>) -> Result<PruneReport> {
    let now = prune.ctx.clock.now();
    let reader = prune.repository.reader(prune.shard);
    let backups = prune.ctx.unless_stopped(ShardBackups::of(&reader)).await?;
    let votes = votes(prune, &backups, now);
    let contents = prune.ctx.unless_stopped(prune.repository.archive(prune.shard).contents()).await?;
    let archive =
        ArchivePruned::new(&contents, &unneeded_segments(prune, &backups.catalog, &votes, &contents, now));
    let condemned = condemned_rows(&prune.ctx.unless_stopped(reader.condemned()).await?);
    Ok(PruneReport { archive, condemned, ..PruneReport::planned(prune.shard.clone(), votes) })
}

/// Deletes under the shard's claim. The plan is made again there, since backups may have come and gone, and by the store's clock.
///
/// # Errors
/// [`ErrorKind::Held`](backstop_model::error::ErrorKind::Held) when another run holds the shard;
/// [`ErrorKind::Refused`](backstop_model::error::ErrorKind::Refused) when this host's clock is off, or more than half of the backups would go.
/// After a fault the next prune continues: a backup is first taken from the list, and its objects are removed later.
pub async fn prune(prune: &Prune<'_>) -> Result<PruneReport> {
    let mut writer = claim(prune).await?;
    let outcome = prune.ctx.unless_stopped(story(prune, &mut writer)).await;
    release(prune, writer, outcome).await
}

/// Takes back the deletion of these backups, or of all whose grace is not over, and what was dropped of the archive since.
///
/// # Errors
/// [`ErrorKind::NotRecoverable`](backstop_model::error::ErrorKind::NotRecoverable) when one of them cannot be taken back, or none can; else as [`prune`].
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
    let now = writer.agreed_time(prune.ctx.clock.now()).await?;
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
    let now = writer.agreed_time(prune.ctx.clock.now()).await?;
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
            format!("take back deletions of shard {}: there is none whose grace is not over", prune.shard);
        return Err(Error::new(ErrorKind::NotRecoverable, message));
    }
    writer.prune_archive(plan).await?;
    let backups = ShardBackups::of(writer.reader()).await?;
    let condemned = condemned_rows(&writer.reader().condemned().await?);
    let votes = votes(prune, &backups, now);
    Ok(PruneReport { undone, condemned, ..PruneReport::planned(prune.shard.clone(), votes) })
}

/// A wrong rule, or a wrong time, shows in how much would go.
fn refuse_many(prune: &Prune<'_>, doomed: usize, all: usize) -> Result<()> {
    if prune.yes_really || doomed * 2 <= all {
        return Ok(());
    }
    let message =
        format!("prune shard {}: {doomed} of its {all} backups would go, more than half", prune.shard);
    Err(Error::refused(message)
        .hint(format!("look at `backstop prune {}`; if that is meant, add --yes-really", prune.shard)))
}

fn condemned_rows(condemned: &[Condemned]) -> Vec<CondemnedBackup> {
    let row = |each: &Condemned| CondemnedBackup {
        backup_id: each.entry.facts.backup_id.clone(),
        deleted_at: each.at,
        until: each.at + OBJECT_GRACE_PERIOD,
    };
    condemned.iter().map(row).collect()
}

/// Drops what no one needs of the archive, and removes the objects of what was dropped before: all by one look at it.
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

/// The pieces of the archive that no backup which stays needs.
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
        if let Storage::Ebs { snapshot_ids, region } = writer.reader().storage_of(entry).await? {
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

/// Proven snapshots that no backup names are good, and may be all that is left of a repository: they are told, never deleted.
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
            "the EBS snapshots {} of run {} are proven, but no backup names them: keep them or delete them in EC2",
            stray.ebs.snapshot_ids.join(", "),
            stray.backup_id
        ));
    }
    Ok(())
}

/// What is damaged pushes nothing out that is whole.
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
    votes
}
