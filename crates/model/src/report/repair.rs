//! What `repair` reports.

use serde::Serialize;

use crate::ids::{BackupId, ShardName};

/// `repair --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// The shard.
    pub shard: ShardName,
    /// True if it was done; false if it was only shown.
    pub applied: bool,
    /// The logs that are not whole, and how each is repaired. Empty if there is nothing to do.
    pub logs: Vec<RepairedLog>,
}

/// A log that lost entries or has damaged ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairedLog {
    /// The directory of its entries in the repository.
    pub log: String,
    /// What is wrong with it.
    pub wrong: String,
    /// Backups that are listed still, and stay so.
    pub kept: Vec<BackupId>,
    /// Backups that are listed again: their manifests tell of them, and every object of theirs is there.
    pub found: Vec<BackupId>,
    /// Backups that are listed no more: a later prune removed them.
    pub gone: Vec<BackupId>,
    /// What no backup can be made of.
    pub left: Vec<Unusable>,
}

/// A manifest without its backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unusable {
    /// Its key.
    pub object: String,
    /// What is missing or damaged.
    pub why: String,
}
