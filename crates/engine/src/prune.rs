//! Prune: deletes what retention no longer wants. The plan comes first; nothing is deleted but what it names.
//!
//! A backup in EBS is first taken from the list. When its grace is over its EBS snapshots are deleted, and only then its
//! manifest, which is what names them: after a kill in between the next prune goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_model::archive::Archive;
use backstop_model::fault::Result;
use backstop_model::forget::forgotten;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::plan::Known;
use backstop_model::report::{ArchivePruned, PruneReport};
use backstop_model::retention::{Retention, Vote, decide};
use backstop_model::settings::ProviderWish;
use backstop_repo::{CatalogEntry, Condemned, Repository, Storage, SweepPlan, Writer};

use crate::plan::known;
use crate::ports::VolumeSnapshots;
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
    let catalog = p.world.unless_stopped(p.repository.reader(p.shard).catalog()).await?;
    let votes = votes(p, &catalog);
    let contents = p.world.unless_stopped(p.repository.archive(p.shard).contents()).await?;
    let archive = ArchivePruned::new(&contents, &nobody_needs(p, &catalog, &votes, &contents));
    Ok(PruneReport { archive, ..PruneReport::planned(p.shard.clone(), votes) })
}

/// Deletes under the shard's claim. The plan is made anew there, since backups may have come and gone.
///
/// # Errors
/// [`Kind::Held`](backstop_model::fault::Kind::Held) when another run holds the shard. After a fault the next
/// prune goes on: a backup is first taken from the list, and its objects are removed later.
pub async fn prune(p: &Prune<'_>) -> Result<PruneReport> {
    let claim = p.world.step("claim", p.repository.claim(p.shard, "prune"));
    let mut writer = p.world.unless_stopped(claim).await?;
    let outcome = p.world.unless_stopped(story(p, &mut writer)).await;
    let released = p.world.step("release", writer.release()).await;
    let report = outcome?;
    released.map(|()| report)
}

async fn story(p: &Prune<'_>, writer: &mut Writer) -> Result<PruneReport> {
    let catalog = writer.reader().catalog().await?;
    let votes = votes(p, &catalog);
    let doomed: Vec<BackupId> =
        votes.iter().filter(|vote| vote.is_delete()).map(|vote| vote.id.clone()).collect();
    if !doomed.is_empty() {
        p.world.step("condemn", writer.condemn(&doomed, p.world.clock.now())).await?;
    }
    let plan = writer.sweep_plan(p.world.clock.now(), GRACE).await?;
    let removed_snapshots = volumes(p, writer, &plan).await?;
    let swept = p.world.step("sweep", writer.sweep(plan)).await?;
    let forgotten = nobody_needs(p, &catalog, &votes, &archive_contents(p).await?);
    let (archive, objects, bytes) = p.world.step("archive", prune_archive(p, writer, &forgotten)).await?;
    let report =
        PruneReport::planned(p.shard.clone(), votes).applied(swept.objects + objects, swept.bytes + bytes);
    Ok(PruneReport { removed_snapshots, archive, ..report })
}

async fn archive_contents(p: &Prune<'_>) -> Result<Archive> {
    p.repository.archive(p.shard).contents().await
}

/// Drops what nobody needs of the archive, and removes the objects of what was dropped before.
async fn prune_archive(
    p: &Prune<'_>,
    writer: &Writer,
    forgotten: &BTreeSet<u64>,
) -> Result<(ArchivePruned, u64, u64)> {
    let pruned = ArchivePruned::new(&archive_contents(p).await?, forgotten);
    let plan = writer.archive_prune_plan(forgotten, p.world.clock.now(), GRACE).await?;
    let (objects, bytes) = (plan.objects.len() as u64, plan.bytes());
    writer.prune_archive(plan).await?;
    Ok((pruned, objects, bytes))
}

/// The pieces of the archive that no backup which stays needs.
fn nobody_needs(p: &Prune<'_>, catalog: &[CatalogEntry], votes: &[Vote], archive: &Archive) -> BTreeSet<u64> {
    let stays = |known: &Known| !votes.iter().any(|vote| vote.is_delete() && vote.id == known.backup_id);
    let kept: Vec<Known> = catalog.iter().map(known).filter(stays).collect();
    forgotten(p.retention.and_then(|rules| rules.binlogs), archive, &kept, p.world.clock.now())
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

fn votes(p: &Prune<'_>, catalog: &[CatalogEntry]) -> Vec<Vote> {
    let backups: Vec<_> =
        catalog.iter().map(|entry| (entry.facts.backup_id.clone(), entry.facts.taken_at)).collect();
    decide(p.retention, &backups, p.world.clock.now())
}
