//! Report of an archiver at its end.

use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ServerUuid, ShardName};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// `archive --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArchiveReport {
    /// The shard.
    pub shard: ShardName,
    /// The last server streamed from; `None`: none.
    pub source: Option<Endpoint>,
    /// Transactions that this archiver has archived.
    pub transactions: u64,
    /// All transactions of the timeline that are archived, and those before its beginning or in its
    /// gaps.
    pub archived: GtidSet,
    /// Permanently missing transactions, by the time of detection.
    pub gaps: Vec<ArchivedGap>,
    /// Promotions of servers that lacked archived transactions.
    pub forks: Vec<ArchivedFork>,
    /// Duration of its run in seconds.
    pub seconds: f64,
}

/// Transactions that were purged before they were archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchivedGap {
    /// The transactions.
    pub gtids: GtidSet,
    /// Time of detection.
    pub at: DateTime<Utc>,
}

/// Promotion of a server that lacked archived transactions: a new timeline began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchivedFork {
    /// The promoted server.
    pub source: ServerUuid,
    /// The archived transactions it lacks.
    pub lacks: GtidSet,
    /// Time of detection.
    pub at: DateTime<Utc>,
}

impl ArchiveReport {
    /// Returns the report of an archiver that starts.
    pub fn new(shard: ShardName) -> Self {
        Self {
            shard,
            source: None,
            transactions: 0,
            archived: GtidSet::new(),
            gaps: Vec::new(),
            forks: Vec::new(),
            seconds: 0.0,
        }
    }

    /// True if no transaction was lost.
    pub fn is_well(&self) -> bool {
        self.gaps.is_empty() && self.forks.is_empty()
    }
}
