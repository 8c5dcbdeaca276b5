//! A repository on a separate volume, which is unmounted under the archiver.

use std::path::Path;
use std::time::Duration;

use backstop_testkit::{TestShard, TestVolume, TestWorkload};
use rustix::process::Signal;

use crate::byte_identical::single;
use crate::kill_random::wait_for_archiver;
use crate::support::program::{Backstop, until};
use crate::support::recoverable_rows::lost;
use crate::support::stored_archive::{ARCHIVE, assert_identical, held};

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

fn is_bare(path: &Path) -> bool {
    std::fs::read_dir(path).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_into_a_bare_mount_point() {
    let Some(volume) = TestVolume::ext4(512) else { return };
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    wait_for_archiver(primary).await;
    let mut backstop = Backstop::of(&shard, "clone").await;
    backstop.in_directory(&volume.path);
    let id = backstop.json("init").await["repository"].as_str().unwrap().to_owned();
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(50).await;

    volume.unmount_lazily();
    let told = || archiver.told().matches("is no longer the repository's directory").count() >= 2;
    until(WAIT_TIMEOUT, || archiver.told(), told).await;
    let stuck = workload.committed();
    assert!(is_bare(&volume.path), "written into the mount point");
    for more in ["--set repository.create=never", &format!("--set repository.id={id}")] {
        backstop.run(&format!("backup orders {more}")).await.failed(21, &["mounted"]);
    }
    assert!(is_bare(&volume.path), "made in the mount point");
    assert!(workload.committed() <= stuck + 1, "acknowledged while it was away");

    volume.mount_again();
    workload.wait_for_more(50).await;
    let written = workload.stop().await;
    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(lost(&backstop, &written).await, Vec::<u64>::new(), "acknowledged and lost");
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert_identical(&backstop, primary).await;
}
