//! Promotions: the archive follows, and begins a new line if a promoted server lacks transactions.

use std::time::Duration;

use backstop_model::gtid::GtidSet;
use backstop_testkit::{ShardLayout, TestMember, TestShard};
use rustix::process::Signal;

use crate::support::program::Backstop;
use crate::support::stored_archive::{ARCHIVE, contents, held, uuid};

const SOON: Duration = Duration::from_secs(120);

fn pair() -> ShardLayout {
    ShardLayout { members: 2, grants: vec!["base", "replication"], ..ShardLayout::default() }
}

/// Waits until the current line holds this set.
async fn archived(backstop: &Backstop, set: &GtidSet) {
    let begin = std::time::Instant::now();
    while !set.is_subset_of(&held(backstop).await) {
        assert!(begin.elapsed() < SOON, "not archived: {set}, but {}", held(backstop).await);
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
    let [a, b] = &shard.members[..] else { panic!("two members") };
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("init").await;
    let archiver = backstop.spawn(&format!("--json {ARCHIVE}"), None);
    a.run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)"]).await;
    archived(&backstop, &a.gtid_executed().await).await;

    // A switchover: nothing is missing, and the line continues with the other server's files.
    b.wait_for(&a.gtid_executed().await).await;
    a.run(&["SET GLOBAL super_read_only = ON"]).await;
    promote(b).await;
    shard.follow(a, b).await;
    b.run(&["INSERT INTO one.t VALUES (1)", "INSERT INTO one.t VALUES (2)"]).await;
    archived(&backstop, &b.gtid_executed().await).await;
    let archive = contents(&backstop).await;
    assert_eq!(archive.timelines.len(), 1, "{:?}", archive.timelines);
    a.wait_for(&b.gtid_executed().await).await;

    // A crash: transactions that only the dead primary and the archive had stay on the old line.
    a.run(&["STOP REPLICA"]).await;
    b.run(&["INSERT INTO one.t VALUES (3)"]).await;
    let with_it = b.gtid_executed().await;
    archived(&backstop, &with_it).await;
    let lacks = with_it.subtract(&a.gtid_executed().await);
    b.kill();
    promote(a).await;
    a.run(&["INSERT INTO one.t VALUES (4)"]).await;
    let after = a.gtid_executed().await;
    archived(&backstop, &after).await;
    let archive = contents(&backstop).await;
    let [old, new] = &archive.timelines[..] else { panic!("two lines: {:?}", archive.timelines) };
    assert_eq!((new.parent, new.source, &new.lacks), (Some(old.number), uuid(a).await, &lacks));
    assert!(lacks.is_subset_of(&archive.held(old.number).unwrap()), "the old line keeps it");
    assert_eq!(archive.held(new.number).unwrap(), after, "lines are never merged");

    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(1), "a fork is no success: {ran}");
    assert!(ran.err.contains("a fork"), "{ran}");
}

#[tokio::test(flavor = "multi_thread")]
async fn diverged_replica_and_foreign_server_are_refused() {
    let shard = TestShard::start(pair()).await;
    let [a, b] = &shard.members[..] else { panic!("two members") };
    let backstop = Backstop::of(&shard, "clone").await;
    a.run(&["CREATE DATABASE one"]).await;
    b.wait_for(&a.gtid_executed().await).await;
    let from_replica = "archive orders --until-caught-up --set shards.orders.archive.from=replica";
    let ran = backstop.run(&format!("--json {from_replica}")).await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(held(&backstop).await, a.gtid_executed().await);

    // The replica's GTIDs would name transactions that its binlog lacks.
    let filter = |schemas: &str| format!("CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = ({schemas})");
    b.run(&["STOP REPLICA SQL_THREAD", &filter("billing"), "START REPLICA SQL_THREAD"]).await;
    backstop.run(from_replica).await.failed(20, &["REPLICATE_IGNORE_DB billing"]);
    b.run(&["STOP REPLICA SQL_THREAD", &filter(""), "START REPLICA SQL_THREAD"]).await;

    b.run(&["SET GLOBAL super_read_only = OFF", "CREATE DATABASE errant", "SET GLOBAL super_read_only = ON"])
        .await;
    let errant = format!("{}", b.gtid_executed().await.subtract(&a.gtid_executed().await));
    backstop.run(from_replica).await.failed(20, &[&errant, "primary lacks"]);

    // Another shard's server answers at the address of this shard's primary.
    let all = a.gtid_executed().await.to_string();
    a.run(&["SET GLOBAL super_read_only = ON"]).await;
    b.run(&["STOP REPLICA", "RESET REPLICA ALL", "RESET BINARY LOGS AND GTIDS"]).await;
    b.run(&["SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF", "CREATE DATABASE stranger"])
        .await;
    a.kill();
    let ran = backstop.run(&format!("{ARCHIVE} --until-caught-up")).await;
    ran.failed(20, &[&all, "shares no transaction"]);
}
