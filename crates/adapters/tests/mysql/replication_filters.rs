//! Filters of real members, read with only the documented grants.

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::topology::StaticMembers;
use backstop_engine::ports::Topology;
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::topology::{NoAnswer, ReplicationFidelity};

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_skipped_errors_are_detected() {
    let layout = ShardLayout { members: 2, grants: vec!["base"], ..ShardLayout::default() };
    let shard = TestShard::start(
        layout
            .option("binlog_ignore_db = hidden")
            .option("binlog_ignore_db = secret")
            .option("replica_skip_errors = 1062")
            .option("replicate_wild_ignore_table = tmp%.%"),
    )
    .await;
    let seen = fidelity(&shard).await;
    let wild = "REPLICATE_WILD_IGNORE_TABLE tmp%.%".to_owned();
    let expected = ReplicationFidelity {
        filters: vec![wild.clone()],
        binlog_filters: vec!["binlog_ignore_db hidden,secret".to_owned()],
        skipped_errors: Some("1062".to_owned()),
        ..ReplicationFidelity::default()
    };
    assert_eq!(seen, [expected.clone(), expected.clone()]);
    shard
        .candidate()
        .run(&[
            "STOP REPLICA SQL_THREAD",
            "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ()",
            "CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = (a, b) FOR CHANNEL ''",
            "CHANGE REPLICATION FILTER REPLICATE_REWRITE_DB = ((x, y))",
            "SET GLOBAL replica_exec_mode = 'IDEMPOTENT'",
            "START REPLICA SQL_THREAD",
        ])
        .await;
    let filters = vec!["REPLICATE_IGNORE_DB a,b".to_owned(), "REPLICATE_REWRITE_DB (x,y)".to_owned()];
    let changed = ReplicationFidelity { filters, idempotent: true, ..expected.clone() };
    assert_eq!(fidelity(&shard).await, [expected, changed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn member_without_log_replica_updates_is_detected() {
    let layout = ShardLayout { members: 2, grants: vec!["base"], ..ShardLayout::default() };
    let shard =
        TestShard::start(layout.option("log_replica_updates = OFF").option("performance_schema = OFF")).await;
    shard
        .candidate()
        .run(&["STOP REPLICA", "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (a)", "START REPLICA"])
        .await;
    let [primary, candidate] = fidelity(&shard).await;
    let expected = ReplicationFidelity { log_replica_updates: false, ..ReplicationFidelity::default() };
    assert_eq!(primary, expected);
    assert_eq!(candidate, ReplicationFidelity { filters: vec!["REPLICATE_DO_DB a".to_owned()], ..expected });
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_member_is_distinguished_from_a_stopped_one() {
    let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ends: Vec<_> = [&hangs, &gone]
        .map(|one| backstop_types::ids::Endpoint::new("127.0.0.1", one.local_addr().unwrap().port()))
        .into();
    drop(gone);
    let credentials = backstop_testkit::accounts::credentials("x");
    let seen = StaticMembers::new(Connector::new(&credentials), ends, None).members().await.unwrap();
    assert!(matches!(&seen[0].state, Err(NoAnswer::Silent(_))), "{:?}", seen[0]);
    assert!(matches!(&seen[1].state, Err(NoAnswer::Unreachable(_))), "{:?}", seen[1]);
}

async fn fidelity(shard: &TestShard) -> [ReplicationFidelity; 2] {
    let seen = StaticMembers::new(Connector::new(&shard.credentials()), shard.endpoints(), None)
        .members()
        .await
        .unwrap();
    [0, 1].map(|index| match &seen[index].state {
        Ok(state) => state.fidelity.clone(),
        Err(why) => panic!("member {index} {why}"),
    })
}
