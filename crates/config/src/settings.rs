//! Configuration: the validated contents of `backstop.toml`, flags and `BACKSTOP_…` variables.
//!
//! Everything here is data; the command that needs a feature decides whether it is available.

mod config_errors;
mod document;
mod json;
mod keys;
mod parse;
mod recovery;
mod repository_url;
mod snapshot_tags;
mod suggest;
mod table;
mod tls;
mod volume;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use backstop_types::create_repository::CreateRepository;
use backstop_types::freeze::FreezeRules;
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::topology::{Locking, SourceRules};
use uuid::Uuid;

use crate::retention::Retention;
use crate::schedule::Schedule;

pub use config_errors::{ConfigError, ConfigErrors, ValueOrigin};
pub use document::Document;
pub use keys::variable_name;
pub use parse::repository_id;
pub(crate) use parse::{WITHOUT_QUORUM, freeze, not_empty, volume, web_address};
pub use recovery::RecoverySettings;
pub use snapshot_tags::check_snapshot_tags;
pub(crate) use snapshot_tags::snapshot_tags;
pub(crate) use table::{ErrorCollector, TableReader};
pub use tls::ServerTls;
pub use volume::VolumeHint;

/// Parses a configuration file without flags and variables (see [`Document`] for those).
///
/// # Errors
/// Returns all errors of the configuration at once.
pub fn parse(text: &str, file_name: &str) -> Result<Settings, ConfigErrors> {
    Document::read(text, file_name).settings()
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The repository of the backups.
    pub repository: RepositorySettings,
    /// The server program.
    pub mysql: MysqlSettings,
    /// `recovery.tls`: the certificate of a recovered server whose shard configures none.
    pub tls: Option<ServerTls>,
    /// The shards by name.
    pub shards: BTreeMap<ShardName, ShardSettings>,
}

/// `[repository]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySettings {
    /// Its URL.
    pub url: RepositoryUrl,
    /// The commands that may create it.
    pub create: CreateRepository,
    /// The only accepted id of the repository; `None`: any.
    pub id: Option<Uuid>,
    /// Encrypts everything stored if set: a reference to the text of the key.
    pub encryption_key: Option<SecretRef>,
}

/// `repository.url` with the options that belong to its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryUrl {
    /// `file:///absolute/path`.
    File {
        /// The directory, which need not exist.
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
    /// Region; `None`: that of the environment, else `us-east-1`.
    pub region: Option<String>,
    /// True if `endpoint` may be `http` on another host.
    pub allow_http: bool,
    /// PEM file with certificates to trust besides those of the system.
    pub ca: Option<PathBuf>,
    /// Key of KMS that the store encrypts every object with.
    pub kms_key: Option<String>,
    /// Storage class of the data of backups.
    pub storage_class: Option<String>,
    /// Reference to TOML text with `access_key_id`, `secret_access_key` and optional
    /// `session_token` (see [`StoreCredentials`](crate::credentials::S3Credentials)); `None`: the
    /// environment's AWS variables.
    pub credentials: Option<SecretRef>,
}

/// Reference to a secret, never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// A file, mode 0600.
    File(PathBuf),
    /// An environment variable with the contents of such a file.
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
    /// Reference to the shard's [`Credentials`](crate::credentials::Credentials).
    pub credentials: SecretRef,
    /// The members of the shard, or the service that knows them.
    pub topology: TopologySettings,
    /// The instances that may be backed up.
    pub source: SourceRules,
    /// The snapshot provider and its options.
    pub snapshot: SnapshotSettings,
    /// Holding of writes during a snapshot.
    pub freeze: FreezeRules,
    /// Times at which backups are due.
    pub schedule: Option<Schedule>,
    /// Rules for the backups to keep; `None`: all.
    pub retention: Option<Retention>,
    /// Archiving of binary logs; `None`: off.
    pub archive: Option<ArchiveSettings>,
    /// Creation of an instance from EBS snapshots; `None`: not configured.
    pub recovery: Option<RecoverySettings>,
    /// `recovery.tls` of the shard or of the whole configuration: the certificate of a recovered
    /// server.
    pub tls: Option<ServerTls>,
}

/// `topology` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopologySettings {
    /// The configuration lists the members.
    Members {
        /// All of them, at least one, without duplicates.
        members: Vec<Endpoint>,
        /// The candidate primary, one of them.
        candidate: Option<Endpoint>,
    },
    /// orchestrator reports the members.
    Orchestrator {
        /// Its addresses, at least one.
        urls: Vec<String>,
        /// The cluster's name in orchestrator.
        cluster: String,
        /// True if orchestrator is asked to discover a server that has joined.
        discover: bool,
        /// Source of a backup while orchestrator has no quorum.
        without_quorum: WithoutQuorum,
    },
}

/// Source of a backup while orchestrator does not answer with a quorum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WithoutQuorum {
    /// None: the backup fails.
    #[default]
    Refuse,
    /// A replica among the members that the newest backup recorded.
    LastKnown,
}

impl TopologySettings {
    /// True if a backup may use the last known members while orchestrator has no quorum.
    pub fn allows_last_known(&self) -> bool {
        matches!(self, Self::Orchestrator { without_quorum: WithoutQuorum::LastKnown, .. })
    }

    /// Returns the name of the shard's cluster: orchestrator's, or the shard's own.
    pub fn cluster_name(&self, shard: &ShardName) -> String {
        match self {
            Self::Orchestrator { cluster, .. } => cluster.clone(),
            Self::Members { .. } => shard.to_string(),
        }
    }
}

/// `snapshot` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// The provider.
    pub provider: ProviderSetting,
    /// Directory for local artefacts; an absolute path.
    pub work_dir: PathBuf,
    /// For `ebs`: the region of the members; `None`: that of the secret or the AWS environment.
    pub region: Option<String>,
    /// For `ebs`: identifies MySQL's volumes of the instance; `None`: by the secret or the volumes'
    /// tags.
    pub volume: Option<VolumeHint>,
    /// For `ebs`: longest wait for snapshots to complete before a backup reports them as pending.
    pub complete_wait: Duration,
    /// For `ebs`: the user's own tags of the snapshots.
    pub tags: BTreeMap<String, String>,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self {
            provider: ProviderSetting::Auto,
            work_dir: PathBuf::from("/var/lib/backstop/work"),
            region: None,
            volume: None,
            complete_wait: Duration::from_secs(600),
            tags: BTreeMap::new(),
        }
    }
}

/// `snapshot.provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderSetting {
    /// btrfs where possible, else clone.
    Auto,
    /// A btrfs subvolume snapshot.
    Btrfs,
    /// MySQL's CLONE LOCAL.
    Clone,
    /// An EBS snapshot.
    Ebs,
}

impl ProviderSetting {
    /// Says if a snapshot by this provider may hold writes.
    pub fn locking(self) -> Locking {
        match self {
            Self::Clone => Locking::Never,
            Self::Auto | Self::Btrfs | Self::Ebs => Locking::Possible,
        }
    }
}

/// `archive` of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSettings {
    /// The instance to stream from.
    pub from: ArchiveFrom,
    /// Acknowledges as a semi-synchronous replica. Only from the primary.
    pub semi_sync: bool,
    /// The storage that an acknowledgement guarantees.
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
