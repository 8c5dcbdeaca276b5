//! Plan of a recovery: decided completely, shown, and only then carried out.

mod backup_timeline;
mod choose_backup;
mod choose_recovery;
mod endings;
mod gtid_purged;
mod latest;
mod replay;
mod resolve_target;
mod steps;

use backstop_types::finding::Finding;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};
use serde::Serialize;

pub(crate) use backup_timeline::is_on_timeline;

pub use choose_backup::{ChosenBackup, NotRecoverable, ReachablePoint, choose_backup};
pub use choose_recovery::{RecoveryChoice, RecoveryOutcome, RecoveryQuery};
pub use endings::{EndingFit, NewestPoint, endings_that_fit, preferred_ending};
pub use gtid_purged::{GtidReset, GtidStep, gtid_step};
pub use latest::{LatestAge, newest_backup};
pub use replay::{Replay, ReplayStart};
pub use resolve_target::{InSegment, RecoveryPoint, Resolution, Unresolvable};
pub use steps::{Ending, PlanRequest, recovery_plan};

/// Plan of a recovery (`plan --json`, `recover --plan`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryPlan {
    /// The shard.
    pub shard: ShardName,
    /// The target as the operator gave it.
    pub target: String,
    /// The backup to restore.
    pub backup_id: BackupId,
    /// The moment of the backup.
    pub taken_at: DateTime<Utc>,
    /// The server's GTIDs before it joins: those of the backup and those replayed.
    pub gtid_executed: GtidSet,
    /// The replay from the archive; `None`: there is no archive, and the backup is the recovery
    /// point.
    pub replay: Option<Replay>,
    /// Reason for choosing this backup.
    pub why: String,
    /// Bytes of the files that will be written.
    pub data_bytes: u64,
    /// The ending for which the steps are.
    pub ending: Ending,
    /// The endings, and whether each is possible.
    pub endings: Vec<EndingFit>,
    /// The steps, in order.
    pub steps: Vec<PlanStep>,
    /// Age of `latest`, if it is the target and there is an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestAge>,
    /// Findings to know before the plan is carried out. A problem among them does not refuse the
    /// plan.
    pub findings: Vec<Finding>,
}

impl RecoveryPlan {
    /// Returns the notices printed before a recovery, each marked with its severity.
    pub fn notices(&self) -> Vec<String> {
        self.findings.iter().map(Finding::notice).collect()
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanStep {
    /// Its name in progress output and in the journal.
    pub name: &'static str,
    /// Its description, in a sentence.
    pub what: String,
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod timeline_tests;
