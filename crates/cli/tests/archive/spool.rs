//! `ack = "spool"`: the archiver, on a separate machine, acknowledges transactions that are safe on
//! its disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_testkit::{NetworkNamespace, TestShard, TestWorkload};
use rustix::process::Signal;

use crate::byte_identical::single;
use crate::kill_random::wait_for_archiver;
use crate::support::program::{Backstop, until};
use crate::support::recoverable_rows::lost;
use crate::support::stored_archive::ARCHIVE;

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Number of times that archiver and source are killed.
const ROUNDS: usize = 3;

/// In each round the store is away, and archiver and source are killed; in the last round the
/// source has nothing more to send. The acknowledged transactions are only in the spool.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_only_the_spool_has_are_archived() {
    let Some(machine) = NetworkNamespace::new() else { return };
    let shard = TestShard::start(single().option("bind_address = 0.0.0.0")).await;
    let primary = shard.primary();
    wait_for_archiver(primary).await;
    let mut backstop = Backstop::of(&shard, "clone").await;
    run_on(&mut backstop, &machine);
    let semi_sync = "--set shards.orders.archive.semi_sync=true";
    let spool = format!("{ARCHIVE} {semi_sync} --set shards.orders.archive.ack=spool");
    backstop.json(&format!("{ARCHIVE} {semi_sync} --until-caught-up")).await;
    for round in 1..=ROUNDS {
        let archiver = backstop.spawn(&spool, None);
        let workload = TestWorkload::start(primary).await;
        workload.wait_for_more(50).await;
        let away = take_away(&backstop.repository);
        until(WAIT_TIMEOUT, || archiver.told(), || archiver.told().contains("note:")).await;
        // With acknowledgements from the store, no commit would return any more.
        workload.wait_for_more(200).await;
        archiver.signal(Signal::KILL);
        archiver.end().await;
        primary.kill();
        let written = workload.stop().await;
        bring_back(&away, &backstop.repository);
        let only_there = lost(&backstop, &written).await;
        assert!(only_there.len() >= 200, "only {} rows were acknowledged from the spool", only_there.len());
        if round < ROUNDS {
            primary.start().await;
        } else {
            std::fs::remove_dir_all(primary.datadir()).unwrap();
        }
        let ran = backstop.run(&format!("{spool} --until-caught-up")).await;
        assert_eq!(ran.status.success(), round < ROUNDS, "{ran}");
        assert_eq!(lost(&backstop, &written).await, Vec::<u64>::new(), "acknowledged and lost: {ran}");
    }
}

/// Makes the commands run on another machine.
fn run_on(backstop: &mut Backstop, machine: &NetworkNamespace) {
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    std::fs::write(&backstop.config, text.replace("127.0.0.1:", &format!("{}:", machine.servers))).unwrap();
    backstop.prefix = machine.prefix();
}

/// Replaces the repository's folder by a file. Returns the path to which the folder is moved.
fn take_away(repository: &Path) -> PathBuf {
    let away = repository.with_extension("away");
    std::fs::rename(repository, &away).unwrap();
    std::fs::write(repository, "in the way").unwrap();
    away
}

fn bring_back(away: &Path, repository: &Path) {
    std::fs::remove_file(repository).unwrap();
    std::fs::rename(away, repository).unwrap();
}
