//! Misleading answers that a real orchestrator was seen to give.

use backstop_adapters::topology::CANDIDATE_EXPIRED;
use backstop_config::credentials::OrchestratorAccess;
use backstop_engine::ports::Topology;
use backstop_policy::topology::choose_source;
use backstop_types::error::{Error, ErrorKind};
use backstop_types::freeze::OnPrimary;
use backstop_types::topology::{Locking, SourceRules};
use serde_json::json;

use crate::support::fake_orchestrator::{
    Answers, FakeOrchestrator, StageClock, cluster_info, recorded, recorded_json,
};
use crate::support::{candidates, look, look_at, member, objection, primary, served};

const NO_ANALYSIS: &str = "07-replication-analysis.json";

#[tokio::test]
async fn healthy_cluster_is_read_without_waits() {
    let (seen, waits, served) = look(vec![Answers::healthy()]).await;
    let seen = seen.unwrap();
    assert_eq!((primary(&seen), candidates(&seen)), (vec![23306], vec![23307]));
    assert!(seen.iter().all(|member| member.verdict.objection.is_none() && member.state.is_err()));
    assert_eq!(member(&seen, 23307).verdict.preference, 1, "by zone");
    assert!(waits.slept().is_empty() && waits.notices().is_empty(), "{}", waits.notices());
    let asked = served.requests();
    assert!(asked.contains(&"/api/cluster/alias/shop-1".to_owned()));
    assert!(asked.contains(&"/api/refresh/127.0.0.1/23307".to_owned()));
    // Names and hints are never used: names lead to a dead primary after a failover, and hints are
    // fuzzy.
    assert!(!asked.iter().any(|path| path.contains("master") || path.contains("23306/")), "{asked:?}");
    assert!(
        !asked.contains(&"/api/refresh/127.0.0.1/23308".to_owned()),
        "only what may be chosen is refreshed"
    );
}

#[tokio::test]
async fn dead_instance_is_rejected_despite_its_last_values() {
    let (seen, waits, _served) =
        look(vec![Answers::of("12-cluster-candidate-dead-12s.json", NO_ANALYSIS)]).await;
    let seen = seen.unwrap();
    assert_eq!(candidates(&seen), [23307]);
    assert!(objection(&seen, 23307).contains("last check of it failed"), "{}", objection(&seen, 23307));
    assert!(waits.slept().is_empty(), "the primary is usable");
}

#[tokio::test]
async fn is_up_to_date_is_ignored_on_healthy_servers() {
    let text = recorded("18-cluster-intermediate.json");
    assert!(text.contains("\"IsUpToDate\":false"));
    let (seen, _, _served) = look(vec![Answers::of("18-cluster-intermediate.json", NO_ANALYSIS)]).await;
    assert!(seen.unwrap().iter().all(|member| member.verdict.objection.is_none()));
}

#[tokio::test]
async fn unfit_candidate_is_rejected_with_its_reason() {
    for (file, why) in [
        ("14-instance-candidate-delayed.json", "delay is set to 600 s"),
        ("15-instance-downtimed.json", "downtimed"),
    ] {
        let mut cluster = recorded_json("03-cluster-alias.json");
        cluster[1] = recorded_json(file);
        let (seen, _, _served) =
            look(vec![Answers::with(recorded_json("02-cluster-info-alias.json"), cluster)]).await;
        let seen = seen.unwrap();
        assert!(candidates(&seen) == [23307] && objection(&seen, 23307).contains(why), "{file}: {seen:?}");
    }
    let (seen, _, _served) =
        look(vec![Answers::of("10-cluster-candidate-io-stopped.json", NO_ANALYSIS)]).await;
    assert!(objection(&seen.unwrap(), 23307).contains("receiver thread is not running"));
    let changes = [
        ("ReplicationLagSeconds", json!({"Int64": 61, "Valid": true}), "lags 61 s"),
        ("ReplicationLagSeconds", json!({"Int64": 0, "Valid": false}), "lag is unknown"),
        ("GtidErrant", json!("c16e4266-e648-11f1-bd60-02fc00000001:1"), "errant"),
        ("IsDetached", json!(true), "detached"),
        ("SecondsSinceLastSeen", json!({"Int64": 31, "Valid": true}), "31 s ago"),
        ("SecondsSinceLastSeen", json!({"Int64": 0, "Valid": false}), "never seen"),
        ("ReplicationSQLThreadRuning", json!(false), "applier"),
        ("ServerUUID", json!(""), "does not know its server UUID"),
    ];
    for (field, value, why) in changes {
        let mut cluster = recorded_json("03-cluster-alias.json");
        cluster[1][field] = value;
        let (seen, _, _served) =
            look(vec![Answers::with(recorded_json("02-cluster-info-alias.json"), cluster)]).await;
        let seen = seen.unwrap();
        assert!(objection(&seen, 23307).contains(why), "{field}: {}", objection(&seen, 23307));
    }
}

