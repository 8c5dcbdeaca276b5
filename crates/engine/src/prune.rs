//! Prune: deletes what retention no longer wants. The plan comes first; nothing is deleted but what it names.

use std::time::Duration;

use backstop_model::fault::Result;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::report::PruneReport;
use backstop_model::retention::{Retention, Vote, decide};
use backstop_repo::{CatalogEntry, Repository, Swept, Writer};

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
    let swept = p.world.step("sweep", sweep(p, writer)).await?;
    Ok(PruneReport::planned(p.shard.clone(), votes).applied(swept.objects, swept.bytes))
}

async fn sweep(p: &Prune<'_>, writer: &mut Writer) -> Result<Swept> {
    let plan = writer.sweep_plan(p.world.clock.now(), GRACE).await?;
    writer.sweep(plan).await
}

fn votes(p: &Prune<'_>, catalog: &[CatalogEntry]) -> Vec<Vote> {
    let backups: Vec<_> =
        catalog.iter().map(|entry| (entry.facts.backup_id.clone(), entry.facts.taken_at)).collect();
    decide(p.retention, &backups, p.world.clock.now())
}
