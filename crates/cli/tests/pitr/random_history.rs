//! Recoveries to random moments of a random history must restore exactly the state at that moment.

use std::time::Duration;

use backstop_testkit::{ShardLayout, TestMember, TestShard};
use backstop_types::archive::ArchiverHeartbeat;
use backstop_types::gtid::GtidSet;
use rustix::process::Signal;

use crate::support::program::Backstop;
use crate::support::random::Random;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, contents, held};
use crate::support::workload::{HistoryPoint, RandomHistory};

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns the number of recoveries: `BACKSTOP_TEST_TARGETS`, else as many as fit into `make test`.
fn targets() -> usize {
    std::env::var("BACKSTOP_TEST_TARGETS").map_or(25, |targets| targets.parse().expect("a number"))
}

/// Returns two members whose logs are small files.
fn pair() -> ShardLayout {
    ShardLayout { members: 2, ..ShardLayout::default() }.option("max_binlog_size = 262144")
}

/// Waits until the current line holds this set.
pub async fn archived(backstop: &Backstop, set: &GtidSet) {
    let begin = std::time::Instant::now();
    while !set.is_subset_of(&held(backstop).await) {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "not archived: {set}, but {}", held(backstop).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn promote(member: &TestMember) {
    let statements = [
        "STOP REPLICA",
        "RESET REPLICA ALL",
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL read_only = OFF",
    ];
    member.run(&statements).await;
}

/// Purges the transactions before this moment, so that only the backup has them.
pub async fn forget_the_past(member: &TestMember) {
    member.run(&["FLUSH BINARY LOGS"]).await;
    let file = member.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    member.run(&[&format!("PURGE BINARY LOGS TO '{file}'")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_moment_of_a_random_history_can_be_recovered() {
    let shard = TestShard::start(pair()).await;
    let [db1, db2] = &shard.members[..] else { panic!("two members") };
    let backstop = Backstop::of(&shard, "clone").await;
    let mut dice = Random::new();
    let mut work = RandomHistory::on(db1, &mut dice, 0).await;
    work.begin().await;
    let before = work.some(8).await;
    let mut next = work.next();
    shard.settle().await;
    backstop.json("backup orders").await;
    let base = before.last().unwrap().clone();
    for member in &shard.members {
        forget_the_past(member).await;
    }
    let archiver = backstop.spawn(&format!("--json {ARCHIVE}"), None);

    let mut line = vec![base.clone()];
    let mut work = RandomHistory::on(db1, &mut dice, next).await;
    line.extend(work.some(15).await);
    next = work.next();
    let all = db1.gtid_executed().await;
    archived(&backstop, &all).await;
    // A switchover: the line continues.
    db2.wait_for(&all).await;
    db1.run(&["SET GLOBAL super_read_only = ON"]).await;
    promote(db2).await;
    shard.follow(db1, db2).await;
    let mut work = RandomHistory::on(db2, &mut dice, next).await;
    line.extend(work.some(12).await);
    next = work.next();
    let all = db2.gtid_executed().await;
    archived(&backstop, &all).await;
    db1.wait_for(&all).await;
    let fork = line.clone();
    // A crash: transactions that only the dead primary and the archive had stay on the old line.
    db1.run(&["STOP REPLICA"]).await;
    let mut work = RandomHistory::on(db2, &mut dice, next).await;
    let mut old = fork.clone();
    old.extend(work.some(4).await);
    old.push(work.plain().await);
    next = work.next();
    archived(&backstop, &db2.gtid_executed().await).await;
    db2.kill();
    promote(db1).await;
    let mut new = fork;
    let mut work = RandomHistory::on(db1, &mut dice, next).await;
    new.extend(work.some(6).await);
    new.push(work.plain().await);
    archived(&backstop, &db1.gtid_executed().await).await;
    // Even while nothing is written, the archive reaches up to now.
    let last = new.last().unwrap().after;
    told_by(&backstop, |alive| alive.complete_to.is_some_and(|to| to > last)).await;
    archiver.signal(Signal::TERM);
    archiver.end().await;

    for number in 0..targets() {
        let (line, moments) = [(1, &old), (2, &new)][dice.roll() as usize % 2];
        recovered(&shard, &backstop, &mut dice, moments, &format!("--line {line}"), number).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_replica_archives_the_times_of_the_primary() {
    let shard = TestShard::start(pair()).await;
    let [db1, db2] = &shard.members[..] else { panic!("two members") };
    let backstop = Backstop::of(&shard, "clone").await;
    let mut dice = Random::new();
    let mut work = RandomHistory::on(db1, &mut dice, 0).await;
    let mut moments = vec![work.begin().await.pop().unwrap()];
    let next = work.next();
    shard.settle().await;
    backstop.json("backup orders").await;
    for member in &shard.members {
        forget_the_past(member).await;
    }
    delay(db2, 3600).await;
    let replica = "--json archive orders --set shards.orders.archive.from=replica";
    let archiver = backstop.spawn(replica, None);
    let mut work = RandomHistory::on(db1, &mut dice, next).await;
    moments.extend(work.some(9).await);
    moments.push(work.plain().await);
    let last = moments.last().unwrap().clone();

    // The archiver has all that the replica has. It does not know that nothing was committed on the
    // primary in between.
    let told = |alive: &ArchiverHeartbeat| {
        alive.at > last.after + chrono::Duration::seconds(3) && alive.source.is_some()
    };
    told_by(&backstop, told).await;
    let to = last.after.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let plan = format!("plan orders --standalone --to {to}");
    backstop.run(&plan).await.failed(21, &["later than the end of the archive"]);

    delay(db2, 30).await;
    archived(&backstop, &last.set).await;
    told_by(&backstop, |alive| alive.complete_to.is_some_and(|to| to > last.after)).await;
    let planned = backstop.json(&plan).await;
    let meant = at_time(&moments, moments.len() - 1);
    assert_eq!(planned["gtid_executed"], meant.set.to_string(), "after `{}`: {planned}", meant.did);
    archiver.signal(Signal::TERM);
    archiver.end().await;
    for number in 0..targets().min(4) {
        recovered(&shard, &backstop, &mut dice, &moments, "", number).await;
    }
}

/// Sets the number of seconds that a replica stays behind.
async fn delay(replica: &TestMember, seconds: u32) {
    let change = format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds}");
    replica.run(&["STOP REPLICA SQL_THREAD", &change, "START REPLICA SQL_THREAD"]).await;
}

/// Waits until the archiver's heartbeat meets a condition.
async fn told_by(backstop: &Backstop, so: impl Fn(&ArchiverHeartbeat) -> bool) {
    let begin = std::time::Instant::now();
    loop {
        let alive = contents(backstop).await.alive;
        if alive.as_ref().is_some_and(&so) {
            return;
        }
        assert!(begin.elapsed() < WAIT_TIMEOUT, "the archiver's heartbeat: {alive:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Recovers to a random one of these moments, the first of which is the backup: the state must be
/// exactly the one at that moment.
async fn recovered(
    shard: &TestShard,
    backstop: &Backstop,
    dice: &mut Random,
    moments: &[HistoryPoint],
    line: &str,
    number: usize,
) {
    let at = dice.roll() as usize % (moments.len() - 1);
    let (to, expected) = target(dice, moments, at);
    let rebuilt = RecoveredServer::at(shard.base().join(format!("r{number}")));
    let how = format!("--to {to} {line} --standalone");
    let report = rebuilt.recover(backstop, &how).await;
    let found = format!("{how}, after `{}`: {report}", expected.did);
    assert_eq!(rebuilt.held().await, expected.set, "{found}");
    assert_eq!(rebuilt.state().await, expected.state, "{found}");
    let replayed = expected.set.subtract(&moments[0].set).count();
    assert_eq!(report["transactions_replayed"], replayed, "{found}");
    assert!(replayed < expected.set.count(), "the backup has no part in it");
    assert_eq!(report["gtid_executed"], expected.set.to_string());
}

/// Returns a target that means this moment, or the moment that a time means.
fn target<'a>(dice: &mut Random, moments: &'a [HistoryPoint], at: usize) -> (String, &'a HistoryPoint) {
    let moment = &moments[at];
    match dice.roll() % 3 {
        0 if at > 0 => (format!("after:{}", moment.gtid), moment),
        // For a time before the backup it is unknown if the backup's transactions were committed by
        // that time.
        1 if at > 0 => {
            let text = moment.after.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            (text, at_time(moments, at))
        }
        _ => (format!("before:{}", moments[at + 1].gtid), moment),
    }
}

/// Returns the moment that the time right after this moment means: everything up to the first
/// transaction that was committed later.
pub fn at_time(moments: &[HistoryPoint], at: usize) -> &HistoryPoint {
    let time = moments[at].after;
    let later = |index: &usize| moments[*index].claims.map_or(*index > at, |claims| claims > time);
    let first = (1..moments.len()).find(later).unwrap_or(moments.len());
    &moments[first - 1]
}
