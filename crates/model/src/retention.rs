//! Which backups are kept.

use std::time::Duration;

/// `retention` of a shard: each rule votes for what it keeps; what no rule keeps is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Every backup younger than this.
    pub keep_all: Duration,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many ISO weeks.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
    /// How long archived binary logs are kept.
    pub binlogs: Option<Duration>,
}
