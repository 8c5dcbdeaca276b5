//! Outcome of a backup: a backup, or an occasion that was skipped.

use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::BackupReport;

/// Outcome of `backup`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum BackupOutcome {
    /// A backup was made, or had been made for the same occasion.
    Made(Box<BackupReport>),
    /// The scheduled occasion was skipped.
    Skipped(SkippedBackup),
}

impl BackupOutcome {
    /// Returns the backup.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`](backstop_types::error::ErrorKind::Held) if the occasion was
    /// skipped.
    pub fn made(self) -> Result<BackupReport> {
        match self {
            Self::Made(report) => Ok(*report),
            Self::Skipped(skipped) => Err(Error::new(ErrorKind::Held, skipped.reason)
                .hint("repeat it when EC2 has completed that backup")),
        }
    }

    /// Describes it in a few words, for the record of the run.
    pub fn summary(&self) -> String {
        match self {
            Self::Made(report) => format!("backup {}", report.backup_id),
            Self::Skipped(skipped) => format!("skipped: {}", skipped.reason),
        }
    }
}

/// A scheduled occasion without a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedBackup {
    /// The shard.
    pub shard: ShardName,
    /// The earlier backup whose snapshots EC2 has not completed.
    pub pending: BackupId,
    /// The moment of its snapshot.
    pub pending_since: DateTime<Utc>,
    /// The reason, in words.
    #[serde(rename = "skipped")]
    pub reason: String,
}
