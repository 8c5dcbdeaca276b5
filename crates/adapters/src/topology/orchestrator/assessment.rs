//! orchestrator's answers on a cluster: the fields of its API that Backstop uses, and conclusions
//! from them.
//!
//! orchestrator proposes: Backstop checks every proposal by SQL before it acts on it.

mod assess;
mod poll;

use backstop_types::ids::Endpoint;
use serde::Deserialize;

pub use assess::AssessedInstance;
pub use poll::{CANDIDATE_EXPIRED, ReadingDecision, WaitBudget};

/// `/api/cluster-info/alias/…`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClusterInfo {
    /// `host:port` of the primary; changes with every failover.
    pub cluster_name: String,
    /// The permanent name.
    pub cluster_alias: String,
    /// Number of instances.
    #[serde(default)]
    pub count_instances: usize,
}

/// `InstanceKey` and `MasterKey`: host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceKey {
    /// Host name; empty for no instance.
    pub hostname: String,
    /// Port; 0 for no instance.
    pub port: u16,
}

/// A number that may be NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NullableSeconds {
    /// The number, if `valid`.
    pub int64: i64,
    /// False for NULL.
    pub valid: bool,
}

/// One instance of `/api/cluster/alias/…`. A missing field makes the answer unreadable: no default
/// replaces what orchestrator did not report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OrchestratorInstance {
    /// Its address.
    pub key: InstanceKey,
    /// `@@server_uuid`; empty for MariaDB.
    #[serde(rename = "ServerUUID")]
    pub server_uuid: String,
    /// `@@read_only`.
    pub read_only: bool,
    /// Its source.
    pub master_key: InstanceKey,
    /// Its replicas; `null` for none.
    pub replicas: Option<Vec<InstanceKey>>,
    /// Its depth in the topology; 0: the primary.
    pub replication_depth: u32,
    /// True for one of two primaries that replicate from each other.
    pub is_co_master: bool,
    /// `prefer`, `neutral`, `prefer_not`, `must_not`.
    pub promotion_rule: String,
    /// True if the receiver runs. The name has orchestrator's spelling.
    #[serde(rename = "ReplicationIOThreadRuning")]
    pub io_running: bool,
    /// True if the applier runs. The name has orchestrator's spelling.
    #[serde(rename = "ReplicationSQLThreadRuning")]
    pub sql_running: bool,
    /// Lag in seconds.
    pub replication_lag_seconds: NullableSeconds,
    /// Configured delay in seconds.
    #[serde(rename = "SQLDelay")]
    pub sql_delay: u64,
    /// True if orchestrator broke its replication on purpose.
    pub is_detached: bool,
    /// Errant transactions; empty for none.
    pub gtid_errant: String,
    /// True if the last check succeeded. This is the only sign of a dead instance: its other values
    /// do not change.
    pub is_last_check_valid: bool,
    /// True if it was checked recently: false at an isolated node.
    pub is_recently_checked: bool,
    /// Seconds since the last successful check.
    pub seconds_since_last_seen: NullableSeconds,
    /// True if it is out of service.
    pub is_downtimed: bool,
    /// Its zone.
    pub data_center: String,
}

/// One entry of `/api/replication-analysis`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReplicationAnalysis {
    /// The instance.
    pub analyzed_instance_key: InstanceKey,
    /// Its cluster.
    pub cluster_details: ClusterInfo,
    /// True for a primary.
    pub is_master: bool,
    /// True for one of two primaries.
    pub is_co_master: bool,
    /// `DeadMaster`, `UnreachableMaster`, …
    pub analysis: String,
}

/// All answers of one node on a cluster, at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReading {
    /// The cluster.
    pub cluster: ClusterInfo,
    /// Its instances.
    pub instances: Vec<OrchestratorInstance>,
    /// The reported problems, of all clusters.
    pub problems: Vec<ReplicationAnalysis>,
}

impl InstanceKey {
    /// Returns the key as an endpoint; `None` for no instance.
    pub fn endpoint(&self) -> Option<Endpoint> {
        (!self.hostname.is_empty() && self.port != 0).then(|| Endpoint::new(&self.hostname, self.port))
    }
}

impl OrchestratorInstance {
    /// Returns its address.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(&self.key.hostname, self.key.port)
    }

    /// True if it is the primary, or one of two.
    pub fn leads(&self) -> bool {
        self.replication_depth == 0 || self.is_co_master
    }

    /// True if it is registered as the candidate for promotion. An instance keeps the rule after
    /// its promotion.
    pub fn is_candidate(&self) -> bool {
        self.promotion_rule == "prefer" && !self.leads()
    }
}
