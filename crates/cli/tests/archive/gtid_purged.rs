//! Archivers that are restarted on servers whose `gtid_purged` was set, as on every server that a
//! recovery or a clone made.

use std::time::{Duration, Instant};

use backstop_testkit::{ShardLayout, TestMember, TestShard};
use rustix::process::Signal;

use crate::support::program::Backstop;
use crate::support::stored_archive::{ARCHIVE, contents, held};

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Transactions that were executed elsewhere, before these servers were made.
const ELSEWHERE: &str = "11111111-0000-4000-8000-000000000000:1-100";

/// Resets a server's binlog and sets its `gtid_purged`: the binlog has no earlier transaction.
async fn remade(member: &TestMember) {
    let executed = member.gtid_executed().await;
    let executed =
        if executed.to_string().contains(ELSEWHERE) { executed.to_string() } else { ELSEWHERE.to_owned() };
    member.run(&["RESET BINARY LOGS AND GTIDS", &format!("SET GLOBAL gtid_purged = '{executed}'")]).await;
}

/// Runs three archivers that end by themselves and three that are killed, one after the other, with
/// one row for each. Each connects a few times.
async fn restarts(backstop: &Backstop, primary: &TestMember, rows: std::ops::Range<u32>) {
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    for row in rows {
        primary.run(&[&format!("INSERT INTO one.t VALUES ({row})")]).await;
        let now = primary.gtid_executed().await;
        let told = if row % 2 == 0 {
            let ran = backstop.run(&caught_up).await;
            assert_eq!(ran.status.code(), Some(0), "{ran}");
            ran.err
        } else {
            let archiver = backstop.spawn(ARCHIVE, None);
            let begin = Instant::now();
            while !now.is_subset_of(&held(backstop).await) || !archiver.told().contains("archiving from") {
                assert!(begin.elapsed() < WAIT_TIMEOUT, "not archived: {now}: {}", archiver.told());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            archiver.signal(Signal::KILL);
            archiver.end().await.err
        };
        assert_eq!(held(backstop).await, now);
        let connected = told.matches("archiving from").count();
        assert!((1..=3).contains(&connected), "connected {connected} times: {told}");
    }
    assert_eq!(contents(backstop).await.timelines.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn archiver_continues_after_gtid_purged_was_set() {
    let layout = ShardLayout { members: 2, grants: vec!["base", "replication"], ..ShardLayout::default() };
    let shard = TestShard::start(layout).await;
    let [db1, db2] = &shard.members[..] else { panic!("two members") };
    let backstop = Backstop::of(&shard, "clone").await;
    db1.run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)"]).await;
    db2.wait_for(&db1.gtid_executed().await).await;
    db2.run(&["STOP REPLICA", "RESET REPLICA"]).await;
    remade(db1).await;
    remade(db2).await;
    db2.run(&["START REPLICA"]).await;
    restarts(&backstop, db1, 0..6).await;

    // A replica that was recovered: its earlier transactions came with its files, and its binlog
    // begins after them.
    db2.wait_for(&db1.gtid_executed().await).await;
    db2.run(&["STOP REPLICA"]).await;
    remade(db2).await;
    db1.run(&["SET GLOBAL super_read_only = ON"]).await;
    db2.run(&["RESET REPLICA ALL", "SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"]).await;
    restarts(&backstop, db2, 6..12).await;
}
