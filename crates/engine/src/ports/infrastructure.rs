//! What a recovery on other machines needs: where servers are, an instance with volumes, and what configures a server on it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use backstop_model::error::Result;
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{BackupId, Endpoint, ShardName};
use backstop_model::server::{RecordedSettings, ServerVersion};
use backstop_model::topology::Member;
use serde::{Deserialize, Serialize};

/// What the cloud says of servers and volumes that are no snapshots.
#[async_trait]
pub trait CloudHosts: Send + Sync {
    /// The availability zone of the instance that a MySQL server runs on.
    async fn zone(&self, server: &Endpoint) -> Result<String>;
    /// How far the volumes have been filled from their snapshots.
    async fn volume_initialization(&self, volume_ids: &[String]) -> Result<VolumeInitialization>;
}

/// How far volumes have been filled from their snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeInitialization {
    /// Every block is there.
    Loaded,
    /// The volume that is least far, in percent.
    Percent(u8),
    /// Blocks are fetched when they are first read; nobody counts them.
    WhenRead,
}

/// Asks one server how it is.
#[async_trait]
pub trait ServerProbe: Send + Sync {
    /// What the server there says of itself, or why it does not.
    async fn probe(&self, server: &Endpoint) -> Member;
}

/// Makes the instance of a recovery, with its volumes, in a state of its own that is kept remotely and locked.
/// Whoever stops an attempt, it is told to stop in order, and waited for.
#[async_trait]
pub trait Infrastructure: Send + Sync {
    /// What [`Infrastructure::apply`] would change. Touches nothing and leaves nothing behind.
    async fn plan(&self, spec: &InstanceSpec) -> Result<InfrastructureChanges>;
    /// Makes it, or goes on where an earlier attempt was broken off. Refuses to destroy or replace anything.
    async fn apply(&self, spec: &InstanceSpec) -> Result<CreatedInstance>;
    /// Destroys all of it. Destroying what is gone is no error.
    async fn destroy(&self, spec: &InstanceSpec) -> Result<()>;
}

/// What is to be made. The same for every attempt of one recovery, but for its protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Names the state; tag `Backstop-Recovery` of everything made.
    pub recovery_id: String,
    /// Whose server.
    pub shard: ShardName,
    /// The primary's availability zone.
    pub primary_zone: String,
    /// The availability zone to be in.
    pub zone: String,
    /// The subnet, which is in that zone.
    pub subnet: String,
    /// Device name to snapshot id.
    pub snapshots: BTreeMap<String, String>,
    /// Whether it can be destroyed.
    pub protection: DestroyProtection,
    /// What belongs to the recovery on this host: a folder that only its owner can enter.
    pub folder: PathBuf,
}

/// Whether an instance can be destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestroyProtection {
    /// By a mistake, too: nothing has run on it yet.
    Off,
    /// Only after the protection was taken off.
    On,
}

/// What would be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfrastructureChanges {
    /// Each change in words, in order.
    pub told: Vec<String>,
    /// How many things would be made.
    pub add: u64,
    /// How many would be changed.
    pub change: u64,
    /// How many would be destroyed, also to be replaced.
    pub destroy: u64,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedInstance {
    /// Where the server is to listen.
    pub server: Endpoint,
    /// The instance.
    pub instance_id: String,
    /// The MySQL volumes.
    pub volume_ids: Vec<String>,
    /// The inventory for the playbook, YAML with the one host.
    pub inventory: String,
}

/// Configures the server on an instance that was made, and has it follow the primary. Safe to be repeated, also after
/// an attempt that was broken off anywhere.
#[async_trait]
pub trait Playbook: Send + Sync {
    /// Runs it to its end.
    async fn run(&self, site: &PlaybookInputs) -> Result<()>;
}

/// What the playbook is told. No secrets: whoever runs it adds those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaybookInputs {
    /// The inventory, from [`CreatedInstance`].
    pub inventory: String,
    /// The backup that the volumes were made from.
    pub backup_id: BackupId,
    /// The GTID set that the server must hold before it follows anybody: the manifest's, whole.
    pub gtid_executed: GtidSet,
    /// The version of the server that was backed up.
    pub server_version: ServerVersion,
    /// Its settings, as recorded.
    pub recorded: RecordedSettings,
    /// What the recovered one keeps of them: option and value, as an option file has them.
    pub options: RecordedSettings,
    /// A server id that no member has.
    pub server_id: u32,
    /// Whom to follow: the shard's primary at this moment.
    pub primary: Endpoint,
    /// What belongs to the recovery on this host: a folder that only its owner can enter.
    pub folder: PathBuf,
}
