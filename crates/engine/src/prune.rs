//! Prune: deletes what retention no longer wants. The plan comes first; nothing is deleted but what it names.
//!
//! A backup in EBS is first taken from the list. When its grace is over its EBS snapshots are deleted, and only then its
//! manifest, which is what names them: after a kill in between the next prune goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_model::archive::Archive;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::forget::forgotten;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::plan::Known;
use backstop_model::report::{ArchivePruned, CondemnedBackup, PruneReport};
use backstop_model::retention::{Retention, Vote, decide};
use backstop_model::settings::ProviderWish;
use backstop_repo::{CatalogEntry, Condemned, Repository, Storage, SweepPlan, Writer};
use chrono::{DateTime, Utc};

use crate::plan::known;
use crate::ports::VolumeSnapshots;
use crate::sound::Backups;
use crate::world::World;

/// A deleted backup's objects stay for so long, for a recovery that is reading them right now.
pub const GRACE: Duration = Duration::from_secs(3600);

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
    /// What takes its snapshots: with [`ProviderWish::Ebs`], what dead runs left in EC2 goes too.
    pub provider: ProviderWish,
    /// Time, reporter, stop.
    pub world: &'a World,
}

/// What would be deleted, and why each backup is kept or not. Reads only.
///
/// # Errors
/// As [`backstop_repo::Reader::catalog`].
pub async fn plan(p: &Prune<'_>) -> Result<PruneReport> {
    let now = p.world.clock.now();
    let reader = p.repository.reader(p.shard);
    let backups = p.world.unless_stopped(Backups::of(&reader)).await?;
    let votes = votes(p, &backups, now);
    let contents = p.world.unless_stopped(p.repository.archive(p.shard).contents()).await?;
    let archive = ArchivePruned::new(&contents, &nobody_needs(p, &backups.catalog, &votes, &contents, now));
    let condemned = rows(&p.world.unless_stopped(reader.condemned()).await?);
    Ok(PruneReport { archive, condemned, ..PruneReport::planned(p.shard.clone(), votes) })
}

/// Deletes under the shard's claim. The plan is made again there, since backups may have come and gone, and by the store's clock.
///
/// # Errors
/// [`Kind::Held`](backstop_model::fault::Kind::Held) when another run holds the shard;
/// [`Kind::Refused`](backstop_model::fault::Kind::Refused) when this host's clock is off, or more than half of the backups would go.
/// After a fault the next prune continues: a backup is first taken from the list, and its objects are removed later.
pub async fn prune(p: &Prune<'_>) -> Result<PruneReport> {
    let mut writer = claim(p).await?;
    let outcome = p.world.unless_stopped(story(p, &mut writer)).await;
    release(p, writer, outcome).await
}

/// Takes back the deletion of these backups, or of all whose grace is not over, and what was dropped of the archive since.
///
/// # Errors
/// [`Kind::NotRecoverable`](backstop_model::fault::Kind::NotRecoverable) when one of them cannot be taken back, or none can; else as [`prune`].
pub async fn undo(p: &Prune<'_>, ids: &[BackupId]) -> Result<PruneReport> {
    let mut writer = claim(p).await?;
    let outcome = p.world.unless_stopped(take_back(p, ids, &mut writer)).await;
    release(p, writer, outcome).await
}

async fn claim(p: &Prune<'_>) -> Result<Writer> {
    p.world.unless_stopped(p.world.step("claim", p.repository.claim(p.shard, "prune"))).await
}

async fn release(p: &Prune<'_>, writer: Writer, outcome: Result<PruneReport>) -> Result<PruneReport> {
    let released = p.world.step("release", writer.release()).await;
    let report = outcome?;
    released.map(|()| report)
}

async fn story(p: &Prune<'_>, writer: &mut Writer) -> Result<PruneReport> {
    let now = writer.agreed_time(p.world.clock.now()).await?;
    let backups = Backups::of(writer.reader()).await?;
    let votes = votes(p, &backups, now);
    let doomed: Vec<BackupId> =
        votes.iter().filter(|vote| vote.is_delete()).map(|vote| vote.id.clone()).collect();
    refuse_many(p, doomed.len(), votes.len())?;
    if !doomed.is_empty() {
        p.world.step("condemn", writer.condemn(&doomed, now)).await?;
    }
    let plan = writer.sweep_plan(now, GRACE).await?;
    let removed_snapshots = volumes(p, writer, &plan).await?;
    let swept = p.world.step("sweep", writer.sweep(plan)).await?;
    let archive = prune_archive(p, writer, &backups.catalog, &votes, now);
    let (archive, objects, bytes) = p.world.step("archive", archive).await?;
    let report =
        PruneReport::planned(p.shard.clone(), votes).applied(swept.objects + objects, swept.bytes + bytes);
    let condemned = rows(&writer.reader().condemned().await?);
    Ok(PruneReport { removed_snapshots, archive, condemned, ..report })
}

