//! Report of `shard adopt`.

use backstop_types::adopted::Adopted;
use backstop_types::ids::{BackupId, ShardName};
use serde::Serialize;

/// `shard adopt --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdoptReport {
    /// The shard.
    pub shard: ShardName,
    /// The history bound to its name from now on.
    pub adopted: Adopted,
    /// The newest backup, which may be of another history; null if no backup exists.
    pub newest_backup: Option<BackupId>,
    /// The timeline of the archive that begins with it; null if no new timeline was necessary.
    #[serde(rename = "line")]
    pub timeline: Option<u32>,
}
