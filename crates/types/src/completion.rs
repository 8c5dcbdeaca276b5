//! The end of a backup whose data EC2 stores in the background: it is complete, or it failed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::BackupId;

/// Record of the end of one backup in EBS snapshots. Written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The backup.
    pub backup_id: BackupId,
    /// Its end.
    pub outcome: CompletionOutcome,
    /// The snapshots that were checked.
    pub snapshot_ids: Vec<String>,
    /// Time of the check.
    pub at: DateTime<Utc>,
}

/// End of a set of EBS snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompletionOutcome {
    /// EC2 has stored all blocks of all snapshots.
    Completed,
    /// At least one snapshot ended in an error: the backup cannot be recovered.
    Failed,
}

impl CompletionOutcome {
    /// Returns the value of the tag `Backstop-Completion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}
