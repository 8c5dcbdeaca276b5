//! Ports of a recovery on other machines: an instance with volumes, and the configuration of the
//! server on it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::error::Result;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use backstop_types::server::{RecordedSettings, ServerVersion};
use serde::{Deserialize, Serialize};

/// Progress of filling volumes from their snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeInitialization {
    /// All blocks are loaded.
    Loaded,
    /// Progress of the least advanced volume, in percent.
    Percent(u8),
    /// Loaded lazily, when a block is first read; progress is unknown.
    WhenRead,
}

/// Machines of a recovery. Creates its instance, with its volumes, in a separate remote state that
/// is locked. On cancellation the program is interrupted and awaited.
#[async_trait]
pub trait Infrastructure: Send + Sync {
    /// Returns the availability zone of the instance that a MySQL server runs on.
    async fn zone(&self, server: &Endpoint) -> Result<String>;
    /// Returns the changes that [`Infrastructure::apply`] would make. Changes nothing and leaves
    /// nothing behind.
    async fn plan(&self, spec: &InstanceSpec) -> Result<InfrastructureChanges>;
    /// Creates the instance, or continues an interrupted attempt. Refuses to destroy or replace
    /// anything.
    async fn apply(&self, spec: &InstanceSpec) -> Result<CreatedInstance>;
    /// Returns the progress of filling the instance's volumes from their snapshots.
    async fn volume_initialization(&self, volume_ids: &[String]) -> Result<VolumeInitialization>;
    /// Destroys all of it. Resources that are gone are no error.
    async fn destroy(&self, spec: &InstanceSpec) -> Result<()>;
}

/// Specification of the instance. The same for every attempt of one recovery, except for its
/// protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Id of the recovery: names the state; tag `Backstop-Recovery` of every resource.
    pub recovery_id: String,
    /// Shard of the server.
    pub shard: ShardName,
    /// The primary's availability zone.
    pub primary_zone: String,
    /// Availability zone of the instance.
    pub zone: String,
    /// Subnet in that zone.
    pub subnet: String,
    /// Snapshot ids by device name.
    pub snapshots: BTreeMap<String, String>,
    /// The volumes that were snapshotted, by device name, as far as the backup recorded them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, EbsVolume>,
    /// Protection against destruction.
    pub protection: DestroyProtection,
    /// Folder of the recovery on this host; only its owner can enter it.
    pub folder: PathBuf,
}

/// Protection of an instance against destruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestroyProtection {
    /// It can be destroyed, even by mistake: no server has run on it yet.
    Off,
    /// It can be destroyed only after the protection is removed.
    On,
}

/// Changes that would be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfrastructureChanges {
    /// Each change in words, in order.
    pub told: Vec<String>,
    /// Number of resources to create.
    pub add: u64,
    /// Number of resources to change.
    pub change: u64,
    /// Number of resources to destroy, including replaced ones.
    pub destroy: u64,
}

/// The created instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedInstance {
    /// Address at which the server is to listen.
    pub server: Endpoint,
    /// The instance.
    pub instance_id: String,
    /// The MySQL volumes.
    pub volume_ids: Vec<String>,
    /// The inventory for the playbook, YAML with the one host.
    pub inventory: String,
}

/// Configures the server on a created instance, and makes it replicate from the primary. Can be
/// repeated safely, even after an attempt that was interrupted anywhere.
#[async_trait]
pub trait Playbook: Send + Sync {
    /// Runs the playbook to its end. Returns the output of `backstop recover --json` if that ran on
    /// the instance.
    async fn run(&self, site: &PlaybookInputs) -> Result<Option<String>>;
}

/// Variables of the playbook. No secrets: the adapter that runs it adds those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaybookInputs {
    /// The inventory, from [`CreatedInstance`].
    pub inventory: String,
    /// The backup that the volumes were made from.
    pub backup_id: BackupId,
    /// GTID set that the server must hold before it replicates: the manifest's, whole.
    pub gtid_executed: GtidSet,
    /// The version of the server that was backed up.
    pub server_version: ServerVersion,
    /// Its settings, as recorded.
    pub recorded: RecordedSettings,
    /// Options that the recovered server keeps of them: name and value, as in an option file.
    pub options: RecordedSettings,
    /// A server id that no member has.
    pub server_id: u32,
    /// Source to replicate from: the shard's current primary. `None`: the server does not join.
    pub primary: Option<Endpoint>,
    /// Recovery that the instance itself performs instead of joining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_host: Option<HostRecovery>,
    /// Folder of the recovery on this host; only its owner can enter it.
    pub folder: PathBuf,
}

/// Recovery that Backstop performs on the created instance, from the data on its volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecovery {
    /// Arguments of `backstop recover` there: the shard, the backup, the moment.
    pub arguments: Vec<String>,
    /// Flag of the ending: `--standalone` or `--as-primary`.
    pub ending: String,
    /// File on this host that becomes the instance's configuration.
    pub configuration: PathBuf,
}
