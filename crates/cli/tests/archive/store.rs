//! A store that does not take what it is given: nothing is acknowledged, it is said, and nothing is lost.

use std::time::Duration;

use backstop_testkit::{Ledger, Shard};
use rustix::process::Signal;

use crate::archived::{ARCHIVE, assert_identical, held};
use crate::identical::single;
use crate::kills::wait_for_archiver;
use crate::program::{Backstop, until};

const SOON: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn that_refuses_for_a_while() {
    let shard = Shard::start(single()).await;
    let primary = shard.primary();
    wait_for_archiver(primary).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    let ledger = Ledger::start(primary).await;
    ledger.wait_for_more(50).await;

    // A file stands where the repository's folder was.
    let away = backstop.repository.with_extension("away");
    std::fs::rename(&backstop.repository, &away).unwrap();
    std::fs::write(&backstop.repository, "in the way").unwrap();
    let told = || archiver.told().matches("note:").count() >= 2;
    until(SOON, || archiver.told(), told).await;
    let stuck = ledger.committed();
    std::fs::remove_file(&backstop.repository).unwrap();
    std::fs::rename(&away, &backstop.repository).unwrap();
    ledger.wait_for_more(50).await;
    let acknowledged = ledger.stop().await.rows.len() as u64;
    assert!(acknowledged > stuck);

    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert_identical(&backstop, primary).await;
}