#[tokio::test]
async fn isolated_node_that_claims_to_lead_is_rejected() {
    let mut stale = recorded_json("19-cluster-after-graceful-12s.json");
    for instance in stale.as_array_mut().unwrap() {
        instance["IsRecentlyChecked"] = json!(false);
    }
    let stale = Answers::with(recorded_json("02-cluster-info-alias.json"), stale);
    let waits = StageClock::new();
    let cut_off = FakeOrchestrator::start(vec![stale.clone()], &waits).await;
    let leader = FakeOrchestrator::start(vec![Answers::healthy()], &waits).await;
    let urls = [cut_off.url.clone(), leader.url.clone()];
    let seen = look_at(&urls, &OrchestratorAccess::default(), &waits).await.unwrap();
    assert_eq!((primary(&seen), waits.slept()), (vec![23306], vec![]));
    // Without another node, nothing that this one reports is used.
    let (seen, waits, _served) = look(vec![stale]).await;
    let seen = seen.unwrap();
    assert!(primary(&seen).is_empty() && objection(&seen, 23307).contains("not checked recently"));
    assert_eq!(waits.slept(), [5; 6]);
}

#[tokio::test]
async fn two_leaders_that_disagree_are_refused() {
    let waits = StageClock::new();
    let one = FakeOrchestrator::start(vec![Answers::healthy()], &waits).await;
    let other =
        FakeOrchestrator::start(vec![Answers::of("19-cluster-after-graceful-12s.json", NO_ANALYSIS)], &waits)
            .await;
    let urls = [one.url.clone(), other.url.clone()];
    let error = look_at(&urls, &OrchestratorAccess::default(), &waits).await.unwrap_err();
    assert_eq!((error.kind, waits.slept()), (ErrorKind::Refused, vec![5; 6]));
    assert!(error.message.contains(&one.url) && error.message.contains(&other.url), "{error}");
}

#[tokio::test]
async fn alias_is_accepted_only_if_exact() {
    let unknown = Answers::healthy().and(
        "cluster-info/alias/shop-1",
        500,
        &recorded("02-cluster-info-alias-unknown.json"),
    );
    let (seen, waits, _served) = look(vec![unknown]).await;
    let error = seen.unwrap_err();
    assert!(error.kind == ErrorKind::Usage && error.message.contains("No cluster found"), "{error}");
    assert!(error.hint.unwrap().contains("topology.cluster") && waits.slept().is_empty());
    let mut info = recorded_json("02-cluster-info-alias.json");
    info["ClusterAlias"] = json!("shop-11");
    let other = Answers::healthy().and("cluster-info/alias/shop-1", 200, &info.to_string());
    let (seen, _, _served) = look(vec![other]).await;
    let error = seen.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.message.contains("shop-11"), "{error}");
}

