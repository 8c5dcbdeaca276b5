//! Two clusters that are configured under one shard's name, in one repository.

use backstop_testkit::{ShardLayout, TestShard};

use crate::support::program::Backstop;

const ARCHIVE: &str = "archive orders --until-caught-up";

#[tokio::test(flavor = "multi_thread")]
async fn backup_refuses_another_cluster_until_it_is_adopted() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    // The second member becomes a separate cluster.
    shard
        .candidate()
        .run(&[
            "STOP REPLICA",
            "RESET REPLICA ALL",
            "RESET BINARY LOGS AND GTIDS",
            "SET GLOBAL super_read_only = OFF",
            "SET GLOBAL read_only = OFF",
            "CREATE DATABASE elsewhere",
        ])
        .await;
    let backstop = Backstop::of(&shard, "clone").await;
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    let members = shard.endpoints().iter().map(ToString::to_string).collect::<Vec<_>>();
    let listed = format!("members = {members:?}, candidate = '{}'", members[1]);
    assert!(text.contains(&listed), "{text}");
    let text = format!("{text}archive = {{ from = 'primary' }}\n");
    let configure = |index: usize| {
        let only = text.replace(&listed, &format!("members = ['{}']", members[index]));
        std::fs::write(&backstop.config, only).unwrap();
    };
    let uuids = [
        shard.primary().value("SELECT @@server_uuid").await,
        shard.candidate().value("SELECT @@server_uuid").await,
    ];
    configure(0);
    let first = backstop.json("backup orders").await;
    backstop.json(ARCHIVE).await;
    let ids = backstop.backups().await;
    assert_eq!(ids, [first["backup_id"].as_str().unwrap()]);

    configure(1);
    let refused = [uuids[0].as_str(), uuids[1].as_str(), "backstop shard adopt orders"];
    backstop.run("backup orders").await.failed(20, &refused);
    backstop.run(ARCHIVE).await.failed(20, &["shares no transaction"]);
    let check = backstop.run("--json check orders").await;
    assert!(check.out.contains("another-history"), "{check}");
    backstop.json("--set shards.orders.retention.daily=1 prune orders --apply").await;
    assert_eq!(backstop.backups().await, ids);

    let adopted = backstop.json("shard adopt orders").await;
    assert_eq!(adopted["adopted"]["servers"], serde_json::json!([uuids[1]]), "{adopted}");
    assert_eq!(adopted["line"], 2, "{adopted}");
    let second = backstop.json("backup orders").await;
    assert_eq!(backstop.backups().await[0], second["backup_id"].as_str().unwrap());
    backstop.json(ARCHIVE).await;
    configure(0);
    backstop.run("backup orders").await.failed(20, &refused);
}
