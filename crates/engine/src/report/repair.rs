//! Report of `repair`.

use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, ShardName};
use serde::Serialize;

/// `repair --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// The shard.
    pub shard: ShardName,
    /// True if the repair was carried out; false if it was only shown.
    pub applied: bool,
    /// The incomplete logs with their repairs. Empty if none needs a repair.
    pub logs: Vec<RepairedLog>,
    /// The lost or damaged indexes of the archive with their repairs. Absent from JSON if there are
    /// none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<RepairedIndex>,
}

/// A log that lost entries or has damaged ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairedLog {
    /// The directory of its entries in the repository.
    pub log: String,
    /// Description of the damage.
    pub wrong: String,
    /// Backups that are still listed and remain listed.
    pub kept: Vec<BackupId>,
    /// Backups that are listed again: their manifests describe them, and every object of theirs
    /// exists.
    pub found: Vec<BackupId>,
    /// Backups that are no longer listed: a later prune removed them.
    pub gone: Vec<BackupId>,
    /// Manifests from which the log cannot list a backup again.
    pub left: Vec<UnusableManifest>,
}

/// A lost or damaged index of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairedIndex {
    /// Its key.
    pub index: String,
    /// Description of the damage.
    pub wrong: String,
    /// Key of the copy of a damaged index.
    pub aside: Option<String>,
    /// Number of segments it lists again.
    pub found: u64,
    /// Transactions whose segments are lost as well: they remain a gap.
    pub lost: GtidSet,
    /// Segments that do not describe themselves and may belong to it. They are kept.
    pub left: Vec<UnusableManifest>,
    /// Reason why it cannot be rebuilt; `None`: it can.
    pub cannot: Option<String>,
}

/// An object that cannot be used for the repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnusableManifest {
    /// Its key.
    pub object: String,
    /// The missing or damaged part.
    pub why: String,
}
