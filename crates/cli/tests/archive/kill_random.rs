//! SIGKILL of the archiver, the primary or both at random moments under load: acknowledged
//! transactions are in the archive.

use std::time::Duration;

use backstop_testkit::workload::WrittenRows;
use backstop_testkit::{TestMember, TestShard, TestWorkload};
use rustix::process::Signal;

use crate::byte_identical::single;
use crate::support::program::{Backstop, RunningBackstop};
use crate::support::random::Random;
use crate::support::recoverable_rows::lost;
use crate::support::stored_archive::ARCHIVE;

/// Makes a primary wait for the archiver without a time limit, also after a restart.
pub async fn wait_for_archiver(primary: &TestMember) {
    primary
        .run(&[
            "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
            "SET PERSIST rpl_semi_sync_source_timeout = 4294967295",
            "SET PERSIST rpl_semi_sync_source_wait_for_replica_count = 1",
            "SET PERSIST rpl_semi_sync_source_wait_no_replica = ON",
            "SET PERSIST rpl_semi_sync_source_wait_point = AFTER_SYNC",
            "SET PERSIST rpl_semi_sync_source_enabled = ON",
        ])
        .await;
}

/// Returns the number of rounds: `BACKSTOP_TEST_ROUNDS`, else 5.
pub fn rounds() -> usize {
    std::env::var("BACKSTOP_TEST_ROUNDS").map_or(5, |rounds| rounds.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_commit_is_lost_with_semi_sync() {
    let shard = TestShard::start(single()).await;
    wait_for_archiver(shard.primary()).await;
    let line = format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true");
    let lost = killed(&shard, &line).await;
    assert_eq!(lost.0, 0, "acknowledged and lost");
}

/// The negative control: if no archiver is waited for, the same rounds do lose commits, and only
/// the newest.
#[tokio::test(flavor = "multi_thread")]
async fn newest_commits_are_lost_without_semi_sync() {
    let shard = TestShard::start(single()).await;
    let (lost, longest) = killed(&shard, ARCHIVE).await;
    assert!(lost > 0, "{} rounds lost nothing: this test cannot tell a loss", rounds());
    eprintln!("without semi-sync {lost} commits were lost, at most the newest {longest:?}");
    assert!(longest < Duration::from_secs(30), "the archive was {longest:?} behind");
}

/// Kills in rounds. Returns the number of acknowledged rows that were lost in rounds that killed
/// both, and the longest time that they span.
async fn killed(shard: &TestShard, line: &str) -> (usize, Duration) {
    let primary = shard.primary();
    let backstop = Backstop::of(shard, "clone").await;
    let mut dice = Random::new();
    let (mut total, mut longest) = (0, Duration::ZERO);
    let mut archiver = backstop.spawn(line, None);
    for round in 1..=rounds() {
        let workload = TestWorkload::start(primary).await;
        workload.wait_for_more(40).await;
        tokio::time::sleep(dice.time(Duration::from_millis(700))).await;
        if dice.roll().is_multiple_of(2) {
            // Commits wait for the next archiver, or continue without one.
            kill(archiver).await;
            archiver = backstop.spawn(line, None);
            workload.wait_for_more(40).await;
        }
        // In the last round the archiver dies first, so that commits continue if they do not wait.
        if dice.roll().is_multiple_of(2) && round < rounds() {
            primary.kill();
            kill(archiver).await;
        } else {
            kill(archiver).await;
            primary.kill();
        }
        let written = workload.stop().await;
        let lost = lost(&backstop, &written).await;
        longest = longest.max(span(&written, &lost));
        total += lost.len();
        primary.start().await;
        archiver = backstop.spawn(line, None);
    }
    kill(archiver).await;
    (total, longest)
}

/// Checks that the lost rows are the newest; returns the time that they span.
fn span(written: &WrittenRows, lost: &[u64]) -> Duration {
    let newest: Vec<u64> = written.rows.iter().rev().take(lost.len()).rev().map(|(id, _)| *id).collect();
    assert_eq!(lost, newest, "not just the newest are lost");
    written.gaps.iter().rev().take(lost.len()).sum()
}

async fn kill(archiver: RunningBackstop) {
    archiver.signal(Signal::KILL);
    archiver.end().await;
}
