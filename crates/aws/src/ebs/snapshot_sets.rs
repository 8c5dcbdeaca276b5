//! Sets of snapshots of any shard of the account, found by their ids or by their tags: for the
//! events of their ends.

use std::collections::BTreeMap;

use backstop_types::backup::VolumeState;
use backstop_types::error::Result;
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};

use super::ec2::{EbsSnapshot, Ec2, ids};
use super::{set_state, tags};
use crate::client::AwsClient;

/// All snapshots of one backup, as their tags describe them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSet {
    /// The backup.
    pub backup_id: BackupId,
    /// Its shard.
    pub shard: ShardName,
    /// Start of its first snapshot, by EC2's clock.
    pub begun: Option<DateTime<Utc>>,
    /// URL of the repository that lists it, if the tag is there.
    pub repository: Option<String>,
    /// Secrets Manager's entry of the shard, if the tag is there.
    pub secret: Option<String>,
    /// Its snapshots.
    pub snapshot_ids: Vec<String>,
    /// Their state.
    pub state: VolumeState,
    /// Their progress.
    pub standing: SetStanding,
}

/// Progress of a set from its creation to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetStanding {
    /// EC2 does not list all of its snapshots yet, or any more.
    Partial,
    /// The lock is not proven yet: it may be deleted instead.
    Unproven,
    /// Proven, and its end is not marked.
    Open,
    /// Its end is marked.
    Ended,
}

/// Snapshots of a region of the account.
pub struct SnapshotSets {
    ec2: Ec2,
}

impl SnapshotSets {
    /// Returns the snapshots in the region of `aws`.
    pub fn new(aws: &AwsClient) -> Self {
        Self { ec2: Ec2::new(aws) }
    }

    /// Returns the region.
    pub fn region(&self) -> &str {
        &self.ec2.region
    }

    /// Returns the sets that these snapshots belong to. Snapshots that are gone, or that are not
    /// Backstop's, belong to none.
    ///
    /// # Errors
    /// Returns EC2's error.
    pub async fn of(&self, snapshot_ids: &[String]) -> Result<Vec<SnapshotSet>> {
        let mut sets = Vec::new();
        for (run, shard) in owners(&self.ec2.described(snapshot_ids).await?) {
            let of_run = [(tags::RUN_TAG, run.as_str()), (tags::SHARD_TAG, shard.as_str())];
            let snapshots = self.ec2.tagged(&of_run).await?;
            sets.extend(set(run, shard, &snapshots));
        }
        Ok(sets)
    }

    /// Returns the proven sets whose end is not marked, oldest first.
    ///
    /// # Errors
    /// Returns EC2's error.
    pub async fn open(&self) -> Result<Vec<SnapshotSet>> {
        let mut by_owner: BTreeMap<_, Vec<EbsSnapshot>> = BTreeMap::new();
        for snapshot in self.ec2.tagged(&[(tags::STATE_TAG, tags::PROVEN)]).await? {
            if let Some(owner) = owner(&snapshot) {
                by_owner.entry(owner).or_default().push(snapshot);
            }
        }
        let sets = by_owner.into_iter().filter_map(|((run, shard), snapshots)| set(run, shard, &snapshots));
        Ok(sets.filter(|set| set.standing == SetStanding::Open).collect())
    }
}

fn owners(snapshots: &[EbsSnapshot]) -> std::collections::BTreeSet<(BackupId, ShardName)> {
    snapshots.iter().filter_map(owner).collect()
}

/// Returns the backup and the shard of a snapshot; `None` for one that is not Backstop's.
fn owner(snapshot: &EbsSnapshot) -> Option<(BackupId, ShardName)> {
    let run = snapshot.tags.get(tags::RUN_TAG)?.parse().ok()?;
    let shard = snapshot.tags.get(tags::SHARD_TAG)?.parse().ok()?;
    Some((run, shard))
}

fn set(backup_id: BackupId, shard: ShardName, snapshots: &[EbsSnapshot]) -> Option<SnapshotSet> {
    let first = snapshots.first()?;
    let all = |key: &str, value: &str| {
        snapshots.iter().all(|snapshot| snapshot.tags.get(key).is_some_and(|tag| tag == value))
    };
    let size = first.tags.get(tags::SET_SIZE_TAG).and_then(|size| size.parse().ok());
    let ended = snapshots.iter().all(|snapshot| snapshot.tags.contains_key(tags::COMPLETION_TAG));
    let standing = match () {
        () if size != Some(snapshots.len()) => SetStanding::Partial,
        () if !all(tags::STATE_TAG, tags::PROVEN) => SetStanding::Unproven,
        () if ended => SetStanding::Ended,
        () => SetStanding::Open,
    };
    let snapshot_ids = ids(snapshots);
    Some(SnapshotSet {
        backup_id,
        shard,
        begun: snapshots.iter().filter_map(|snapshot| snapshot.begun).min(),
        repository: first.tags.get(tags::REPOSITORY_TAG).cloned(),
        secret: first.tags.get(tags::SECRET_TAG).cloned(),
        state: set_state(&snapshot_ids, snapshots),
        snapshot_ids,
        standing,
    })
}
