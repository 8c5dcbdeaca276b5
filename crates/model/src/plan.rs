//! The plan of a recovery: decided whole, shown, and only then carried out.

mod backup_timeline;
mod choose_backup;
mod choose_recovery;
mod endings;
mod gtid_purged;
mod latest;
mod replay;
mod resolve_target;
mod steps;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::finding::Finding;
use crate::gtid::GtidSet;
use crate::ids::{BackupId, ShardName};

pub(crate) use backup_timeline::is_on_timeline;

pub use backup_timeline::BackupTimeline;
pub use choose_backup::{BackupRef, ChosenBackup, NotRecoverable, ReachablePoint, choose_backup};
pub use choose_recovery::{RecoveryChoice, RecoveryOutcome, RecoveryQuery};
pub use endings::{EndingFit, NewestPoint, endings_that_fit, preferred_ending};
pub use gtid_purged::{GtidReset, GtidStep, gtid_step};
pub use latest::{LatestAge, newest_backup};
pub use replay::{Replay, ReplayStart};
pub use resolve_target::{Commit, InSegment, RecoveryPoint, Resolution, Unresolvable};
pub use steps::{Ending, PlanRequest, recovery_plan};

/// What a recovery will do (`plan --json`, `recover --plan`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryPlan {
    /// The shard.
    pub shard: ShardName,
    /// The moment that was asked for, as asked.
    pub target: String,
    /// The backup it comes from.
    pub backup_id: BackupId,
    /// The moment of the backup.
    pub taken_at: DateTime<Utc>,
    /// What the server will hold before it joins: what the backup holds, and what is replayed.
    pub gtid_executed: GtidSet,
    /// What is replayed from the archive; `None`: there is no archive, and the backup is the moment.
    pub replay: Option<Replay>,
    /// Why this backup.
    pub why: String,
    /// Bytes of the files that will be written.
    pub data_bytes: u64,
    /// The ending that the steps are for.
    pub ending: Ending,
    /// Which endings fit the moment.
    pub endings: Vec<EndingFit>,
    /// What will be done, in order.
    pub steps: Vec<PlanStep>,
    /// How new `latest` is, if that is the target and there is an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestAge>,
    /// What the plan rests on and is worth knowing before it is carried out. A problem is no refusal: it is planned all the same.
    pub findings: Vec<Finding>,
}

impl RecoveryPlan {
    /// What a recovery says before it begins, each with a mark of how much it matters.
    pub fn notices(&self) -> Vec<String> {
        self.findings.iter().map(Finding::notice).collect()
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanStep {
    /// Its name, as progress and the journal name it.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub what: String,
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod timeline_tests;
