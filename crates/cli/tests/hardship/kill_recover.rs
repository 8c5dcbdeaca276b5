//! SIGKILL at every step of one recovery into one directory: each run continues where the killed
//! one stopped.

use backstop_testkit::workload::missing_on;
use backstop_testkit::{ShardLayout, TestShard, TestVolume, TestWorkload, tables};

use crate::support::program::{Backstop, points};
use crate::support::recovered_server::{RecoveredServer, only_server};
use crate::support::source_unharmed::{nothing_left, unharmed};

/// Steps of a recovery that joins. It resets GTIDs only on files with the donor's binary log, which
/// are those of btrfs.
const STEPS: [&str; 15] = [
    "decide",
    "materialise",
    "configure",
    "start",
    "verify",
    "forget",
    "check",
    "reset_gtids",
    "set_gtid_purged",
    "follow",
    "catch_up",
    "semi_sync",
    "serve",
    "finish",
    "hand_over",
];

#[tokio::test(flavor = "multi_thread")]
async fn recover_join_from_btrfs_resumes_after_every_kill() {
    let Some(volume) = TestVolume::btrfs(3000) else { return };
    volume.subvolume("shard/m2/data");
    let base = Some(volume.path.join("shard"));
    let shard = TestShard::start(ShardLayout { members: 2, base, ..ShardLayout::default() }).await;
    join_survives(&shard, "btrfs", &STEPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recover_join_from_clone_resumes_after_every_kill() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    // Without the donor's binary log there is nothing to reset.
    let steps: Vec<&str> = STEPS.into_iter().filter(|step| !step.contains("gtid")).collect();
    join_survives(&shard, "clone", &steps).await;
}

async fn join_survives(shard: &TestShard, provider: &str, steps: &[&str]) {
    tables::fill(shard.primary(), 2, 2_000).await;
    let workload = TestWorkload::start(shard.primary()).await;
    workload.wait_for_more(50).await;
    let backstop = Backstop::of(shard, provider).await;
    let backup = backstop.json("backup orders").await;
    workload.wait_for_more(200).await;
    let written = workload.stop().await;

    let rebuilt = RecoveredServer::into(shard.base().join("rebuilt"));
    let line = format!("recover orders --to latest --join --into {}", rebuilt.dir.display());
    for (number, point) in points(steps).iter().enumerate() {
        backstop.killed(&line, point).await;
        unharmed(shard).await;
        if point == "after:reset_gtids" {
            assert_eq!(rebuilt.gtid_executed().await.to_string(), "", "it was killed between reset and set");
        }
        // In every third round the rebuilt server dies as well, as in a power cut.
        if number % 3 == 2 {
            rebuilt.kill();
        }
    }
    let report = backstop.json(&line).await;
    assert_eq!((&report["joined"], &report["backup_id"]), (&true.into(), &backup["backup_id"]), "{report}");
    rebuilt.equals(shard).await;
    let held: Vec<(u64, u64)> =
        rebuilt.root().await.query("SELECT id, value FROM ledger.entries").await.unwrap();
    let lost = written.rows.iter().filter(|row| !held.contains(row)).count();
    assert_eq!(lost, 0, "acknowledged rows that the rebuilt server lacks");
    assert_eq!(missing_on(&written, shard.primary()).await, Vec::<u64>::new());
    only_server(&rebuilt.dir);
    nothing_left(shard, &backstop).await;

    // A repeated run changes nothing and reports the same.
    let again = backstop.json(&line).await;
    assert_eq!((&again["server"], &again["gtid_executed"]), (&report["server"], &report["gtid_executed"]));
    rebuilt.equals(shard).await;
}
