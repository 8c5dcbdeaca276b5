//! A cluster without a candidate, and an orchestrator without a quorum.

use serde_json::{Value, json};

use crate::support::environment::Environment;
use crate::support::runtime_api::Function;

fn shard() -> Value {
    json!({"secret_id": "prod/orders"})
}

fn source(report: &Value) -> (u64, &str) {
    (report["source"]["port"].as_u64().unwrap(), report["source"]["role"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_is_backed_up_without_a_candidate_unless_the_secret_allows_replicas() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    let path = "cluster/alias/shop-1";
    let mut expired = fleet.orchestrator.said(path);
    expired[1]["PromotionRule"] = json!("neutral");
    fleet.orchestrator.says(path, 200, &expired.to_string());
    let report = function.succeeds("r-1", shard()).await;
    let primary = u64::from(fleet.shard.primary().endpoint().port);
    assert_eq!(source(&report), (primary, "primary"), "{report}");
    function.logs("\"event\":\"candidate_expired\",\"shard\":\"shop-1\"").await;

    fleet.stores();
    let mut entry = fleet.entry();
    entry["source"] = json!("any-replica");
    fleet.keeps("prod/orders", &entry);
    let report = function.succeeds("r-2", shard()).await;
    let replica = u64::from(fleet.shard.candidate().endpoint().port);
    assert_eq!(source(&report), (replica, "replica"), "{report}");
    assert_eq!(function.log().matches("candidate_expired").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_known_replica_is_backed_up_without_a_quorum_by_request() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    function.succeeds("r-1", shard()).await;
    fleet.orchestrator.says("leader-check", 404, "\"Not leader\"");
    function.fails(shard(), 300, "failed", &["cannot find orchestrator's leader"]).await;

    fleet.stores();
    let mut entry = fleet.entry();
    entry["without_quorum"] = json!("last-known");
    fleet.keeps("prod/orders", &entry);
    let report = function.succeeds("r-2", shard()).await;
    let replica = u64::from(fleet.shard.candidate().endpoint().port);
    assert_eq!(source(&report).0, replica, "{report}");
    function.logs("\"event\":\"members_last_known\",\"shard\":\"shop-1\"").await;
    assert_eq!(fleet.snapshots().len(), 2);

    fleet.shard.candidate().run(&["SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"]).await;
    function.fails(shard(), 300, "refused", &["are writable, so the primary is not known"]).await;
    fleet.shard.candidate().run(&["SET GLOBAL super_read_only = ON"]).await;
    fleet.unharmed().await;
    fleet.shard.primary().kill();
    function.fails(shard(), 300, "refused", &["the primary cannot be asked"]).await;
    assert_eq!(fleet.snapshots().len(), 2);
}
