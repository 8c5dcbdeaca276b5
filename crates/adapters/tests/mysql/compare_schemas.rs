//! Compares the tables of a member with its primary's, with only the documented grants.

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::mysql::source_settings::MysqlInspector;
use backstop_adapters::topology::StaticMembers;
use backstop_engine::compare_schemas;
use backstop_engine::ports::Topology;
use backstop_policy::topology::choose_source;
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::finding::Finding;
use backstop_types::freeze::OnPrimary;
use backstop_types::topology::{Locking, SourceRules};

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_only_one_member_are_named() {
    let shard =
        TestShard::start(ShardLayout { members: 2, grants: vec!["base"], ..ShardLayout::default() }).await;
    shard.primary().run(&["CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)"]).await;
    shard.settle().await;
    let same = compared(&shard).await;
    assert_eq!(same.code, "tables-compared", "{same:?}");

    shard
        .candidate()
        .run(&[
            "SET GLOBAL super_read_only = OFF",
            "SET sql_log_bin = 0",
            "DROP TABLE shop.t",
            "CREATE DATABASE drifted",
            "SET GLOBAL super_read_only = ON",
        ])
        .await;
    let differs = compared(&shard).await;
    assert_eq!(differs.code, "tables-differ", "{differs:?}");
    assert!(differs.what.ends_with("it lacks shop.t, and also has drifted"), "{}", differs.what);

    // DDL that waits keeps the replica from executing what the primary has executed.
    let mut blocker = shard.candidate().root().await;
    blocker.run("LOCK INSTANCE FOR BACKUP").await.unwrap();
    shard.primary().run(&["CREATE DATABASE later"]).await;
    let late = compared(&shard).await;
    assert_eq!(late.code, "tables-not-compared", "{late:?}");
    assert!(late.what.contains("did not catch up"), "{}", late.what);
}

async fn compared(shard: &TestShard) -> Finding {
    let connector = Connector::new(&shard.credentials());
    let topology =
        StaticMembers::new(connector.clone(), shard.endpoints(), Some(shard.candidate().endpoint()));
    let members = topology.members().await.unwrap();
    let rules = SourceRules::default();
    let choice = choose_source(&members, &rules, OnPrimary::Lock, Locking::Never).unwrap();
    assert_eq!(choice.endpoint, shard.candidate().endpoint(), "{}", choice.reason);
    let finding =
        compare_schemas::compare_tables(&"orders".parse().unwrap(), &choice, &MysqlInspector::new(connector))
            .await;
    finding.expect("a replica is compared")
}
