//! What commands report: one value that people, JSON and logs are all drawn from.
//!
//! Field names are a contract (`docs/commands.md`); new fields may be added, none renamed.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::backup::{BackupKind, Sizes, Source};
use crate::finding::Finding;
use crate::freeze::FreezeReport;
use crate::gtid::GtidSet;
use crate::ids::{BackupId, ShardName};

/// `backup --json`, and each row of `backups --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupReport {
    /// Its id.
    pub backup_id: BackupId,
    /// The shard.
    pub shard: ShardName,
    /// What started it.
    pub kind: BackupKind,
    /// The instance it was taken from.
    pub source: Source,
    /// Why that instance, and why not the others.
    pub source_reason: String,
    /// What it holds.
    pub gtid_executed: GtidSet,
    /// How the freeze went.
    pub freeze: FreezeReport,
    /// The backup it builds on; `None` for a full one.
    pub parent: Option<BackupId>,
    /// How much data it is and cost.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// The moment of the snapshot.
    pub taken_at: DateTime<Utc>,
    /// Duration of the run.
    pub seconds: f64,
}

/// `recover --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoverReport {
    /// The shard.
    pub shard: ShardName,
    /// The backup it came from.
    pub backup_id: BackupId,
    /// The moment that was asked for, as asked.
    pub target: String,
    /// What the server held when it was handed over.
    pub gtid_executed: GtidSet,
    /// Transactions applied from the archive.
    pub transactions_replayed: u64,
    /// Where it runs.
    pub server: RecoveredServer,
    /// True if it follows the shard's primary and has caught up.
    pub joined: bool,
    /// What was checked, each with its outcome.
    pub checks: Vec<Finding>,
    /// Durations of the steps.
    pub seconds: RecoverSeconds,
    /// What is left for the operator to do.
    pub next: Vec<String>,
}

/// A server that a recovery left running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveredServer {
    /// Where it listens.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Unix socket.
    pub socket: String,
    /// Data directory.
    pub datadir: String,
}

/// How long the steps of a recovery took, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RecoverSeconds {
    /// Writing the files.
    pub materialise: f64,
    /// Start of the server with its crash recovery.
    pub start: f64,
    /// Replay from the archive.
    pub replay: f64,
    /// Joining and catching up.
    pub join: f64,
    /// Everything.
    pub total: f64,
}
