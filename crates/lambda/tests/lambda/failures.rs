//! Failures of functions: throttling, lost machines, duplicate deliveries; and repositories with a
//! key.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::environment::Environment;
use crate::support::runtime_api::Function;

fn at(time: &str) -> Value {
    json!({"secret_id": "prod/orders", "scheduled_time": time})
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_or_a_missing_leader_leaves_no_snapshot() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    let event = at("2026-11-23T23:55:00Z");
    fleet.orchestrator.says("leader-check", 404, "\"Not leader\"");
    function.fails(event.clone(), 300, "failed", &["leader", &fleet.orchestrator.url()]).await;
    fleet.orchestrator.says("leader-check", 200, "\"OK\"");

    let throttle = |times: u32| {
        fleet.ec2.with(|ec2| {
            for action in ["DescribeInstances", "CreateSnapshots"] {
                ec2.rules.throttled.insert(action.to_owned(), times);
            }
        });
    };
    throttle(1000);
    function.fails(event.clone(), 300, "failed", &["RequestLimitExceeded", "throttles calls"]).await;
    assert_eq!((fleet.attempts(), fleet.snapshots().len()), (0, 0));
    fleet.unharmed().await;
    // Lambda's second attempt of a request whose throttling passes.
    throttle(2);
    function.succeeds("r-fails", event).await;
    assert_eq!(fleet.snapshots().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_simultaneous_deliveries_make_one_backup() {
    let fleet = Environment::start().await;
    let (first, second) = (Function::start(&fleet, "one").await, Function::start(&fleet, "two").await);
    let time = Duration::from_secs(300);
    let event = at("2026-11-23T23:55:00Z");
    let (one, two) =
        tokio::join!(first.invoke("r-1", event.clone(), time), second.invoke("r-2", event.clone(), time));
    let mut ids = Vec::new();
    for ((ok, said), function, request) in [(one, &first, "r-1"), (two, &second, "r-2")] {
        // An invocation that arrives while the other is at work fails with that reason, and Lambda
        // retries it.
        let said = if ok {
            said
        } else {
            assert_eq!(said["errorType"], "held", "{said}");
            function.succeeds(request, event.clone()).await
        };
        ids.push(said["backup_id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!((fleet.attempts(), fleet.snapshots().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_attempt_completes_after_a_lost_function() {
    let fleet = Environment::start().await;
    // Lost under the lock: EC2 has created the snapshot, and its answer never arrives.
    fleet.ec2.with(|ec2| ec2.rules.unanswered = [("CreateSnapshots".to_owned(), 1)].into());
    let by_hand = json!({"secret_id": "prod/orders", "kind": "on_demand"});
    let mut lost = Function::start(&fleet, "lost").await;
    lost.begin("r-1", by_hand.clone());
    let begun = Instant::now();
    while fleet.snapshots().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no snapshot: {}", lost.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lost.kill();
    fleet.unharmed().await;
    let orphans = fleet.snapshots();
    fleet.ec2.with(|ec2| ec2.age(301));
    let again = Function::start(&fleet, "again").await;
    let made = again.succeeds("r-1", by_hand.clone()).await;
    assert_eq!(made["ebs"]["snapshot_ids"], json!(fleet.snapshots()), "the orphan is gone");
    assert!(orphans.iter().all(|orphan| !fleet.snapshots().contains(orphan)));

    // Lost after the commit, before its answer. EC2 has stored the backup before it.
    fleet.stores();
    let event = at("2026-11-23T23:56:00Z");
    let mut lost = Function::start(&fleet, "waits").await;
    lost.begin("r-2", event.clone());
    lost.logs("\"step\":\"complete\"").await;
    lost.kill();
    let attempts = fleet.attempts();
    let same = again.succeeds("r-2", event).await;
    assert_eq!(same["ebs"]["snapshot_ids"], json!([fleet.snapshots()[1]]));
    assert_eq!(fleet.attempts(), attempts, "it was not taken again");
    fleet.unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_repository_is_opened_with_its_key_only() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    let (key, other) = ("5e".repeat(32), "5f".repeat(32));
    let with = |name: &str, key: Option<&str>| {
        let mut entry = fleet.entry();
        if let Some(key) = key {
            entry["encryption_key"] = json!(key);
        }
        fleet.keeps(name, &entry);
        json!({"secret_id": name, "scheduled_time": "2026-11-23T23:55:00Z"})
    };
    function.fails(with("short", Some("5e5e")), 300, "usage", &["encryption key", "openssl"]).await;
    let made = function.succeeds("r-1", with("right", Some(&key))).await;
    let again = Function::start(&fleet, "two").await;
    assert_eq!(again.succeeds("r-2", with("right", Some(&key))).await["backup_id"], made["backup_id"]);
    function.fails(with("none", None), 300, "usage", &["encrypted", "encryption_key"]).await;
    function.fails(with("other", Some(&other)), 300, "usage", &["not one of the repository's"]).await;
    assert_eq!(fleet.snapshots().len(), 1);
    for log in [function.log(), again.log()] {
        assert!(!log.contains("5e5e") && !log.contains("5f5f"), "a key is in the log");
    }
}
