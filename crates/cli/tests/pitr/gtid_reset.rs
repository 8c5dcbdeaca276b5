//! Backups and recoveries after a source has reset its GTIDs.

use backstop_testkit::{ShardLayout, TestShard};

use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, contents};

#[tokio::test(flavor = "multi_thread")]
async fn backup_after_a_reset_reaches_later_transactions() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    primary.run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)"]).await;
    backstop.json(&caught_up).await;
    backstop.json("backup orders").await;
    primary.run(&["INSERT INTO one.t VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO one.t VALUES (2)"]).await;
    backstop.json(&caught_up).await;

    // The reset is not detected yet: this backup is no earlier state of anything that is archived.
    primary.run(&["RESET BINARY LOGS AND GTIDS", "INSERT INTO one.t VALUES (200)"]).await;
    let ran = backstop.run("--json backup orders").await;
    assert!(ran.err.contains("lacks its own archived transactions"), "{ran}");
    let doubtful = ran.json()["backup_id"].as_str().unwrap().to_owned();
    let latest = backstop.json("plan orders --to latest --standalone").await;
    assert_ne!(latest["backup_id"], doubtful.as_str());
    backstop
        .run(&format!("plan orders --to latest --standalone --backup {doubtful}"))
        .await
        .failed(21, &["line"]);

    assert_eq!(backstop.run(&caught_up).await.status.code(), Some(1), "a fork is no success");
    assert_eq!(contents(&backstop).await.timelines.len(), 2);
    backstop.run("plan orders --to latest --standalone").await.failed(21, &["backstop backup orders"]);
    let newest = backstop.json("backup orders").await["backup_id"].clone();
    primary.run(&["INSERT INTO one.t VALUES (201)", "INSERT INTO one.t VALUES (202)"]).await;
    backstop.json(&caught_up).await;
    for (line, rows) in [("--line 1", "1,2"), ("", "1,2,200,201,202")] {
        let rebuilt = RecoveredServer::at(shard.base().join(format!("r{}", line.len())));
        let report = rebuilt.recover(&backstop, &format!("--to latest {line} --standalone")).await;
        assert_eq!(rebuilt.value("SELECT GROUP_CONCAT(id ORDER BY id) FROM one.t").await, rows);
        assert_eq!(report["backup_id"] == newest, line.is_empty(), "{report}");
    }
    let status = backstop.run("--json status orders --set shards.orders.archive.from=primary").await;
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    let windows = status["shards"][0]["coverage"]["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 1, "{status}");
    assert_eq!(windows[0]["gtid_to"], primary.gtid_executed().await.to_string(), "{status}");
}