async fn take_back(p: &Prune<'_>, ids: &[BackupId], writer: &mut Writer) -> Result<PruneReport> {
    let now = writer.agreed_time(p.world.clock.now()).await?;
    let young = |each: &&Condemned| (now - each.at).to_std().map_or(true, |age| age < GRACE);
    let condemned = writer.reader().condemned().await?;
    let undone: Vec<BackupId> = match ids {
        [] => condemned.iter().filter(young).map(|each| each.entry.facts.backup_id.clone()).collect(),
        ids => ids.to_vec(),
    };
    writer.undo(&undone, now, GRACE).await?;
    let plan = writer.archive_view().await?.undo_plan(now, GRACE);
    if undone.is_empty() && plan.segments.is_empty() {
        let message =
            format!("take back deletions of shard {}: there is none whose grace is not over", p.shard);
        return Err(Fault::new(Kind::NotRecoverable, message));
    }
    writer.prune_archive(plan).await?;
    let backups = Backups::of(writer.reader()).await?;
    let condemned = rows(&writer.reader().condemned().await?);
    let votes = votes(p, &backups, now);
    Ok(PruneReport { undone, condemned, ..PruneReport::planned(p.shard.clone(), votes) })
}

/// A wrong rule, or a wrong time, shows in how much would go.
fn refuse_many(p: &Prune<'_>, doomed: usize, all: usize) -> Result<()> {
    if p.yes_really || doomed * 2 <= all {
        return Ok(());
    }
    let message = format!("prune shard {}: {doomed} of its {all} backups would go, more than half", p.shard);
    Err(Fault::refused(message)
        .hint(format!("look at `backstop prune {}`; if that is meant, add --yes-really", p.shard)))
}

fn rows(condemned: &[Condemned]) -> Vec<CondemnedBackup> {
    let row = |each: &Condemned| CondemnedBackup {
        backup_id: each.entry.facts.backup_id.clone(),
        deleted_at: each.at,
        until: each.at + GRACE,
    };
    condemned.iter().map(row).collect()
}

/// Drops what no one needs of the archive, and removes the objects of what was dropped before: all by one look at it.
async fn prune_archive(
    p: &Prune<'_>,
    writer: &Writer,
    catalog: &[CatalogEntry],
    votes: &[Vote],
    now: DateTime<Utc>,
) -> Result<(ArchivePruned, u64, u64)> {
    let view = writer.archive_view().await?;
    let forgotten = nobody_needs(p, catalog, votes, view.archive(), now);
    let pruned = ArchivePruned::new(view.archive(), &forgotten);
    let plan = view.plan(&forgotten, now, GRACE);
    let (objects, bytes) = (plan.objects.len() as u64, plan.bytes());
    writer.prune_archive(plan).await?;
    Ok((pruned, objects, bytes))
}

/// The pieces of the archive that no backup which stays needs.
fn nobody_needs(
    p: &Prune<'_>,
    catalog: &[CatalogEntry],
    votes: &[Vote],
    archive: &Archive,
    now: DateTime<Utc>,
) -> BTreeSet<u64> {
    let stays = |known: &Known| !votes.iter().any(|vote| vote.is_delete() && vote.id == known.backup_id);
    let kept: Vec<Known> = catalog.iter().map(known).filter(stays).collect();
    forgotten(p.retention.and_then(|rules| rules.binlogs), archive, &kept, now)
}

/// Deletes the EBS snapshots of the backups that the plan forgets, and those of dead runs.
async fn volumes(p: &Prune<'_>, writer: &Writer, plan: &SweepPlan) -> Result<Vec<String>> {
    let condemned = writer.reader().condemned().await?;
    let over =
        condemned.iter().map(|condemned| &condemned.entry).filter(|entry| entry.facts.lineage.is_ebs());
    let mut removed = Vec::new();
    for entry in over.filter(|entry| plan.backups.contains(&entry.facts.backup_id)) {
        if let Storage::Ebs { snapshot_ids, region } = writer.reader().storage_of(entry).await? {
            p.world.step("volumes", p.volumes.delete(&snapshot_ids, &region)).await?;
            removed.extend(snapshot_ids);
        }
    }
    if p.provider == ProviderWish::Ebs {
        removed.extend(p.world.step("clear", p.volumes.clear_dead_runs(p.shard)).await?);
        tell_strays(p, writer, &condemned).await?;
    }
    Ok(removed)
}

/// Proven snapshots that no backup names are good, and may be all that is left of a repository: they are told, never deleted.
async fn tell_strays(p: &Prune<'_>, writer: &Writer, condemned: &[Condemned]) -> Result<()> {
    let catalog = writer.reader().catalog().await?;
    let named = catalog.iter().chain(condemned.iter().map(|condemned| &condemned.entry));
    let named: BTreeSet<_> = named.map(|entry| &entry.facts.backup_id).collect();
    for stray in p.volumes.tagged(p.shard).await?.iter().filter(|tagged| !named.contains(&tagged.backup_id)) {
        p.world.reporter.notice(&format!(
            "the EBS snapshots {} of run {} are proven, but no backup names them: keep them or delete them in EC2",
            stray.ebs.snapshot_ids.join(", "),
            stray.backup_id
        ));
    }
    Ok(())
}

/// What is damaged pushes nothing out that is whole.
fn votes(p: &Prune<'_>, backups: &Backups, now: DateTime<Utc>) -> Vec<Vote> {
    let judge = |entries: &mut dyn Iterator<Item = &CatalogEntry>| {
        let moments: Vec<_> =
            entries.map(|entry| (entry.facts.backup_id.clone(), entry.facts.taken_at)).collect();
        decide(p.retention, &moments, now)
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
