//! Promotions: the archive follows, and begins a new line if a promoted server lacks transactions.

use std::time::Duration;

use backstop_testkit::{ShardLayout, TestMember, TestShard};
use backstop_types::gtid::GtidSet;
use rustix::process::Signal;

use crate::support::program::Backstop;
use crate::support::stored_archive::{ARCHIVE, contents, held, uuid};

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

fn pair() -> ShardLayout {
    ShardLayout { members: 2, grants: vec!["base", "replication"], ..ShardLayout::default() }
}

/// Waits until the current line holds this set.
async fn archived(backstop: &Backstop, set: &GtidSet) {
    let begin = std::time::Instant::now();
    while !set.is_subset_of(&held(backstop).await) {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "not archived: {set}, but {}", held(backstop).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn promote(member: &TestMember) {
    member
        .run(&[
            "STOP REPLICA",
            "RESET REPLICA ALL",
            "SET GLOBAL super_read_only = OFF",
            "SET GLOBAL read_only = OFF",
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_begins_a_timeline_only_at_a_fork() {
    let shard = TestShard::start(pair()).await;
    let [db1, db2] = &shard.members[..] else { panic!("two members") };
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("init").await;
    let archiver = backstop.spawn(&format!("--json {ARCHIVE}"), None);
    db1.run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)"]).await;
    archived(&backstop, &db1.gtid_executed().await).await;

    // A switchover: nothing is missing, and the line continues with the other server's files.
    db2.wait_for(&db1.gtid_executed().await).await;
    db1.run(&["SET GLOBAL super_read_only = ON"]).await;
    promote(db2).await;
    shard.follow(db1, db2).await;
    db2.run(&["INSERT INTO one.t VALUES (1)", "INSERT INTO one.t VALUES (2)"]).await;
    archived(&backstop, &db2.gtid_executed().await).await;
    let archive = contents(&backstop).await;
    assert_eq!(archive.timelines.len(), 1, "{:?}", archive.timelines);
    db1.wait_for(&db2.gtid_executed().await).await;

    // A crash: transactions that only the dead primary and the archive had stay on the old line.
    db1.run(&["STOP REPLICA"]).await;
    db2.run(&["INSERT INTO one.t VALUES (3)"]).await;
    let with_it = db2.gtid_executed().await;
    archived(&backstop, &with_it).await;
    let lacks = with_it.subtract(&db1.gtid_executed().await);
    db2.kill();
    promote(db1).await;
    db1.run(&["INSERT INTO one.t VALUES (4)"]).await;
    let after = db1.gtid_executed().await;
    archived(&backstop, &after).await;
    let archive = contents(&backstop).await;
    let [old, new] = &archive.timelines[..] else { panic!("two lines: {:?}", archive.timelines) };
    assert_eq!((new.parent, new.source, &new.lacks), (Some(old.number), uuid(db1).await, &lacks));
    assert!(lacks.is_subset_of(&archive.held(old.number).unwrap()), "the old line keeps it");
    assert_eq!(archive.held(new.number).unwrap(), after, "lines are never merged");

    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(1), "a fork is no success: {ran}");
    assert!(ran.err.contains("fork:"), "{ran}");
}

#[tokio::test(flavor = "multi_thread")]
async fn diverged_replica_and_foreign_server_are_refused() {
    let shard = TestShard::start(pair()).await;
    let [db1, db2] = &shard.members[..] else { panic!("two members") };
    let backstop = Backstop::of(&shard, "clone").await;
    db1.run(&["CREATE DATABASE one"]).await;
    db2.wait_for(&db1.gtid_executed().await).await;
    let from_replica = "archive orders --until-caught-up --set shards.orders.archive.from=replica";
    let ran = backstop.run(&format!("--json {from_replica}")).await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(held(&backstop).await, db1.gtid_executed().await);

    // The replica's GTIDs would name transactions that its binlog lacks.
    let filter = |schemas: &str| format!("CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = ({schemas})");
    db2.run(&["STOP REPLICA SQL_THREAD", &filter("billing"), "START REPLICA SQL_THREAD"]).await;
    backstop.run(from_replica).await.failed(20, &["REPLICATE_IGNORE_DB billing"]);
    db2.run(&["STOP REPLICA SQL_THREAD", &filter(""), "START REPLICA SQL_THREAD"]).await;

    db2.run(&["SET GLOBAL super_read_only = OFF", "CREATE DATABASE errant"]).await;
    db2.run(&["SET GLOBAL super_read_only = ON"]).await;
    let errant = format!("{}", db2.gtid_executed().await.subtract(&db1.gtid_executed().await));
    backstop.run(from_replica).await.failed(20, &[&errant, "primary lacks"]);

    // Another shard's server answers at the address of this shard's primary.
    let all = db1.gtid_executed().await.to_string();
    db1.run(&["SET GLOBAL super_read_only = ON"]).await;
    db2.run(&["STOP REPLICA", "RESET REPLICA ALL", "RESET BINARY LOGS AND GTIDS"]).await;
    db2.run(&["SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF", "CREATE DATABASE stranger"])
        .await;
    db1.kill();
    let ran = backstop.run(&format!("{ARCHIVE} --until-caught-up")).await;
    ran.failed(20, &[&all, "shares no transaction"]);
}
