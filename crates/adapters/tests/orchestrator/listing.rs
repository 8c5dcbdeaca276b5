//! A server that has joined: orchestrator is asked to discover it if it may be, and waited for.

use backstop_engine::ports::Topology;
use backstop_types::finding::{Finding, Severity};
use backstop_types::ids::Endpoint;
use serde_json::json;

use crate::support::fake_orchestrator::{Answers, FakeOrchestrator, StageClock, recorded_json};
use crate::support::served;

/// The recorded replica that plays the server.
const JOINED: u16 = 23308;
const DISCOVER: &str = "discover/127.0.0.1/23308";

fn joined() -> Endpoint {
    Endpoint::new("127.0.0.1", JOINED)
}

/// Answers of an orchestrator that does not know the server yet.
fn without() -> Answers {
    let mut cluster = recorded_json("03-cluster-alias.json");
    cluster.as_array_mut().unwrap().retain(|one| one["Key"]["Port"] != JOINED);
    let found = json!({"Code": "OK", "Message": "Instance discovered: 127.0.0.1:23308", "Details": null});
    Answers::with(recorded_json("02-cluster-info-alias.json"), cluster).and(DISCOVER, 200, &found.to_string())
}

async fn listed(stages: Vec<Answers>, discovers: bool) -> (Finding, StageClock, FakeOrchestrator) {
    let (adapter, waits, served) = served(stages).await;
    let finding = adapter.discovering(discovers).await_listed(Some(&joined())).await.unwrap();
    (finding, waits, served)
}

fn discoveries(served: &FakeOrchestrator) -> usize {
    served.requests().iter().filter(|path| path.contains("/discover/")).count()
}

#[tokio::test]
async fn join_waits_until_orchestrator_lists_the_server() {
    let (finding, waits, served) = listed(vec![without(), without(), Answers::healthy()], true).await;
    assert_eq!(
        (finding.severity, &*finding.code),
        (Severity::Ok, "orchestrator-lists-server"),
        "{finding:?}"
    );
    assert_eq!((discoveries(&served), waits.slept()), (1, vec![5, 5]));
}

#[tokio::test]
async fn orchestrator_is_asked_to_discover_only_by_request() {
    let (finding, waits, served) = listed(vec![without()], false).await;
    assert_eq!((finding.severity, &*finding.code), (Severity::Warning, "orchestrator-lacks-server"));
    assert!(finding.what.contains("after 60 s") && waits.slept().iter().sum::<u64>() == 60, "{finding:?}");
    let todo = finding.todo.unwrap();
    let way = "run `orchestrator-client -c discover -i 127.0.0.1:23308`";
    assert!(todo.contains(way) && todo.contains("topology.orchestrator_discover"), "{todo}");
    assert_eq!(discoveries(&served), 0);
}

/// orchestrator refuses a server without `report_host`, and one that it cannot log in to.
#[tokio::test]
async fn refused_discovery_is_repeated_and_reported() {
    let refusal =
        json!({"Code": "ERROR", "Message": "instance has NULL/empty @@report_host", "Details": null});
    let refusing = without().and(DISCOVER, 500, &refusal.to_string());
    let (finding, _, served) = listed(vec![refusing.clone()], true).await;
    assert!(finding.what.contains("NULL/empty @@report_host"), "{finding:?}");
    assert_eq!(discoveries(&served), 13);
    let (finding, waits, _served) =
        listed(vec![refusing, Answers::healthy().and(DISCOVER, 200, "{}")], true).await;
    assert_eq!((finding.severity, waits.slept()), (Severity::Ok, vec![5]), "{finding:?}");
}

#[tokio::test]
async fn server_on_loopback_is_not_waited_for() {
    let (adapter, waits, served) = served(vec![without()]).await;
    let finding = adapter.discovering(true).await_listed(None).await.unwrap();
    assert!(finding.severity == Severity::Warning && finding.what.contains("loopback"), "{finding:?}");
    assert!(waits.slept().is_empty() && served.requests().is_empty());
}
