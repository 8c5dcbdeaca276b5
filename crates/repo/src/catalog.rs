//! State of a shard in its log: the holder, the backups, the deleted backups.

use backstop_types::backup::{BackupFacts, Sizes};
use backstop_types::ids::BackupId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::manifest::ObjectRef;

/// One committed backup, as the log lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// Facts of the backup.
    pub facts: BackupFacts,
    /// Parent backup of an increment; `None` for a full backup. For information only: a restore
    /// never needs it.
    pub parent: Option<BackupId>,
    /// Sizes of its data and of its stored objects.
    pub sizes: Sizes,
    /// Its manifest.
    pub manifest: ObjectRef,
}

/// Deleted backup. Its objects stay until the grace period is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condemned {
    /// The backup.
    pub entry: CatalogEntry,
    /// Time of the deletion.
    pub at: DateTime<Utc>,
}

/// Holder of a shard's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Host name.
    pub host: String,
    /// Id of the machine (`/etc/machine-id`), empty if unknown.
    pub machine: String,
    /// Id of the boot (`/proc/sys/kernel/random/boot_id`), empty if unknown.
    pub boot: String,
    /// Process id.
    pub pid: u32,
    /// Start time of the process, in clock ticks since boot (`/proc/self/stat`, field 22).
    pub started: u64,
    /// Its operation: `backup`, `prune`, …
    pub operation: String,
    /// Time since which it has held the shard, by its own clock.
    pub since: DateTime<Utc>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} (host {}, pid {}, since {})",
            self.operation,
            self.host,
            self.pid,
            self.since.format("%Y-%m-%dT%H:%M:%SZ")
        )
    }
}
