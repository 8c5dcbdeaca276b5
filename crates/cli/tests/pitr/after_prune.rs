//! The archive after a prune: every moment that is reported as recoverable can be recovered.

use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::gtid::GtidSet;

use crate::random_history::forget_the_past;
use crate::support::program::{Backstop, until};
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, contents, held};

const CONFIGURED: &str = "--set shards.orders.archive.from=primary";

#[tokio::test(flavor = "multi_thread")]
async fn prune_keeps_the_beginning_of_a_file_that_is_needed() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    primary.run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)"]).await;
    backstop.json("backup orders").await;
    // Several segments of one file, on both sides of a backup.
    for id in 1..=3 {
        primary.run(&[&format!("INSERT INTO one.t VALUES ({id})")]).await;
        backstop.json(&caught_up).await;
    }
    let backup = backstop.json("backup orders").await;
    for id in 4..=6 {
        primary.run(&[&format!("INSERT INTO one.t VALUES ({id})")]).await;
        backstop.json(&caught_up).await;
    }
    primary.run(&["FLUSH BINARY LOGS", "INSERT INTO one.t VALUES (7)"]).await;
    backstop.json(&caught_up).await;
    let before = contents(&backstop).await;

    let taken_at: chrono::DateTime<chrono::Utc> = backup["taken_at"].as_str().unwrap().parse().unwrap();
    let old = || chrono::Utc::now() - taken_at > chrono::Duration::seconds(3);
    until(std::time::Duration::from_secs(60), || "time stands still".to_owned(), old).await;
    let rules = "--set shards.orders.retention.keep_all=7d --set shards.orders.retention.binlogs=1s";
    let pruned = backstop.json(&format!("prune orders --apply {rules}")).await;
    assert_eq!(pruned["shards"][0]["archive"]["forgotten"], 2, "{pruned}");
    let after = contents(&backstop).await;
    assert_eq!(after.segments.len(), before.segments.len() - 2);
    let first = &after.segments[0];
    assert_eq!((first.start, &first.file), (0, &after.segments[1].file), "it describes what follows");

    // Pruned transactions are no gap, neither now nor to an archiver that continues.
    let status = backstop.run(&format!("--json status orders {CONFIGURED}")).await;
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    let coverage = &status["shards"][0]["coverage"];
    assert_eq!(coverage["gaps"].as_array().unwrap().len(), 0, "{coverage}");
    let windows = coverage["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 2, "the first backup is a moment by itself: {coverage}");
    for (number, window) in windows.iter().enumerate() {
        for (moment, set) in [("from", "gtid_from"), ("to", "gtid_to")] {
            let rebuilt = RecoveredServer::at(shard.base().join(format!("w{number}{moment}")));
            let how = format!("--to {} --standalone", window[moment].as_str().unwrap());
            rebuilt.recover(&backstop, &how).await;
            let expected: GtidSet = window[set].as_str().unwrap().parse().unwrap();
            assert_eq!(rebuilt.held().await, expected, "{how}: {window}");
        }
    }
    let too_early = taken_at - chrono::Duration::milliseconds(1);
    let line = format!("plan orders --standalone --to {}", too_early.to_rfc3339());
    backstop.run(&line).await.failed(21, &["nearest recoverable"]);

    forget_the_past(primary).await;
    primary.run(&["INSERT INTO one.t VALUES (8)"]).await;
    let report = backstop.json(&caught_up).await;
    assert_eq!(report["gaps"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    let rebuilt = RecoveredServer::at(shard.base().join("latest"));
    rebuilt.recover(&backstop, "--to latest --standalone").await;
    assert_eq!(rebuilt.value("SELECT COUNT(*) FROM one.t").await, "8");
    let verified = backstop.json("verify orders --content").await;
    assert_eq!(verified["ok"], true, "{verified}");
}
