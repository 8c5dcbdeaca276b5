//! Chooses the node to query: the leader, or one that routes to it.

use std::time::Duration;

use backstop_types::error::{Error, ErrorKind};
use futures::future::join_all;

use super::client::{ApiError, OrchestratorNode};
use super::error::ReadError;

/// Limit for a node's answer; a slower node is not used.
const LEADER_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns every node that claims to lead: more than one if a node is cut off, or if several
/// addresses reach the same node. If no node claims it, returns the first that routes to the
/// leader.
///
/// # Errors
/// Returns a passing error with every node's answer if no such node exists.
pub(super) async fn leaders(nodes: &[OrchestratorNode]) -> Result<Vec<&OrchestratorNode>, ReadError> {
    let claims = check(nodes, "leader-check").await;
    let leading: Vec<&OrchestratorNode> = yes(nodes, &claims).collect();
    if !leading.is_empty() {
        return Ok(leading);
    }
    let routes = check(nodes, "routed-leader-check").await;
    match yes(nodes, &routes).next() {
        Some(node) => Ok(vec![node]),
        None => Err(none(nodes, &claims)),
    }
}

type LeaderAnswer = Result<serde_json::Value, ApiError>;

async fn check(nodes: &[OrchestratorNode], what: &str) -> Vec<LeaderAnswer> {
    join_all(nodes.iter().map(|node| async move { node.get(&[what], LEADER_CHECK_TIMEOUT).await })).await
}

fn yes<'a, 'b>(
    nodes: &'a [OrchestratorNode],
    answers: &'b [LeaderAnswer],
) -> impl Iterator<Item = &'a OrchestratorNode> + use<'a, 'b> {
    nodes.iter().zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(node, _)| node)
}

fn none(nodes: &[OrchestratorNode], answers: &[LeaderAnswer]) -> ReadError {
    let failures =
        || nodes.iter().zip(answers).filter_map(|(node, answer)| Some((node, answer.as_ref().err()?)));
    let told: Vec<String> = failures().map(|(node, failure)| format!("{}: {failure}", node.url())).collect();
    let message = format!("cannot find orchestrator's leader: {}", told.join("; "));
    if failures().all(|(_, failure)| matches!(failure, ApiError::Denied(_))) {
        return ReadError::Lasting(Error::new(ErrorKind::Denied, message).hint(super::LOGIN_HINT));
    }
    let hint = "check that orchestrator runs, has a leader, and that `topology.orchestrator` names its nodes";
    ReadError::Passing(Error::failed(message).hint(hint))
}
