//! A server whose clock is set forwards and back while it is archived.

use backstop_testkit::server_wrapper::{set_clock_offset, with_clock};
use backstop_testkit::{ShardLayout, TestShard};
use chrono::SecondsFormat;
use rustix::process::Signal;

use crate::random_history::{archived, at_time};
use crate::support::program::Backstop;
use crate::support::random::Random;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::ARCHIVE;
use crate::support::workload::{HistoryPoint, RandomHistory};

/// Offsets of the clock from the archiver's, in seconds. The clock is also set back, so that later
/// transactions get earlier times.
const CLOCK_OFFSETS: [i64; 5] = [0, 3600, 20, -900, 7200];

#[tokio::test(flavor = "multi_thread")]
async fn times_mean_what_is_documented_when_the_clock_steps() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = with_clock(dir.path()).await else { return };
    let shard = TestShard::start(ShardLayout { program: Some(program), ..ShardLayout::single() }).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let mut dice = Random::new();
    let mut work = RandomHistory::on(primary, &mut dice, 0).await;
    let mut moments = vec![work.begin().await.pop().unwrap()];
    backstop.json("backup orders").await;
    let archiver = backstop.spawn(&format!("--json {ARCHIVE}"), None);
    let mut eras = Vec::new();
    for seconds in CLOCK_OFFSETS {
        set_clock_offset(dir.path(), seconds);
        eras.push(moments.len());
        for _ in 0..3 {
            moments.push(work.plain().await);
        }
    }
    for moment in &mut moments {
        // Within each period of one offset, the moment after a transaction is before the next one.
        moment.claims = Some(moment.after);
    }
    archived(&backstop, &primary.gtid_executed().await).await;
    archiver.signal(Signal::TERM);
    archiver.end().await;

    let backup = &moments[0];
    for (number, era) in eras.iter().enumerate() {
        let moment = &moments[era + 1];
        let to = moment.after.to_rfc3339_opts(SecondsFormat::Micros, true);
        let how = format!("--to {to} --standalone");
        if moment.after < backup.after {
            backstop.run(&format!("plan orders {how}")).await.failed(21, &["later transactions"]);
        } else {
            let meant = at_time(&moments, era + 1);
            let plan = backstop.json(&format!("plan orders {how}")).await;
            assert_eq!(plan["gtid_executed"], meant.set.to_string(), "{how}: {plan}");
        }
        // Every moment can be reached by its transaction.
        let after = format!("--to after:{} --standalone", moment.gtid);
        let plan = backstop.json(&format!("plan orders {after}")).await;
        assert_eq!(plan["gtid_executed"], moment.set.to_string(), "{after}: {plan}");
        if number == 2 {
            is_recovered(&shard, &backstop, &how, at_time(&moments, era + 1)).await;
        }
    }
    // The set ends before the clock was set forwards: the transactions with later times, which
    // precede this one, are not in it.
    let meant = at_time(&moments, eras[2] + 1);
    assert_eq!(meant.set, moments[eras[1] - 1].set);
}

async fn is_recovered(shard: &TestShard, backstop: &Backstop, how: &str, meant: &HistoryPoint) {
    let rebuilt = RecoveredServer::at(shard.base().join("r"));
    let report = rebuilt.recover(backstop, how).await;
    assert_eq!(rebuilt.held().await, meant.set, "{how}: {report}");
    assert_eq!(rebuilt.state().await, meant.state, "{how}: {report}");
}