#[tokio::test]
async fn replica_missing_after_a_takeover_is_awaited() {
    let takeover = |at: &str| {
        let info = cluster_info(&format!("19-clusters-info-after-graceful-{at}.json"), "shop-1");
        Answers::with(info, recorded_json(&format!("19-cluster-after-graceful-{at}.json")))
    };
    assert_eq!(recorded_json("19-cluster-after-graceful-0s.json").as_array().unwrap().len(), 2);
    let (seen, waits, _served) = look(vec![takeover("0s"), takeover("12s")]).await;
    let seen = seen.unwrap();
    assert_eq!((seen.len(), primary(&seen), waits.slept()), (3, vec![23307], vec![10]));
    // The rule stayed on the promoted instance, which is no candidate any more.
    assert!(candidates(&seen).is_empty() && waits.notices().contains("no candidate registered"));
    // An instance that never comes back is waited for once.
    let (seen, waits, _served) = look(vec![takeover("0s")]).await;
    assert_eq!((seen.unwrap().len(), waits.slept()), (2, vec![10]));
    assert!(waits.notices().contains("lists 2 instances of shop-1 and lacks 1"), "{}", waits.notices());
}

#[tokio::test]
async fn primary_is_found_before_during_and_after_a_failover() {
    let dead = "21-cluster-primary-dead-0.3s.json";
    let after = Answers::with(
        cluster_info("22-clusters-info-after-failover.json", "shop-1"),
        recorded_json("22-cluster-after-failover-12s.json"),
    );
    for analysis in
        ["21-replication-analysis-primary-dead.json", "21-replication-analysis-primary-dead-1.3s.json"]
    {
        let (seen, waits, _served) = look(vec![Answers::of(dead, analysis), after.clone()]).await;
        assert_eq!((primary(&seen.unwrap()), waits.slept()), (vec![23306], vec![30]), "{analysis}");
        assert!(waits.notices().contains("127.0.0.1:23307"), "{}", waits.notices());
    }
    let before = Answers::of("19-cluster-after-graceful-12s.json", NO_ANALYSIS);
    let (seen, waits, _served) = look(vec![before, after]).await;
    assert_eq!((primary(&seen.unwrap()), waits.slept()), (vec![23307], vec![]));
}

#[tokio::test]
async fn dead_primary_of_another_cluster_is_ignored() {
    let mut info = recorded_json("02-cluster-info-alias.json");
    info["ClusterName"] = json!("127.0.0.1:23308");
    let hung = Answers::of("25-cluster-hung-primary.json", "25-replication-analysis-hung-primary.json").and(
        "cluster-info/alias/shop-1",
        200,
        &info.to_string(),
    );
    let (seen, waits, _served) = look(vec![hung]).await;
    assert_eq!(primary(&seen.unwrap()), [23308]);
    assert!(!waits.slept().contains(&30), "{:?}", waits.slept());
}

#[tokio::test]
async fn dead_candidate_and_primary_are_reported_after_waiting() {
    let mut stage = Answers::of("28-cluster-both-dead.json", "28-replication-analysis-both-dead.json");
    let info = cluster_info("28-clusters-info-both-dead.json", "shop-1");
    stage = stage.and("cluster-info/alias/shop-1", 200, &info.to_string());
    let (seen, waits, _served) = look(vec![stage]).await;
    let seen = seen.unwrap();
    assert!(primary(&seen).is_empty());
    assert_eq!(waits.slept(), [30, 5, 5, 5, 5, 5, 5], "bounded");
    assert!(waits.notices().contains("DeadMasterAndSomeReplicas"), "{}", waits.notices());
    let none = choose_source(&seen, &SourceRules::default(), OnPrimary::Lock, Locking::Possible).unwrap_err();
    let reason = Error::from(none).message;
    assert!(["23306", "23307", "23308"].iter().all(|port| reason.contains(port)), "{reason}");
}

