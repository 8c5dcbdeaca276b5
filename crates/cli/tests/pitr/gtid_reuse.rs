//! A server that was rolled back and has reused its GTIDs, and one that only restarted.

use std::path::Path;
use std::process::Command;

use backstop_testkit::{ShardLayout, TestShard};
use rustix::process::Signal;

use crate::random_history::archived;
use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, contents, held, uuid};

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_histories_of_reused_gtids_can_be_recovered() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    primary
        .run(&[
            "CREATE DATABASE one",
            "CREATE TABLE one.t (id INT PRIMARY KEY)",
            "INSERT INTO one.t VALUES (1)",
        ])
        .await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    backstop.json(&caught_up).await;
    let common = primary.gtid_executed().await;
    let (data, older) = (primary.datadir().to_owned(), shard.base().join("older"));
    primary.kill();
    copy(&data, &older);

    primary.start().await;
    backstop.json(&caught_up).await;
    primary.run(&["INSERT INTO one.t VALUES (101)", "INSERT INTO one.t VALUES (102)"]).await;
    let lost = primary.gtid_executed().await;
    backstop.json(&caught_up).await;
    assert_eq!(held(&backstop).await, lost);
    primary.kill();
    copy(&older, &data);

    // More transactions than were lost: by its GTIDs the server has all that is archived, and more.
    primary.start().await;
    primary
        .run(&[
            "INSERT INTO one.t VALUES (2)",
            "INSERT INTO one.t VALUES (3)",
            "INSERT INTO one.t VALUES (4)",
        ])
        .await;
    let now = primary.gtid_executed().await;
    assert!(lost.is_subset_of(&now), "the numbers are used again");
    let ran = backstop.run(&caught_up).await;
    assert_eq!(ran.status.code(), Some(1), "a fork is no success: {ran}");
    assert!(ran.err.contains("reused its transaction numbers"), "{ran}");

    let archive = contents(&backstop).await;
    let [old, new] = &archive.timelines[..] else { panic!("two lines: {:?}", archive.timelines) };
    assert_eq!((new.parent, new.source), (Some(old.number), uuid(primary).await));
    assert_eq!((&new.lacks, &new.common), (&lost.subtract(&common), &common));
    assert_eq!(archive.held(old.number).unwrap(), lost);
    assert_eq!(archive.held(new.number).unwrap(), now);
    // After the first report, the loss is not reported again.
    backstop.json(&caught_up).await;
    assert_eq!(contents(&backstop).await.timelines.len(), 2);

    for (line, rows) in [("--line 1", "1,101,102"), ("", "1,2,3,4")] {
        let rebuilt = RecoveredServer::at(shard.base().join(format!("r{}", line.len())));
        rebuilt.recover(&backstop, &format!("--to latest {line} --standalone")).await;
        assert_eq!(rebuilt.value("SELECT GROUP_CONCAT(id ORDER BY id) FROM one.t").await, rows);
    }
    // Backups of the new line count for it, though they hold the GTIDs that the old line keeps.
    let newest = backstop.json("backup orders").await["backup_id"].clone();
    assert_eq!(backstop.json("plan orders --to latest --standalone").await["backup_id"], newest);
    assert_ne!(backstop.json("plan orders --to latest --line 1 --standalone").await["backup_id"], newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_source_continues_its_timeline() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    primary.run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)"]).await;
    backstop.json(&caught_up).await;
    primary.run(&["INSERT INTO one.t VALUES (1)"]).await;
    primary.stop().await;
    primary.start().await;
    primary.run(&["INSERT INTO one.t VALUES (2)"]).await;
    // From the middle of a file into the next one; then nothing, in a file with transactions and in
    // one without.
    backstop.json(&caught_up).await;
    backstop.json(&caught_up).await;
    primary.run(&["FLUSH BINARY LOGS"]).await;
    backstop.json(&caught_up).await;
    backstop.json(&caught_up).await;

    // A running archiver waits for the restarted server.
    let archiver = backstop.spawn(&format!("--json {ARCHIVE}"), None);
    primary.run(&["INSERT INTO one.t VALUES (3)"]).await;
    archived(&backstop, &primary.gtid_executed().await).await;
    primary.stop().await;
    primary.start().await;
    primary.run(&["INSERT INTO one.t VALUES (4)"]).await;
    archived(&backstop, &primary.gtid_executed().await).await;
    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(contents(&backstop).await.timelines.len(), 1);
}
