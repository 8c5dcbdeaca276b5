//! A source that resets its binlog and its GTIDs while it is streamed from: its open stream does
//! not show that.

use std::time::{Duration, Instant};

use backstop_testkit::{TestMember, TestShard};
use rustix::process::Signal;

use crate::byte_identical::single;
use crate::kill_random::wait_for_archiver;
use crate::support::program::{Backstop, RunningBackstop};
use crate::support::stored_archive::{ARCHIVE, contents, held};

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const RESET: &str = "RESET BINARY LOGS AND GTIDS";

/// Writes rows in two files, all of them archived.
async fn history(backstop: &Backstop, primary: &TestMember, archiver: &RunningBackstop) {
    primary
        .run(&["CREATE DATABASE one", "CREATE TABLE one.t (id INT PRIMARY KEY)", "FLUSH BINARY LOGS"])
        .await;
    for row in 1..8 {
        primary.run(&[&format!("INSERT INTO one.t VALUES ({row})")]).await;
    }
    all_archived(backstop, primary, archiver, 1).await;
}

/// Waits until all transactions of the primary are on the line of this number.
async fn all_archived(backstop: &Backstop, primary: &TestMember, archiver: &RunningBackstop, line: usize) {
    let (begin, now) = (Instant::now(), primary.gtid_executed().await);
    loop {
        let there = held(backstop).await;
        if contents(backstop).await.timelines.len() == line && now.is_subset_of(&there) {
            return;
        }
        assert!(
            begin.elapsed() < WAIT_TIMEOUT,
            "not archived on line {line}: {now}, but {there}: {}",
            archiver.told()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archiver_detects_a_reset_and_begins_a_timeline() {
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let archiver = backstop.spawn(ARCHIVE, None);
    history(&backstop, primary, &archiver).await;
    let old = held(&backstop).await;

    // Nothing is written: the archiver detects the reset all the same.
    let begin = Instant::now();
    primary.run(&[RESET]).await;
    all_archived(&backstop, primary, &archiver, 2).await;
    assert!(begin.elapsed() < Duration::from_secs(20), "found after {:?}", begin.elapsed());
    for row in 200..204 {
        primary.run(&[&format!("INSERT INTO one.t VALUES ({row})")]).await;
    }
    all_archived(&backstop, primary, &archiver, 2).await;
    let archive = contents(&backstop).await;
    let [first, second] = &archive.timelines[..] else { panic!("two lines: {:?}", archive.timelines) };
    assert_eq!(archive.held(first.number).unwrap(), old);
    assert!(
        second.common.is_empty(),
        "numbers that were used again are no common history: {}",
        second.common
    );
    assert_eq!(archive.held(second.number).unwrap(), primary.gtid_executed().await);
    archiver.signal(Signal::TERM);
    archiver.end().await;

    // Resets between two archivers: with fewer transactions than before, and then with more.
    for rows in [300..302, 400..420] {
        let timelines = contents(&backstop).await.timelines.len();
        primary.run(&[RESET]).await;
        for row in rows {
            primary.run(&[&format!("INSERT INTO one.t VALUES ({row})")]).await;
        }
        let ran = backstop.run(&format!("{ARCHIVE} --until-caught-up")).await;
        assert_eq!(ran.status.code(), Some(1), "a fork is no success: {ran}");
        let archive = contents(&backstop).await;
        assert_eq!(archive.timelines.len(), timelines + 1);
        let line = archive.current().unwrap();
        assert!(line.common.is_empty(), "{}", line.common);
        assert_eq!(archive.held(line.number).unwrap(), primary.gtid_executed().await);
        backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
        assert_eq!(contents(&backstop).await.timelines.len(), timelines + 1, "the fork is reported once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_after_a_reset_are_acknowledged_once_archived() {
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    wait_for_archiver(primary).await;
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    history(&backstop, primary, &archiver).await;
    primary.run(&[RESET]).await;
    for row in 200..204 {
        primary.run(&[&format!("INSERT INTO one.t VALUES ({row})")]).await;
        // Acknowledged transactions are archived, on the new line.
        let (archive, now) = (contents(&backstop).await, primary.gtid_executed().await);
        let line = archive.current().unwrap();
        assert_eq!(
            archive.timelines.len(),
            2,
            "row {row} was acknowledged from the old stream: {}",
            archiver.told()
        );
        assert!(now.is_subset_of(&archive.held(line.number).unwrap()), "row {row}: {now}");
    }
    archiver.signal(Signal::TERM);
    archiver.end().await;
}