#[tokio::test]
async fn expired_candidate_rule_is_reported() {
    let mut cluster = recorded_json("03-cluster-alias.json");
    cluster[1] = recorded_json("26-instance-candidate-expired.json");
    let (seen, waits, _served) =
        look(vec![Answers::with(recorded_json("02-cluster-info-alias.json"), cluster)]).await;
    assert!(candidates(&seen.unwrap()).is_empty());
    assert!(waits.notices().contains("no candidate registered for shop-1"), "{}", waits.notices());
    let expired = Answers::with(recorded_json("02-cluster-info-alias.json"), {
        let mut cluster = recorded_json("03-cluster-alias.json");
        cluster[1] = recorded_json("26-instance-candidate-expired.json");
        cluster
    });
    let (adapter, waits, _served) = served(vec![expired]).await;
    for _ in 0..3 {
        adapter.members().await.unwrap();
        let codes: Vec<_> = adapter.findings().into_iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [CANDIDATE_EXPIRED]);
    }
    assert_eq!(waits.notices().matches("no candidate registered").count(), 1, "{}", waits.notices());
    let (adapter, _, _served) = served(vec![Answers::healthy()]).await;
    adapter.members().await.unwrap();
    assert!(adapter.findings().is_empty());
    for rule in ["must_not", "prefer_not"] {
        let mut cluster = recorded_json("03-cluster-alias.json");
        cluster[2] = recorded_json(&format!("16-instance-{rule}.json"));
        let (seen, _, _served) =
            look(vec![Answers::with(recorded_json("02-cluster-info-alias.json"), cluster)]).await;
        assert_eq!(candidates(&seen.unwrap()), [23307], "{rule}");
    }
}

#[tokio::test]
async fn two_writable_primaries_are_ambiguous() {
    let both = Answers::of("30-cluster-coprimaries-both-rw.json", "30-replication-analysis-coprimaries.json");
    let (seen, _, _served) = look(vec![both]).await;
    let seen = seen.unwrap();
    assert!(primary(&seen).is_empty());
    for port in [23306, 23308] {
        let why = objection(&seen, port);
        assert!(why.contains("one of 2 writable primaries") && why.contains("ambiguous"), "{why}");
    }
    assert!(member(&seen, 23307).candidate && objection(&seen, 23307).is_empty());
    let (seen, _, _served) = look(vec![Answers::of("31-cluster-coprimaries-1-ro.json", NO_ANALYSIS)]).await;
    let seen = seen.unwrap();
    assert_eq!(primary(&seen), [23308]);
    assert!(objection(&seen, 23306).contains("read-only"), "{}", objection(&seen, 23306));
}

#[tokio::test]
async fn read_only_primary_is_rejected() {
    let mut early = recorded_json("19-cluster-after-graceful-12s.json");
    early[1]["ReadOnly"] = json!(true);
    let early = Answers::with(recorded_json("02-cluster-info-alias.json"), early);
    let late = Answers::of("19-cluster-after-graceful-12s.json", NO_ANALYSIS);
    let (seen, waits, _served) = look(vec![early, late]).await;
    assert_eq!((primary(&seen.unwrap()), waits.slept()), (vec![23307], vec![5]));
}

#[tokio::test]
async fn null_lists_are_accepted_and_garbled_answers_refused() {
    let empty = Answers::healthy().and("cluster/alias/shop-1", 200, "null");
    let (seen, waits, _served) = look(vec![empty, Answers::healthy()]).await;
    assert_eq!((seen.unwrap().len(), waits.slept()), (3, vec![10]));
    let problems = r#"{"Code":"OK","Message":"Analysis","Details":null}"#;
    let (seen, _, _served) = look(vec![Answers::healthy().and("replication-analysis", 200, problems)]).await;
    assert_eq!(seen.unwrap().len(), 3);
    let (seen, _, _served) = look(vec![Answers::healthy().and("cluster/alias/shop-1", 200, "[{}]")]).await;
    let error = seen.unwrap_err();
    assert!(error.message.contains("shop-1") && error.message.contains("unreadable"), "{error}");
}

#[tokio::test]
async fn mariadb_is_rejected_without_server_uuid() {
    let cluster = recorded_json("mariadb-cluster.json");
    let mut info = recorded_json("02-cluster-info-alias.json");
    info["ClusterAlias"] = json!("shop-1");
    let (seen, _, _served) = look(vec![Answers::with(info, cluster)]).await;
    let seen = seen.unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|member| member.verdict.objection.is_some()), "{seen:?}");
}
