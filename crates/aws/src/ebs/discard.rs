//! What is done with a snapshot after the lock: proven, or deleted. An unproven one must never be recovered from.

use std::time::Duration;

use backstop_model::fault::{Fault, Result};
use backstop_model::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};

use super::ec2::{Ec2, ids};
use super::{EbsSite, Waits, tags};

/// Marks a set as proven. EC2 may not know a snapshot yet that it has just made.
pub(crate) async fn prove(ec2: &Ec2, site: &EbsSite, set: &[String]) -> Result<()> {
    let (clock, waits) = (&site.world.clock, &site.waits);
    let begun = clock.monotonic();
    loop {
        let fault = match ec2.tag(set, tags::STATE, tags::PROVEN).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        let passed = clock.monotonic().saturating_sub(begun);
        if passed >= waits.listed || !fault.message.contains("InvalidSnapshot.NotFound") {
            return Err(fault);
        }
        clock.sleep(waits.relist).await;
    }
}

/// Deletes a set because of a fault, and tells it with what became of the set.
pub(crate) async fn delete(ec2: &Ec2, set: &[String], fault: Fault) -> Fault {
    let mut left = Vec::new();
    for id in set {
        if let Err(kept) = ec2.delete(id).await {
            left.push(format!("{kept}"));
        }
    }
    let message = match (left.as_slice(), set) {
        ([], []) => format!("{}; no snapshot came of it", fault.message),
        ([], set) => format!("{}; {} was deleted", fault.message, set.join(", ")),
        (left, _) => format!(
            "{}; what is left of it is tagged {}={}, is never recovered from, and goes with the next `backstop prune`: {}",
            fault.message,
            tags::STATE,
            tags::UNPROVEN,
            left.join("; ")
        ),
    };
    Fault { message, ..fault }
}

/// Looks for what an attempt with an unknown outcome has made, as long as lists may lag, and deletes it.
pub(crate) async fn search(
    ec2: &Ec2,
    site: &EbsSite,
    run: &BackupId,
    expected: usize,
    fault: Fault,
) -> Fault {
    let (clock, waits) = (&site.world.clock, &site.waits);
    let begun = clock.monotonic();
    loop {
        let found = ec2.tagged(&[(tags::RUN, run.as_str())]).await;
        let passed = clock.monotonic().saturating_sub(begun);
        match found {
            Ok(shots) if shots.len() >= expected || passed >= waits.listed => {
                return delete(ec2, &ids(&shots), fault).await;
            }
            Err(unseen) if passed >= waits.listed => {
                let message = format!(
                    "{}; whether a snapshot tagged {}={run} was made could not be seen ({unseen}): if so it is unproven, is \
                     never recovered from, and goes with the next `backstop prune`",
                    fault.message,
                    tags::RUN
                );
                return Fault { message, ..fault };
            }
            _ => clock.sleep(waits.relist).await,
        }
    }
}

/// Deletes the shard's unproven snapshots that are too old for their run to be alive. Returns their ids.
pub(crate) async fn clear_dead(
    ec2: &Ec2,
    shard: &ShardName,
    waits: &Waits,
    now: DateTime<Utc>,
) -> Result<Vec<String>> {
    let unproven = ec2.tagged(&[(tags::SHARD, shard.as_str()), (tags::STATE, tags::UNPROVEN)]).await?;
    let dead = |begun: Option<DateTime<Utc>>| begun.is_some_and(|begun| age(begun, now) >= waits.dead);
    let dead: Vec<_> = unproven.into_iter().filter(|shot| dead(shot.begun)).collect();
    let dead = ids(&dead);
    for id in &dead {
        ec2.delete(id).await.map_err(|fault| fault.during("clear what a dead run left"))?;
    }
    Ok(dead)
}

fn age(begun: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - begun).to_std().unwrap_or_default()
}
