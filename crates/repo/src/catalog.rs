//! What the log of a shard says: who works on it, which backups there are, which are condemned.

use backstop_model::backup::{BackupFacts, Sizes};
use backstop_model::ids::BackupId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::manifest::ObjectRef;

/// One committed backup, as the log lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogEntry {
    /// What is known of it.
    pub facts: BackupFacts,
    /// The backup it was an increment of; `None` for a full one. Only told: restoring never needs it.
    pub parent: Option<BackupId>,
    /// How much data it is and cost.
    pub sizes: Sizes,
    /// Its manifest.
    pub manifest: ObjectRef,
}

/// A backup that was deleted. Its objects stay until the grace period is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condemned {
    /// The backup.
    pub entry: CatalogEntry,
    /// When it was deleted.
    pub at: DateTime<Utc>,
}

/// Who holds a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Host name.
    pub host: String,
    /// What identifies this machine (`/etc/machine-id`), empty if unknown.
    pub machine: String,
    /// Identifies the boot (`/proc/sys/kernel/random/boot_id`), empty if unknown.
    pub boot: String,
    /// Process id.
    pub pid: u32,
    /// When the process was started, in clock ticks since boot (`/proc/self/stat`, field 22).
    pub started: u64,
    /// What it does: `backup`, `prune`, …
    pub operation: String,
    /// Since when it holds the shard, by its own clock.
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
