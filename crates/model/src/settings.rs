//! The configuration: what `backstop.toml`, flags and `BACKSTOP_…` variables say, checked.
//!
//! Everything here is data; whether a feature can be used is decided by the command that needs it.

pub mod config_draft;
mod config_errors;
mod document;
mod json;
mod keys;
mod parse;
mod recovery;
mod repository_url;
mod suggest;
mod table;
mod tls;
mod volume;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use crate::freeze::FreezeRules;
use crate::ids::{Endpoint, ShardName};
use crate::retention::Retention;
use crate::schedule::Schedule;
use crate::topology::SourceRules;

pub use config_errors::{ConfigError, ConfigErrors, ValueOrigin};
pub use document::Document;
pub use keys::variable_name;
pub use parse::repository_id;
pub(crate) use parse::{freeze, not_empty, volume, web_address};
pub use recovery::RecoverySettings;
pub(crate) use table::{ErrorCollector, TableReader};
pub use tls::ServerTls;
pub use volume::VolumeHint;

/// Reads a configuration file without regard to flags and variables (see [`Document`] for those).
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse(text: &str, file_name: &str) -> Result<Settings, ConfigErrors> {
    Document::read(text, file_name).settings()
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where backups are kept.
    pub repository: RepositorySettings,
    /// The server program.
    pub mysql: MysqlSettings,
    /// `recovery.tls`: the certificate of a recovered server whose shard has none of its own.
    pub tls: Option<ServerTls>,
    /// The shards by name.
    pub shards: BTreeMap<ShardName, ShardSettings>,
}

/// `[repository]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySettings {
    /// Where it is.
    pub url: RepositoryUrl,
    /// Who makes it.
    pub create: CreateRepository,
    /// The only one that is accepted there; `None`: any.
    pub id: Option<Uuid>,
    /// Encrypts everything stored if set: the reference leads to the key's text.
    pub encryption_key: Option<SecretRef>,
}

/// `repository.create`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CreateRepository {
    /// `backstop init`, and nothing else.
    #[default]
    Never,
    /// Also the first backup, and the first start of the archiver, where nothing is stored yet.
    IfEmpty,
}

/// `repository.url` with the options that belong to its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// `file:///absolute/path`.
    File {
        /// The directory. Need not exist.
        path: PathBuf,
    },
    /// `s3://bucket/prefix`.
    S3(S3Settings),
}

/// An S3-compatible bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// Bucket name.
    pub bucket: String,
    /// Key prefix without leading or trailing slash; empty for the whole bucket.
    pub prefix: String,
    /// `http://` or `https://` address of the store; `None`: AWS.
    pub endpoint: Option<String>,
    /// Region; `None`: the environment's, else `us-east-1`.
    pub region: Option<String>,
    /// Leads to TOML text with `access_key_id`, `secret_access_key` and optional `session_token`
    /// (see [`StoreCredentials`](crate::credentials::S3Credentials)); `None`: the environment's AWS variables.
    pub credentials: Option<SecretRef>,
}

/// Where a secret is. Never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// A file, mode 0600.
    File(PathBuf),
    /// An environment variable whose value is what the file would hold.
    Env(String),
    /// The id of an entry in AWS Secrets Manager.
    SecretsManager(String),
}

/// `[mysql]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlSettings {
    /// The server program to start: a path, or a name found on PATH.
    pub server: String,
}

impl Default for MysqlSettings {
    fn default() -> Self {
        Self { server: "mysqld".to_owned() }
    }
}

/// `[shards.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSettings {
    /// Leads to the shard's [`Credentials`](crate::credentials::Credentials).
    pub credentials: SecretRef,
    /// Who is in the shard, or who knows.
    pub topology: TopologySettings,
    /// Which instance may be backed up.
    pub source: SourceRules,
    /// How a snapshot is taken.
    pub snapshot: SnapshotSettings,
    /// How writes are held meanwhile.
    pub freeze: FreezeRules,
    /// When backups are due.
    pub schedule: Option<Schedule>,
    /// Which backups are kept; `None`: all.
    pub retention: Option<Retention>,
    /// Whether binary logs are archived.
    pub archive: Option<ArchiveSettings>,
    /// How an instance is made from EBS snapshots; `None`: it is not.
    pub recovery: Option<RecoverySettings>,
    /// `recovery.tls`, or that of the whole configuration: the certificate of a recovered server.
    pub tls: Option<ServerTls>,
}

/// `topology` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopologySettings {
    /// The members are listed.
    Members {
        /// All of them, at least one, each once.
        members: Vec<Endpoint>,
        /// The candidate primary, one of them.
        candidate: Option<Endpoint>,
    },
    /// orchestrator is asked.
    Orchestrator {
        /// Its addresses, at least one.
        urls: Vec<String>,
        /// The cluster's name there.
        cluster: String,
    },
}

/// `snapshot` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Which provider.
    pub provider: ProviderSetting,
    /// Where local artefacts are made; an absolute path.
    pub work_dir: PathBuf,
    /// For `ebs`: the region of the members; `None`: that of the secret or the AWS environment.
    pub region: Option<String>,
    /// For `ebs`: which of the instance's volumes are MySQL's; `None`: as the secret or the volumes' tags say.
    pub volume: Option<VolumeHint>,
    /// For `ebs`: how long a backup waits for its snapshots to be complete before it reports them as pending.
    pub complete_wait: Duration,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self {
            provider: ProviderSetting::Auto,
            work_dir: PathBuf::from("/var/lib/backstop/work"),
            region: None,
            volume: None,
            complete_wait: Duration::from_secs(600),
        }
    }
}

/// `snapshot.provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderSetting {
    /// btrfs where it can, else clone.
    Auto,
    /// A btrfs subvolume snapshot.
    Btrfs,
    /// MySQL's CLONE LOCAL.
    Clone,
    /// An EBS snapshot.
    Ebs,
}

/// `archive` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// Which instance is streamed from.
    pub from: ArchiveFrom,
    /// Acknowledge as a semi-synchronous replica. Only from the primary.
    pub semi_sync: bool,
    /// What an acknowledgement means.
    pub ack: ArchiveAck,
}

/// `archive.from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFrom {
    /// The primary.
    Primary,
    /// The candidate primary.
    Candidate,
    /// Any replica.
    Replica,
}

/// `archive.ack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveAck {
    /// In the object store.
    Store,
    /// On the archiver's own disk.
    Spool,
}
