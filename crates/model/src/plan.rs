//! The plan of a recovery: decided whole, shown, and only then carried out.

mod choose;
mod gtids;
mod steps;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::gtid::GtidSet;
use crate::ids::{BackupId, ShardName};

pub use choose::{Chosen, Known, NotRecoverable, Reachable, choose_backup};
pub use gtids::{GtidStep, gtid_step};
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
    /// The moment it recovers to: that of the backup.
    pub taken_at: DateTime<Utc>,
    /// What the server will hold before it joins.
    pub gtid_executed: GtidSet,
    /// Why this backup.
    pub why: String,
    /// Bytes of the files that will be written.
    pub data_bytes: u64,
    /// What will be done, in order.
    pub steps: Vec<PlanStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanStep {
    /// Its name, as progress and the journal name it.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub what: String,
}
