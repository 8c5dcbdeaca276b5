//! Which node to ask: the leader, or one that routes to it.

use std::time::Duration;

use backstop_model::fault::{Fault, Kind};
use futures::future::join_all;

use super::api::{Failure, Node};
use super::trouble::Trouble;

/// A node that takes longer is not asked.
const DEADLINE: Duration = Duration::from_secs(1);

/// Every node that says it leads: more than one if a node is cut off, or if addresses lead to the same one.
/// Without any, the first that routes to the leader.
///
/// # Errors
/// Passing if there is none, with what every node answered.
pub(super) async fn leaders(nodes: &[Node]) -> Result<Vec<&Node>, Trouble> {
    let claims = check(nodes, "leader-check").await;
    let leading: Vec<&Node> = yes(nodes, &claims).collect();
    if !leading.is_empty() {
        return Ok(leading);
    }
    let routes = check(nodes, "routed-leader-check").await;
    match yes(nodes, &routes).next() {
        Some(node) => Ok(vec![node]),
        None => Err(none(nodes, &claims)),
    }
}

type Answer = Result<serde_json::Value, Failure>;

async fn check(nodes: &[Node], what: &str) -> Vec<Answer> {
    join_all(nodes.iter().map(|node| async move { node.get(&[what], DEADLINE).await })).await
}

fn yes<'a, 'b>(nodes: &'a [Node], answers: &'b [Answer]) -> impl Iterator<Item = &'a Node> + use<'a, 'b> {
    nodes.iter().zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(node, _)| node)
}

fn none(nodes: &[Node], answers: &[Answer]) -> Trouble {
    let failures =
        || nodes.iter().zip(answers).filter_map(|(node, answer)| Some((node, answer.as_ref().err()?)));
    let told: Vec<String> = failures().map(|(node, failure)| format!("{}: {failure}", node.url())).collect();
    let message = format!("find orchestrator's leader: {}", told.join("; "));
    if failures().all(|(_, failure)| matches!(failure, Failure::Denied(_))) {
        return Trouble::Lasting(Fault::new(Kind::Denied, message).hint(super::LOGIN));
    }
    let hint = "check that orchestrator runs, has a leader, and that `topology.orchestrator` names its nodes";
    Trouble::Passing(Fault::failed(message).hint(hint))
}
