//! `find --json`.

use backstop_binlog::FoundTransaction;
use backstop_types::ids::ShardName;
use serde::Serialize;

/// Result of a search of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FindReport {
    /// The shard.
    pub shard: ShardName,
    /// The searched timeline.
    #[serde(rename = "line")]
    pub timeline: u32,
    /// The searched timeline, if it was requested explicitly: a recovery then needs `--line`.
    #[serde(skip)]
    #[serde(rename = "left_line")]
    pub abandoned_timeline: Option<u32>,
    /// The transactions found, newest first.
    pub transactions: Vec<FoundTransaction>,
    /// True if there are older ones beyond the requested number.
    pub more: bool,
    /// The transaction before which a recovery should most likely stop; `None` if no moment just
    /// before one of them can be recovered.
    pub advice: Option<RecoveryAdvice>,
    /// Amount of data read.
    pub read: SearchedPart,
}

/// Suggested recovery target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryAdvice {
    /// The transaction.
    pub gtid: String,
    /// The target of a recovery to just before it.
    pub to: String,
    /// The reason, in words.
    pub why: String,
}

/// Amount of data that a search has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SearchedPart {
    /// Segments of the archive.
    pub segments: u64,
    /// Bytes of the segments, before compression.
    pub bytes: u64,
    /// Transactions in the segments.
    pub transactions: u64,
}
