//! What orchestrator says of a cluster, in the fields of its API that Backstop uses, and what follows from it.
//!
//! orchestrator proposes: every proposal is checked by SQL before anything is done with it.

mod assess;
mod poll;

use serde::Deserialize;

use crate::ids::Endpoint;

pub use assess::AssessedInstance;
pub use poll::{ReadingDecision, WaitBudget};

/// `/api/cluster-info/alias/…`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClusterInfo {
    /// `host:port` of the primary; another one after every failover.
    pub cluster_name: String,
    /// The name that stays.
    pub cluster_alias: String,
    /// How many instances it counts.
    #[serde(default)]
    pub count_instances: usize,
}

/// `InstanceKey` and `MasterKey`: host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceKey {
    /// Host name; empty for nobody.
    pub hostname: String,
    /// Port; 0 for nobody.
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

/// One instance of `/api/cluster/alias/…`. A field that is missing makes the answer unreadable: no default
/// stands for something orchestrator did not say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OrchestratorInstance {
    /// Where it is.
    pub key: InstanceKey,
    /// `@@server_uuid`; empty for MariaDB.
    #[serde(rename = "ServerUUID")]
    pub server_uuid: String,
    /// `@@read_only`.
    pub read_only: bool,
    /// Whom it replicates from.
    pub master_key: InstanceKey,
    /// Who replicates from it; `null` for nobody.
    pub replicas: Option<Vec<InstanceKey>>,
    /// 0: the primary.
    pub replication_depth: u32,
    /// One of two primaries that replicate from each other.
    pub is_co_master: bool,
    /// `prefer`, `neutral`, `prefer_not`, `must_not`.
    pub promotion_rule: String,
    /// The receiver runs. Spelled as orchestrator spells it.
    #[serde(rename = "ReplicationIOThreadRuning")]
    pub io_running: bool,
    /// The applier runs. Spelled as orchestrator spells it.
    #[serde(rename = "ReplicationSQLThreadRuning")]
    pub sql_running: bool,
    /// Lag.
    pub replication_lag_seconds: NullableSeconds,
    /// Configured delay in seconds.
    #[serde(rename = "SQLDelay")]
    pub sql_delay: u64,
    /// orchestrator broke its replication on purpose.
    pub is_detached: bool,
    /// Errant transactions; empty for none.
    pub gtid_errant: String,
    /// The last check succeeded. The only sign of a dead instance: its other values stay what they were.
    pub is_last_check_valid: bool,
    /// It was checked lately: false at a node that is cut off.
    pub is_recently_checked: bool,
    /// Since a check succeeded.
    pub seconds_since_last_seen: NullableSeconds,
    /// Taken out of service.
    pub is_downtimed: bool,
    /// Its zone.
    pub data_center: String,
}

/// One entry of `/api/replication-analysis`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReplicationAnalysis {
    /// Which instance.
    pub analyzed_instance_key: InstanceKey,
    /// Of which cluster.
    pub cluster_details: ClusterInfo,
    /// It is a primary.
    pub is_master: bool,
    /// It is one of two primaries.
    pub is_co_master: bool,
    /// `DeadMaster`, `UnreachableMaster`, …
    pub analysis: String,
}

/// Everything one node said of a cluster at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReading {
    /// The cluster.
    pub cluster: ClusterInfo,
    /// Its instances.
    pub instances: Vec<OrchestratorInstance>,
    /// What is wrong, in all clusters.
    pub problems: Vec<ReplicationAnalysis>,
}

impl InstanceKey {
    /// The same as an endpoint; `None` for nobody.
    pub fn endpoint(&self) -> Option<Endpoint> {
        (!self.hostname.is_empty() && self.port != 0).then(|| Endpoint::new(&self.hostname, self.port))
    }
}

impl OrchestratorInstance {
    /// Where it is.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(&self.key.hostname, self.key.port)
    }

    /// It is the primary, or one of two.
    pub fn leads(&self) -> bool {
        self.replication_depth == 0 || self.is_co_master
    }

    /// It is registered as the one to promote. The rule stays on an instance after its promotion.
    pub fn is_candidate(&self) -> bool {
        self.promotion_rule == "prefer" && !self.leads()
    }
}
