//! Reads a cluster from orchestrator.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_types::error::Error;
use backstop_types::ids::Endpoint;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::Value;

use super::client::{ApiError, OrchestratorNode};
use super::error::ReadError;
use crate::topology::orchestrator::assessment::{
    ClusterInfo, ClusterReading, OrchestratorInstance, ReplicationAnalysis,
};

/// Limit for a node to answer from its own records.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit for a node to query an instance: a hung instance took 10 s.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Analysis {
    details: Option<Vec<ReplicationAnalysis>>,
}

/// Reads a cluster by its exact alias. Never by name or hint: the name is the primary's address and
/// leads to a dead primary after a failover, and hints are fuzzy.
///
/// # Errors
/// Returns a [`ReadError`] that names the node and the cluster.
pub(super) async fn read_cluster(node: &OrchestratorNode, alias: &str) -> Result<ClusterReading, ReadError> {
    let doing = format!("cannot read cluster {alias}");
    let trouble = |failure: ApiError| ReadError::of(node, &doing, &failure);
    let cluster: ClusterInfo =
        node.get(&["cluster-info", "alias", alias], READ_TIMEOUT).await.map_err(trouble)?;
    if cluster.cluster_alias != alias {
        let message = format!("{doing} at {}: it answers for {}", node.url(), cluster.cluster_alias);
        let hint = "set `topology.cluster` to the exact alias of the cluster in orchestrator";
        return Err(ReadError::Lasting(Error::refused(message).hint(hint)));
    }
    let instances = instances(node, alias).await?;
    let analysis: Analysis = node.get(&["replication-analysis"], READ_TIMEOUT).await.map_err(trouble)?;
    Ok(ClusterReading { cluster, instances, problems: analysis.details.unwrap_or_default() })
}

/// Returns the instances of a cluster. A list may be `null`.
///
/// # Errors
/// As [`read_cluster`].
pub(super) async fn instances(
    node: &OrchestratorNode,
    alias: &str,
) -> Result<Vec<OrchestratorInstance>, ReadError> {
    let listed: Result<Option<Vec<OrchestratorInstance>>, ApiError> =
        node.get(&["cluster", "alias", alias], READ_TIMEOUT).await;
    match listed {
        Ok(instances) => Ok(instances.unwrap_or_default()),
        Err(failure) => Err(ReadError::of(node, &format!("cannot list cluster {alias}"), &failure)),
    }
}

/// Makes orchestrator query these instances now. Returns those that it could not reach, with the
/// reasons. If the refresh is forbidden, that is not a reason against an instance.
pub(super) async fn refresh(node: &OrchestratorNode, which: &[Endpoint]) -> BTreeMap<Endpoint, String> {
    let one = |endpoint: &Endpoint| {
        let (host, port) = (endpoint.host.clone(), endpoint.port.to_string());
        let endpoint = endpoint.clone();
        async move {
            let done: Result<Value, ApiError> = node.get(&["refresh", &host, &port], REFRESH_TIMEOUT).await;
            match done {
                Ok(_) | Err(ApiError::Denied(_)) => None,
                Err(failure) => Some((endpoint, format!("orchestrator could not refresh it: {failure}"))),
            }
        }
    };
    join_all(which.iter().map(one)).await.into_iter().flatten().collect()
}
