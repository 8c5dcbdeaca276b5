//! What `repair` reports.

use serde::Serialize;

use crate::gtid::GtidSet;
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
    /// The indexes of the archive that are lost or damaged, and how each is rebuilt. Not in JSON if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<RepairedIndex>,
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
    pub left: Vec<UnusableManifest>,
}

/// An index of the archive that is lost or damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairedIndex {
    /// Its key.
    pub index: String,
    /// What is wrong with it.
    pub wrong: String,
    /// Where the bytes of a damaged one are kept.
    pub aside: Option<String>,
    /// How many segments it names again.
    pub found: u64,
    /// Transactions whose segments are lost as well: they stay a gap.
    pub lost: GtidSet,
    /// Segments that do not say what they are, and may belong to it. They are kept.
    pub left: Vec<UnusableManifest>,
    /// Why it cannot be rebuilt; `None`: it can.
    pub cannot: Option<String>,
}

/// An object that nothing can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnusableManifest {
    /// Its key.
    pub object: String,
    /// What is missing or damaged.
    pub why: String,
}
