//! Recoveries to random moments of a random history must give exactly the state that was there.

use std::time::Duration;

use backstop_model::gtid::GtidSet;
use backstop_testkit::{Layout, Member, Shard};
use rustix::process::Signal;

use crate::archived::{ARCHIVE, held};
use crate::dice::Dice;
use crate::program::Backstop;
use crate::rebuilt::Rebuilt;
use crate::workload::{Moment, Workload};

const SOON: Duration = Duration::from_secs(120);

/// How many recoveries: `BACKSTOP_TEST_TARGETS`, else few.
fn targets() -> usize {
    std::env::var("BACKSTOP_TEST_TARGETS").map_or(6, |targets| targets.parse().expect("a number"))
}

/// Two members whose logs are small files.
fn pair() -> Layout {
    Layout { members: 2, ..Layout::default() }.option("max_binlog_size = 262144")
}

/// Waits until the current line holds this.
pub async fn archived(backstop: &Backstop, set: &GtidSet) {
    let begin = std::time::Instant::now();
    while !set.is_subset_of(&held(backstop).await) {
        assert!(begin.elapsed() < SOON, "not archived: {set}, but {}", held(backstop).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn promote(member: &Member) {
    let statements = [
        "STOP REPLICA",
        "RESET REPLICA ALL",
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL read_only = OFF",
    ];
    member.run(&statements).await;
}

/// Purges what is before this moment: only the backup has it then.
pub async fn forget_the_past(member: &Member) {
    member.run(&["FLUSH BINARY LOGS"]).await;
    let file = member.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    member.run(&[&format!("PURGE BINARY LOGS TO '{file}'")]).await;
}

#[ignore = "not yet seen to pass: run it with --ignored"]
#[tokio::test(flavor = "multi_thread")]
async fn every_moment_of_a_random_history() {
    let shard = Shard::start(pair()).await;
    let [a, b] = &shard.members[..] else { panic!("two members") };
    let backstop = Backstop::of(&shard, "clone").await;
    let mut dice = Dice::new();
    let mut work = Workload::on(a, &mut dice, 0).await;
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
    let mut work = Workload::on(a, &mut dice, next).await;
    line.extend(work.some(15).await);
    next = work.next();
    let all = a.gtid_executed().await;
    archived(&backstop, &all).await;
    // A switchover: the line goes on.
    b.wait_for(&all).await;
    a.run(&["SET GLOBAL super_read_only = ON"]).await;
    promote(b).await;
    shard.follow(a, b).await;
    let mut work = Workload::on(b, &mut dice, next).await;
    line.extend(work.some(12).await);
    next = work.next();
    let all = b.gtid_executed().await;
    archived(&backstop, &all).await;
    a.wait_for(&all).await;
    let fork = line.clone();
    // A crash: what only the dead primary and the archive had stays on the old line.
    a.run(&["STOP REPLICA"]).await;
    let mut work = Workload::on(b, &mut dice, next).await;
    let mut old = fork.clone();
    old.extend(work.some(4).await);
    next = work.next();
    archived(&backstop, &b.gtid_executed().await).await;
    b.kill();
    promote(a).await;
    let mut new = fork;
    let mut work = Workload::on(a, &mut dice, next).await;
    new.extend(work.some(6).await);
    archived(&backstop, &a.gtid_executed().await).await;
    archiver.signal(Signal::TERM);
    archiver.end().await;

    let lines = [(1, old), (2, new)];
    for number in 0..targets() {
        let (line, moments) = &lines[dice.roll() as usize % lines.len()];
        let at = dice.roll() as usize % (moments.len() - 1);
        let (to, expected) = target(&mut dice, moments, at);
        let rebuilt = Rebuilt::at(shard.base().join(format!("r{number}")));
        let how = format!("--to {to} --line {line} --standalone");
        let report = rebuilt.recover(&backstop, &how).await;
        let found = format!("{how}, after `{}`: {report}", expected.did);
        assert_eq!(rebuilt.held().await, expected.set, "{found}");
        assert_eq!(rebuilt.sums().await, expected.sums, "{found}");
        let replayed = expected.set.subtract(&base.set).count();
        assert_eq!(report["transactions_replayed"], replayed, "{found}");
        assert!(replayed < expected.set.count(), "the backup has no part in it");
        assert_eq!(report["gtid_executed"], expected.set.to_string());
    }
}

/// A target that means this moment, or what a time means.
fn target<'a>(dice: &mut Dice, moments: &'a [Moment], at: usize) -> (String, &'a Moment) {
    let moment = &moments[at];
    match dice.roll() % 3 {
        0 if at > 0 => (format!("after:{}", moment.gtid), moment),
        1 => (format!("before:{}", moments[at + 1].gtid), moment),
        _ => {
            let text = moment.after.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            // Everything up to the first transaction that was committed later.
            let later =
                |index: &usize| moments[*index].claims.map_or(*index > at, |claims| claims > moment.after);
            let first = (1..moments.len()).find(later).unwrap_or(moments.len());
            (text, &moments[first - 1])
        }
    }
}
