//! Real servers: orchestrator proposes, SQL decides.

use std::time::Duration;

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::topology::{Orchestrator, OrchestratorTarget};
use backstop_config::credentials::OrchestratorAccess;
use backstop_engine::ports::Topology;
use backstop_policy::topology::{NoSource, choose_source, current_primary};
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::freeze::OnPrimary;
use backstop_types::topology::{Locking, Member, NoAnswer, Role, SourceChoice, SourceRules};
use serde_json::{Value, json};

use crate::support::fake_orchestrator::{Answers, FakeOrchestrator, StageClock, recorded_json};

/// Returns orchestrator's answer for this shard.
async fn cluster(shard: &TestShard) -> Value {
    let mut cluster = recorded_json("03-cluster-alias.json");
    let ports: Vec<u16> = shard.members.iter().map(|member| member.endpoint().port).collect();
    let key = |port: u16| json!({"Hostname": "127.0.0.1", "Port": port});
    for (index, member) in shard.members.iter().enumerate() {
        cluster[index]["Key"] = key(ports[index]);
        cluster[index]["ServerUUID"] = json!(member.value("SELECT @@server_uuid").await);
        cluster[index]["Replicas"] = json!([]);
        if index > 0 {
            cluster[index]["MasterKey"] = key(ports[0]);
        }
    }
    cluster
}

async fn look(shard: &TestShard, cluster: Value) -> Vec<Member> {
    let waits = StageClock::new();
    let stage = Answers::with(recorded_json("02-cluster-info-alias.json"), cluster);
    let served = FakeOrchestrator::start(vec![stage], &waits).await;
    let (urls, access) = ([served.url.clone()], OrchestratorAccess::default());
    let asked = OrchestratorTarget {
        urls: &urls,
        cluster: "shop-1",
        access: &access,
        max_lag: Duration::from_secs(60),
    };
    let connector = Connector::new(&shard.credentials());
    Orchestrator::new(&asked, connector, waits.run_context()).unwrap().members().await.unwrap()
}

fn choose(members: &[Member], any_replica: bool) -> Result<SourceChoice, NoSource> {
    let rules = SourceRules { any_replica, max_lag: Duration::from_secs(60) };
    choose_source(members, &rules, OnPrimary::Lock, Locking::Possible)
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_overrides_orchestrators_answers() {
    let shard = TestShard::start(ShardLayout { grants: vec!["base"], ..ShardLayout::default() }).await;
    let said = cluster(&shard).await;
    let seen = look(&shard, said.clone()).await;
    let choice = choose(&seen, false).unwrap();
    assert_eq!((choice.endpoint, choice.role), (shard.candidate().endpoint(), Role::Candidate));
    assert_eq!(current_primary(&seen).unwrap().0, &shard.primary().endpoint());

    // The server that answers at the candidate's address is not the one that orchestrator means.
    let mut wrong = said.clone();
    wrong[1]["ServerUUID"] = json!("c16e4266-e648-11f1-bd60-02fc00000001");
    let seen = look(&shard, wrong).await;
    let mistaken = seen.iter().find(|member| member.candidate).unwrap();
    assert!(
        matches!(&mistaken.state, Err(NoAnswer::Mistaken(why)) if why.contains("c16e4266")),
        "{mistaken:?}"
    );
    let choice = choose(&seen, false).unwrap();
    assert_eq!((choice.endpoint, choice.role), (shard.primary().endpoint(), Role::Primary));
    assert!(choice.reason.contains("c16e4266"), "the reason is told: {}", choice.reason);

    // orchestrator's answer alone excludes a server, and the reason is reported.
    let mut downtimed = said.clone();
    downtimed[1]["IsDowntimed"] = json!(true);
    let choice = choose(&look(&shard, downtimed).await, true).unwrap();
    assert_eq!((choice.endpoint, choice.role), (shard.replica().endpoint(), Role::Replica));
    assert!(choice.reason.contains("downtimed"), "{}", choice.reason);

    // orchestrator reports that the candidate replicates; the candidate itself does not.
    shard.candidate().run(&["STOP REPLICA"]).await;
    let choice = choose(&look(&shard, said.clone()).await, false).unwrap();
    assert_eq!(choice.role, Role::Primary);
    assert!(choice.reason.contains("replication threads are not running"), "{}", choice.reason);

    // No server is left, and every reason is reported.
    let mut nobody = said;
    nobody[0]["IsDowntimed"] = json!(true);
    let none = choose(&look(&shard, nobody).await, false).unwrap_err();
    assert!(none.reason.contains("downtimed") && none.rejected.len() == 3, "{}", none.reason);
}
