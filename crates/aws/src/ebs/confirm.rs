//! Marks a snapshot as proven after the lock, or deletes it. An unproven one must never be
//! recovered from.

use std::time::Duration;

use backstop_types::ebs_volume::EbsVolume;
use backstop_types::error::{Error, Result};
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};

use super::ec2::{Ec2, ids};
use super::{EbsSnapshotSource, Timeouts, tags};

/// Tags each snapshot with its volume, and then the set as proven.
pub(crate) async fn mark_proven(ec2: &Ec2, source: &EbsSnapshotSource, volumes: &[EbsVolume]) -> Result<()> {
    for volume in volumes {
        let value = tags::tag_value(&volume.to_string());
        tag_new(ec2, source, std::slice::from_ref(&volume.snapshot_id), tags::VOLUME_TAG, &value).await?;
    }
    let set: Vec<_> = volumes.iter().map(|volume| volume.snapshot_id.clone()).collect();
    tag_new(ec2, source, &set, tags::STATE_TAG, tags::PROVEN).await
}

/// Tags new snapshots. EC2 may not find a snapshot yet that it has just created.
async fn tag_new(
    ec2: &Ec2,
    source: &EbsSnapshotSource,
    set: &[String],
    key: &str,
    value: &str,
) -> Result<()> {
    let (clock, timeouts) = (&source.ctx.host.clock, &source.place.timeouts);
    let begun = clock.monotonic();
    loop {
        let error = match ec2.tag(set, key, value).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let passed = clock.monotonic().saturating_sub(begun);
        if passed >= timeouts.listed || !error.message.contains("InvalidSnapshot.NotFound") {
            return Err(error);
        }
        clock.sleep(timeouts.list_poll).await;
    }
}

/// Deletes a set because of a fault. Returns the fault, with the result of the deletion.
pub(crate) async fn delete_after(ec2: &Ec2, set: &[String], error: Error) -> Error {
    let mut left = Vec::new();
    for id in set {
        if let Err(kept) = ec2.delete(id).await {
            left.push(format!("{kept}"));
        }
    }
    let message = match (left.as_slice(), set) {
        ([], []) => format!("{}; no snapshot was created", error.message),
        ([], set) => format!("{}; {} was deleted", error.message, set.join(", ")),
        (left, _) => format!(
            "{}; the rest of the set is tagged {}={}, is never recovered from, and is deleted by the next `backstop prune`: {}",
            error.message,
            tags::STATE_TAG,
            tags::UNPROVEN,
            left.join("; ")
        ),
    };
    Error { message, ..error }
}

/// Searches for snapshots of an attempt with an unknown outcome, for as long as lists may lag, and
/// deletes them.
pub(crate) async fn delete_unknown(
    ec2: &Ec2,
    source: &EbsSnapshotSource,
    run: &BackupId,
    expected: usize,
    error: Error,
) -> Error {
    let (clock, timeouts) = (&source.ctx.host.clock, &source.place.timeouts);
    let begun = clock.monotonic();
    loop {
        let found = ec2.tagged(&[(tags::RUN_TAG, run.as_str())]).await;
        let passed = clock.monotonic().saturating_sub(begun);
        match found {
            Ok(snapshots) if snapshots.len() >= expected || passed >= timeouts.listed => {
                return delete_after(ec2, &ids(&snapshots), error).await;
            }
            Err(unseen) if passed >= timeouts.listed => {
                let message = format!(
                    "{}; a snapshot tagged {}={run} may exist, but could not be listed ({unseen}): it is unproven, is \
                     never recovered from, and is deleted by the next `backstop prune`",
                    error.message,
                    tags::RUN_TAG
                );
                return Error { message, ..error };
            }
            _ => clock.sleep(timeouts.list_poll).await,
        }
    }
}

/// Deletes the shard's unproven snapshots that are too old for their run to be alive. Returns their
/// ids.
pub(crate) async fn delete_dead_runs(
    ec2: &Ec2,
    shard: &ShardName,
    timeouts: &Timeouts,
    now: DateTime<Utc>,
) -> Result<Vec<String>> {
    let unproven =
        ec2.tagged(&[(tags::SHARD_TAG, shard.as_str()), (tags::STATE_TAG, tags::UNPROVEN)]).await?;
    let dead =
        |begun: Option<DateTime<Utc>>| begun.is_some_and(|begun| age(begun, now) >= timeouts.dead_after);
    let dead: Vec<_> = unproven.into_iter().filter(|snapshot| dead(snapshot.begun)).collect();
    let dead = ids(&dead);
    for id in &dead {
        ec2.delete(id).await.map_err(|error| error.during("cannot delete the snapshots of a dead run"))?;
    }
    Ok(dead)
}

fn age(begun: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - begun).to_std().unwrap_or_default()
}
