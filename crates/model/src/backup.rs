//! What is known of one backup.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::freeze::FreezeReport;
use crate::gtid::GtidSet;
use crate::ids::{BackupId, Endpoint, ServerUuid, ShardName};
use crate::plan::BackupTimeline;
use crate::plugins::Plugin;
use crate::scheduled_events::RecordedEvents;
use crate::server::{RecordedSettings, ServerVersion};
use crate::table_check::BrokenTable;
use crate::topology::Role;

/// What started a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// A timer or schedule.
    Scheduled,
    /// A person.
    OnDemand,
}

/// The instance that was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSource {
    /// Host and port.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Its part in the shard at that moment.
    pub role: Role,
}

/// Which history of a data directory a backup belongs to. Increments are only made within one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The server the data was taken from.
    pub server_uuid: ServerUuid,
    /// The volume as the snapshot provider names it (`clone`, `btrfs:<subvolume uuid>`, `ebs:<volume id>+…`). Files of two
    /// snapshots may be compared position by position if provider and volume are the same.
    pub volume: String,
    /// The volume's generation when the snapshot was taken, where the provider has one (btrfs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What this snapshot left behind on the volume, to be found by the next one, where the provider does that: a
    /// volume without it has been set back since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

impl Lineage {
    /// True if the data is in EBS snapshots.
    pub fn is_ebs(&self) -> bool {
        self.volume.starts_with("ebs:")
    }
}

/// The facts of one backup: everything but where its bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// Its id.
    pub backup_id: BackupId,
    /// The shard it belongs to.
    pub shard: ShardName,
    /// What started it.
    pub kind: BackupKind,
    /// What started it, where that can happen twice: a scheduled time, or the id of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occasion: Option<String>,
    /// The instance it was taken from.
    pub source: BackupSource,
    /// Why that instance.
    pub source_reason: String,
    /// `@@version` of the source.
    pub server_version: ServerVersion,
    /// Every transaction the backup holds, and no other.
    pub gtid_executed: GtidSet,
    /// On which line of the archive it was taken, if anything was archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "on_line")]
    pub on_timeline: Option<BackupTimeline>,
    /// How the freeze went.
    pub freeze: FreezeReport,
    /// Which history it belongs to.
    pub lineage: Lineage,
    /// Settings a recovered server should keep.
    pub settings: RecordedSettings,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// The moment of the snapshot: everything acknowledged before it is in the backup.
    pub taken_at: DateTime<Utc>,
    /// Duration of the run, up to its commit.
    pub seconds: f64,
    /// The members of the shard that told who they are: its name is bound to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerUuid>,
    /// The events of the shard and whether they fire, as its primary told; `None` if no server was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<RecordedEvents>,
    /// The plugins that the source had loaded from libraries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Plugin>,
    /// What speaks against its being the shard's data, as far as that was looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The tables that the source could not read, so that a recovery expects no rows of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_tables: Vec<BrokenTable>,
}

/// How much data a backup is and cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Bytes of the files it restores to.
    pub data_bytes: u64,
    /// Bytes that were not in the parent, in whole blocks, before compression.
    pub changed_bytes: u64,
    /// Bytes written to the repository for it, everything included.
    pub stored_bytes: u64,
}
