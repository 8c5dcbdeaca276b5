//! What an archiver reports when it ends.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::gtid::GtidSet;
use crate::ids::{Endpoint, ServerUuid, ShardName};

/// `archive --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArchiveReport {
    /// The shard.
    pub shard: ShardName,
    /// Who was streamed from last; `None`: nobody.
    pub source: Option<Endpoint>,
    /// Transactions that this archiver has archived.
    pub transactions: u64,
    /// The source's history up to the end of what it has archived; empty if it archived nothing.
    pub archived: GtidSet,
    /// Transactions that are missing for ever, by the moment it was noticed.
    pub gaps: Vec<ArchivedGap>,
    /// Promotions that lacked archived transactions.
    pub forks: Vec<ArchivedFork>,
    /// How long it ran.
    pub seconds: f64,
}

/// Transactions that were purged before they were archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchivedGap {
    /// Which.
    pub gtids: GtidSet,
    /// When it was noticed.
    pub at: DateTime<Utc>,
}

/// A promotion that lacked archived transactions: a new line began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchivedFork {
    /// The server that was promoted.
    pub source: ServerUuid,
    /// What it lacks.
    pub lacks: GtidSet,
    /// When it was noticed.
    pub at: DateTime<Utc>,
}

impl ArchiveReport {
    /// Of an archiver that begins.
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

    /// True if nothing was lost.
    pub fn is_well(&self) -> bool {
        self.gaps.is_empty() && self.forks.is_empty()
    }
}
