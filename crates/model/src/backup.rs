//! Facts recorded with one backup.

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

/// Trigger of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// A timer or a schedule.
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
    /// Its role in the shard at that moment.
    pub role: Role,
}

/// The history of a data directory to which a backup belongs. Increments are only made within one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The server the data was taken from.
    pub server_uuid: ServerUuid,
    /// The volume in the snapshot provider's notation (`clone`, `btrfs:<subvolume uuid>`,
    /// `ebs:<volume id>+…`). Files of two snapshots may be compared position by position if
    /// provider and volume are the same.
    pub volume: String,
    /// The volume's generation when the snapshot was taken, where the provider has one (btrfs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Marker that this snapshot left on the volume for the next one, if the provider supports it:
    /// a volume without the marker has been reset since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

impl Lineage {
    /// True if the data is in EBS snapshots.
    pub fn is_ebs(&self) -> bool {
        self.volume.starts_with("ebs:")
    }
}

/// Facts of one backup: everything except the location of its bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// Its id.
    pub backup_id: BackupId,
    /// The shard it belongs to.
    pub shard: ShardName,
    /// The kind of trigger.
    pub kind: BackupKind,
    /// The trigger, if it can fire twice: a scheduled time, or the id of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occasion: Option<String>,
    /// The instance it was taken from.
    pub source: BackupSource,
    /// Reason for choosing that instance.
    pub source_reason: String,
    /// `@@version` of the source.
    pub server_version: ServerVersion,
    /// Every transaction the backup holds, and no other.
    pub gtid_executed: GtidSet,
    /// The timeline of the archive on which it was taken, if the archive was not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "on_line")]
    pub on_timeline: Option<BackupTimeline>,
    /// Result of the freeze.
    pub freeze: FreezeReport,
    /// The history to which it belongs.
    pub lineage: Lineage,
    /// Settings that a recovered server should keep.
    pub settings: RecordedSettings,
    /// Start of the run.
    pub started_at: DateTime<Utc>,
    /// The moment of the snapshot: everything acknowledged before it is in the backup.
    pub taken_at: DateTime<Utc>,
    /// Duration of the run up to its commit, in seconds.
    pub seconds: f64,
    /// UUIDs of the shard's members that answered: the shard's name is bound to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerUuid>,
    /// The events of the shard and their states, as reported by its primary; `None` if no server
    /// was queried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<RecordedEvents>,
    /// The plugins that the source had loaded from libraries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Plugin>,
    /// Reasons to doubt that it holds the shard's data, as far as checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The tables that the source could not read. A recovery expects no rows of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_tables: Vec<BrokenTable>,
}

/// Size of a backup's data and the cost of storing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Bytes of the files it restores to.
    pub data_bytes: u64,
    /// Bytes that the parent lacks, in whole blocks, before compression.
    pub changed_bytes: u64,
    /// Bytes written to the repository for it, including metadata.
    pub stored_bytes: u64,
}
