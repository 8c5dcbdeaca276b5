//! Retention rules of a shard.

use std::time::Duration;

/// `retention` of a shard. Days, weeks and months are counted back from the newest backup, in UTC,
/// and only those that have a backup count: when backups stop, the existing ones are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Keeps every backup younger than this.
    pub keep_all: Duration,
    /// Number of days of which the newest backup is kept.
    pub daily: u32,
    /// Number of ISO weeks of which the newest backup is kept.
    pub weekly: u32,
    /// Number of months of which the newest backup is kept.
    pub monthly: u32,
    /// Retention of archived binary logs.
    pub binlogs: Option<Duration>,
}
