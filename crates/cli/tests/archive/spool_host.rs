//! The archiver's files on its host: shared with another archiver, removed, and on a volume that is
//! full.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_testkit::volume::TestVolume;
use backstop_testkit::{TestShard, TestWorkload};
use rustix::process::Signal;

use crate::byte_identical::single;
use crate::kill_random::wait_for_archiver;
use crate::support::program::{Backstop, until};
use crate::support::recoverable_rows::lost;
use crate::support::stored_archive::{ARCHIVE, assert_identical, held};

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns another repository for the same shard and work directory.
async fn another(shard: &TestShard) -> Backstop {
    let mut other = Backstop::of(shard, "clone").await;
    let text = std::fs::read_to_string(&other.config).unwrap();
    let repository = other.repository.with_file_name("another");
    other.config = other.config.with_file_name("another.toml");
    let own = other.repository.display().to_string();
    std::fs::write(&other.config, text.replace(&own, &repository.display().to_string())).unwrap();
    other.repository = repository;
    other
}

/// Returns the files below a folder.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(below(&path)),
            path => files.push(path),
        }
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn archivers_share_a_host_and_replace_removed_files() {
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    wait_for_archiver(primary).await;
    let other = another(&shard).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(50).await;

    // Another repository's archiver of the same shard has a separate spool.
    other.json(&format!("{ARCHIVE} --until-caught-up")).await;
    workload.wait_for_more(50).await;
    assert!(!archiver.told().contains("read the spool"), "{}", archiver.told());

    // The archiver requests transactions that are not archived from the source again.
    let spool =
        || below(&backstop.work).into_iter().filter(|path| path.to_string_lossy().contains("binlog."));
    spool().for_each(|path| drop(std::fs::remove_file(path)));
    until(WAIT_TIMEOUT, || archiver.told(), || archiver.told().contains("from the source again")).await;
    workload.wait_for_more(50).await;

    // The store loses objects that it accepted.
    let acknowledged = workload.stop().await;
    let journal = backstop.repository.join("shards/orders/archive/journal");
    let newest = below(&journal).pop().unwrap();
    std::fs::remove_file(&newest).unwrap();
    until(WAIT_TIMEOUT, || archiver.told(), || newest.exists()).await;

    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(lost(&backstop, &acknowledged).await, Vec::<u64>::new(), "{ran}");
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert_identical(&backstop, primary).await;
    assert_identical(&other, primary).await;
    backstop.json("verify orders --content").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archiver_continues_after_its_spool_volume_was_full() {
    let Some(volume) = TestVolume::ext4(16) else { return };
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    wait_for_archiver(primary).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let line = format!(
        "{ARCHIVE} --set shards.orders.archive.semi_sync=true --set shards.orders.snapshot.work_dir={}",
        volume.path.display()
    );
    let archiver = backstop.spawn(&line, None);
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(50).await;
    let filler = volume.path.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
    }
    until(WAIT_TIMEOUT, || archiver.told(), || archiver.told().contains("free space")).await;
    std::fs::remove_file(&filler).unwrap();
    drop(file);
    workload.wait_for_more(50).await;
    let acknowledged = workload.stop().await;
    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(lost(&backstop, &acknowledged).await, Vec::<u64>::new(), "{ran}");
    assert_identical(&backstop, primary).await;
    backstop.json("verify orders --content").await;
}
