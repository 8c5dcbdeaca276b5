//! The EBS snapshots of all shards: their live state, their deletion, and what their tags say.

use std::collections::BTreeMap;

use async_trait::async_trait;
use backstop_engine::ports::VolumeSnapshots;
use backstop_engine::world::World;
use backstop_model::fault::Result;
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::report::{EbsSnapshots, TaggedBackup, VolumeState};
use chrono::{DateTime, Utc};

use super::ec2::{Ec2, Shot, ids};
use super::{Waits, discard, state, tags};
use crate::connect::Aws;

/// As many values one filter of EC2's may have.
const FILTERED: usize = 200;

/// The EBS snapshots of an account.
pub struct EbsShelf {
    aws: Aws,
    waits: Waits,
    world: World,
}

impl EbsShelf {
    /// Those that this access reaches; its region is where snapshots are looked for by tag.
    pub fn new(aws: Aws, waits: Waits, world: World) -> Self {
        Self { aws, waits, world }
    }

    fn ec2(&self, region: &str) -> Ec2 {
        if region == self.aws.region() { Ec2::new(&self.aws) } else { Ec2::new(&self.aws.in_region(region)) }
    }
}

#[async_trait]
impl VolumeSnapshots for EbsShelf {
    async fn state(&self, snapshot_ids: &[String], region: &str) -> Result<VolumeState> {
        Ok(state(snapshot_ids, &self.ec2(region).described(snapshot_ids).await?))
    }

    async fn states(&self, sets: &[Vec<String>], region: &str) -> Result<Vec<VolumeState>> {
        let (ec2, ids) = (self.ec2(region), sets.concat());
        let mut shots = Vec::new();
        for some in ids.chunks(FILTERED) {
            shots.extend(ec2.described(some).await?);
        }
        Ok(sets.iter().map(|set| state(set, &shots)).collect())
    }

    async fn delete(&self, snapshot_ids: &[String], region: &str) -> Result<()> {
        let ec2 = self.ec2(region);
        for id in snapshot_ids {
            ec2.delete(id).await?;
        }
        Ok(())
    }

    async fn clear_dead_runs(&self, shard: &ShardName) -> Result<Vec<String>> {
        let now = self.world.clock.now();
        discard::clear_dead(&Ec2::new(&self.aws), shard, &self.waits, now).await
    }

    async fn tagged(&self, shard: &ShardName) -> Result<Vec<TaggedBackup>> {
        let proven = [(tags::SHARD, shard.as_str()), (tags::STATE, tags::PROVEN)];
        let shots = Ec2::new(&self.aws).tagged(&proven).await?;
        let mut sets: BTreeMap<BackupId, Vec<Shot>> = BTreeMap::new();
        for shot in shots {
            if let Some(run) = shot.tags.get(tags::RUN).and_then(|run| run.parse().ok()) {
                sets.entry(run).or_default().push(shot);
            }
        }
        let backups = sets.into_iter().rev();
        Ok(backups.filter_map(|(run, shots)| tagged(run, &shots, self.aws.region())).collect())
    }
}

/// A set that lacks a snapshot is no backup.
pub(super) fn tagged(run: BackupId, shots: &[Shot], region: &str) -> Option<TaggedBackup> {
    let first = shots.first()?;
    let tag = |key: &str| first.tags.get(key).cloned().unwrap_or_default();
    if tag(tags::SET).parse() != Ok(shots.len()) {
        return None;
    }
    let snapshot_ids = ids(shots);
    Some(TaggedBackup {
        taken_at: shots.iter().filter_map(|shot| shot.begun).min().unwrap_or(DateTime::<Utc>::MIN_UTC),
        source: tag(tags::SOURCE),
        cluster_name: tag(tags::CLUSTER),
        gtid: tag(tags::GTID),
        ebs: EbsSnapshots {
            region: region.to_owned(),
            state: Some(state(&snapshot_ids, shots)),
            snapshot_ids,
        },
        backup_id: run,
    })
}
