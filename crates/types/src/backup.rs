//! Facts recorded with one backup.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::finding::Finding;
use crate::freeze::FreezeReport;
use crate::gtid::GtidSet;
use crate::ids::{BackupId, Endpoint, ServerUuid, ShardName};
use crate::plugins::Plugin;
use crate::scheduled_events::RecordedEvents;
use crate::server::{RecordedSettings, ServerVersion};
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
    /// Addresses of the shard's members, also of those that did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Endpoint>,
    /// Address of the primary, if it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Endpoint>,
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

/// A backup that can be recovered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRef {
    /// Its id.
    pub backup_id: BackupId,
    /// The moment of its snapshot.
    pub taken_at: DateTime<Utc>,
    /// The GTID set it holds.
    pub gtid_executed: GtidSet,
    /// The timeline on which it was taken; `None`: the archive was empty, or the backup is from
    /// before backups recorded this.
    pub on_timeline: Option<BackupTimeline>,
}

/// The timeline of the archive on which a backup was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupTimeline {
    /// This timeline.
    #[serde(rename = "line")]
    Timeline(u32),
    /// No existing timeline: the server lacked what the archive had of it, or a timeline began
    /// during the backup.
    None,
}

impl BackupTimeline {
    /// Determines the timeline of a backup of this server that holds `gtids`, from the archive
    /// before and after the snapshot. `Option::None`: the archive is empty.
    pub fn of(before: &Archive, after: &Archive, server: ServerUuid, gtids: &GtidSet) -> Option<Self> {
        let timeline = before.current()?;
        let held = before.held(timeline.number).unwrap_or_default();
        let fits = held.of_uuid(server).is_subset_of(gtids)
            && after.current().is_some_and(|now| now.number == timeline.number);
        Some(if fits { Self::Timeline(timeline.number) } else { Self::None })
    }
}

/// State of a set of volume snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// All blocks are stored.
    Completed,
    /// Taken; blocks are still being stored in the background. A volume can be created from it only
    /// after that.
    Pending,
    /// At least one of them failed: the backup cannot be recovered.
    Error,
    /// At least one of them no longer exists.
    Missing,
    /// At least one of them was moved to the archive tier: no volume can be created from it until
    /// it is restored, which takes hours.
    Archived,
    /// At least one of them was deleted, and is kept by the recycle bin for a time.
    Recycled,
}

/// State of a backup: decides whether it can be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// No check has found damage: it can be recovered.
    Complete,
    /// The last check found some of its data damaged.
    Damaged,
    /// It is deleted; its data is removed after the grace period.
    Deleted,
    /// Its EBS snapshots are not complete yet. EC2 completes them in the background.
    Pending,
    /// Its data is in EBS snapshots, and their state could not be read from EC2.
    Unknown,
}

/// A table that its server cannot read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BrokenTable {
    /// `schema.table`.
    pub table: String,
    /// The server's error message.
    pub why: String,
}
