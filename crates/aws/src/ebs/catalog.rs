//! EBS snapshots of all shards: live state, deletion, and the contents of their tags.

use std::collections::BTreeMap;

use async_trait::async_trait;
use backstop_engine::context::RunContext;
use backstop_engine::ports::VolumeSnapshots;
use backstop_engine::report::{EbsSnapshots, TaggedBackup};
use backstop_types::backup::VolumeState;
use backstop_types::completion::CompletionOutcome;
use backstop_types::error::Result;
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};

use super::ec2::{EbsSnapshot, Ec2, ids};
use super::{Timeouts, confirm, set_state, tags};
use crate::client::AwsClient;

/// Largest number of values in one EC2 filter.
const MAX_FILTER_VALUES: usize = 200;

/// EBS snapshots of an account.
pub struct EbsCatalog {
    aws: AwsClient,
    timeouts: Timeouts,
    ctx: RunContext,
}

impl EbsCatalog {
    /// Returns the catalog of this account; the region of `aws` is searched for tags.
    pub fn new(aws: AwsClient, timeouts: Timeouts, ctx: RunContext) -> Self {
        Self { aws, timeouts, ctx }
    }

    fn ec2(&self, region: &str) -> Ec2 {
        if region == self.aws.region() { Ec2::new(&self.aws) } else { Ec2::new(&self.aws.in_region(region)) }
    }
}

#[async_trait]
impl VolumeSnapshots for EbsCatalog {
    async fn state(&self, snapshot_ids: &[String], region: &str) -> Result<VolumeState> {
        Ok(set_state(snapshot_ids, &self.ec2(region).described(snapshot_ids).await?))
    }

    async fn states(&self, sets: &[Vec<String>], region: &str) -> Result<Vec<VolumeState>> {
        let (ec2, ids) = (self.ec2(region), sets.concat());
        let mut snapshots = Vec::new();
        for some in ids.chunks(MAX_FILTER_VALUES) {
            snapshots.extend(ec2.described(some).await?);
        }
        Ok(sets.iter().map(|set| set_state(set, &snapshots)).collect())
    }

    async fn delete(&self, snapshot_ids: &[String], region: &str) -> Result<()> {
        let ec2 = self.ec2(region);
        for id in snapshot_ids {
            ec2.delete(id).await?;
        }
        Ok(())
    }

    async fn clear_dead_runs(&self, shard: &ShardName) -> Result<Vec<String>> {
        let now = self.ctx.host.clock.now();
        confirm::delete_dead_runs(&Ec2::new(&self.aws), shard, &self.timeouts, now).await
    }

    async fn mark_completion(
        &self,
        snapshot_ids: &[String],
        region: &str,
        outcome: CompletionOutcome,
    ) -> Result<()> {
        match self.ec2(region).tag(snapshot_ids, tags::COMPLETION_TAG, outcome.name()).await {
            Err(error) if error.message.contains("InvalidSnapshot.NotFound") => Ok(()),
            tagged => tagged,
        }
    }

    async fn tagged(&self, shard: &ShardName) -> Result<Vec<TaggedBackup>> {
        let proven = [(tags::SHARD_TAG, shard.as_str()), (tags::STATE_TAG, tags::PROVEN)];
        let snapshots = Ec2::new(&self.aws).tagged(&proven).await?;
        let mut sets: BTreeMap<BackupId, Vec<EbsSnapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            if let Some(run) = snapshot.tags.get(tags::RUN_TAG).and_then(|run| run.parse().ok()) {
                sets.entry(run).or_default().push(snapshot);
            }
        }
        let backups = sets.into_iter().rev();
        Ok(backups.filter_map(|(run, snapshots)| tagged(run, &snapshots, self.aws.region())).collect())
    }
}

/// Returns the backup of a complete set; a set that lacks a snapshot is not a backup.
pub(super) fn tagged(run: BackupId, snapshots: &[EbsSnapshot], region: &str) -> Option<TaggedBackup> {
    let first = snapshots.first()?;
    let tag = |key: &str| first.tags.get(key).cloned().unwrap_or_default();
    if tag(tags::SET_SIZE_TAG).parse() != Ok(snapshots.len()) {
        return None;
    }
    let snapshot_ids = ids(snapshots);
    Some(TaggedBackup {
        taken_at: snapshots
            .iter()
            .filter_map(|snapshot| snapshot.begun)
            .min()
            .unwrap_or(DateTime::<Utc>::MIN_UTC),
        source: tag(tags::SOURCE_TAG),
        cluster_name: tag(tags::CLUSTER_TAG),
        gtid: tag(tags::GTID_TAG),
        ebs: EbsSnapshots {
            region: region.to_owned(),
            state: Some(set_state(&snapshot_ids, snapshots)),
            snapshot_ids,
        },
        backup_id: run,
    })
}
