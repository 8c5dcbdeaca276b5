//! Prune: deletes what retention no longer wants. The plan comes first; nothing is deleted but what it names.
//!
//! A backup in EBS is first taken from the list. When its grace is over its EBS snapshots are deleted, and only then its
//! manifest, which is what names them: after a kill in between the next prune goes on.

use std::time::Duration;

use backstop_model::fault::Result;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::report::PruneReport;
use backstop_model::retention::{Retention, Vote, decide};
use backstop_model::settings::ProviderWish;
use backstop_repo::{CatalogEntry, Repository, Storage, SweepPlan, Writer};

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
    Ok(PruneReport::planned(p.shard.clone(), votes(p, &catalog)))
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
    let votes = votes(p, &writer.reader().catalog().await?);
    let doomed: Vec<BackupId> =
        votes.iter().filter(|vote| vote.is_delete()).map(|vote| vote.id.clone()).collect();
    if !doomed.is_empty() {
        p.world.step("condemn", writer.condemn(&doomed, p.world.clock.now())).await?;
    }
    let plan = writer.sweep_plan(p.world.clock.now(), GRACE).await?;
    let removed_snapshots = volumes(p, writer, &plan).await?;
    let swept = p.world.step("sweep", writer.sweep(plan)).await?;
    let report = PruneReport::planned(p.shard.clone(), votes).applied(swept.objects, swept.bytes);
    Ok(PruneReport { removed_snapshots, ..report })
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
    }
    Ok(removed)
}

fn votes(p: &Prune<'_>, catalog: &[CatalogEntry]) -> Vec<Vote> {
    let backups: Vec<_> =
        catalog.iter().map(|entry| (entry.facts.backup_id.clone(), entry.facts.taken_at)).collect();
    decide(p.retention, &backups, p.world.clock.now())
}
