//! The `btrfs` provider, on loop-mounted volumes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstop_adapters::snapshots::btrfs::BtrfsProvider;
use backstop_adapters::snapshots::{SnapshotSource, select_provider};
use backstop_config::settings::ProviderSetting;
use backstop_engine::ports::SnapshotProvider;
use backstop_testkit::snapshot_conformance::AtFailpoint;
use backstop_testkit::{ShardLayout, TestShard, TestVolume, TestWorkload, snapshot_conformance, tables};
use backstop_types::error::ErrorKind;
use backstop_types::freeze::{FreezeMode, FreezeSetting};
use backstop_types::topology::Role;

/// Starts servers whose data directories are subvolumes; the volume must outlive the shard.
pub async fn on(volume: &TestVolume, layout: ShardLayout) -> (TestShard, SnapshotSource) {
    volume.subvolume("shard/m1/data");
    let shard = TestShard::start(ShardLayout { base: Some(volume.path.join("shard")), ..layout }).await;
    let site =
        snapshot_conformance::snapshot_source(&shard, shard.primary(), &volume.path.join("work")).await;
    (shard, site)
}

fn locked(site: &SnapshotSource) -> SnapshotSource {
    let mut site = site.clone();
    site.freeze.mode = FreezeSetting::Lock;
    site
}

#[tokio::test]
async fn btrfs_provider_conforms_to_the_port() {
    let Some(volume) = TestVolume::btrfs(3000) else { return };
    let (shard, site) = on(&volume, ShardLayout::single()).await;
    tables::fill(shard.primary(), 1, 5_000).await;
    let free = BtrfsProvider::new(site.clone());
    for _ in 0..3 {
        let taken = snapshot_conformance::assert_exact_under_load(&shard, shard.primary(), &free).await;
        assert_eq!(taken.freeze.mode, FreezeMode::LockFree);
        assert!(taken.lineage.volume.starts_with("btrfs:") && taken.lineage.generation.is_some());
    }
    let lock = BtrfsProvider::new(locked(&site));
    for _ in 0..3 {
        let taken = snapshot_conformance::assert_exact_under_load(&shard, shard.primary(), &lock).await;
        assert_eq!(taken.freeze.mode, FreezeMode::Lock);
    }
    for after in [10, 40, 80, 120, 200, 400] {
        snapshot_conformance::assert_cancel_safe(&shard, &site, &free, Duration::from_millis(after)).await;
        snapshot_conformance::assert_cancel_safe(&shard, &site, &lock, Duration::from_millis(after)).await;
    }
    let auto = select_provider::open_provider(ProviderSetting::Auto, site).await.unwrap();
    assert_eq!(auto.provider(), "btrfs");
}

#[tokio::test]
async fn auto_selects_clone_if_btrfs_is_unusable() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let site =
        snapshot_conformance::snapshot_source(&shard, shard.primary(), &shard.base().join("work")).await;
    let error = BtrfsProvider::new(site.clone()).take(&snapshot_conformance::new_run_id()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.message.contains("not on btrfs"), "{error}");
    assert_eq!(
        select_provider::open_provider(ProviderSetting::Auto, site).await.unwrap().provider(),
        "clone"
    );
}

#[tokio::test]
async fn non_innodb_tables_need_the_lock_and_are_included() {
    let Some(volume) = TestVolume::btrfs(2000) else { return };
    let (shard, site) = on(&volume, ShardLayout::single()).await;
    shard
        .primary()
        .run(&[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.old (id INT) ENGINE = MyISAM",
            "INSERT INTO shop.old VALUES (1), (2)",
        ])
        .await;
    let provider = BtrfsProvider::new(site.clone());
    let taken = provider.take(&snapshot_conformance::new_run_id()).await.unwrap();
    assert_eq!(taken.freeze.mode, FreezeMode::Lock);
    let opened = provider.open(&taken.snapshot).await.unwrap().tree().unwrap();
    let server = snapshot_conformance::start_recovered(&opened, shard.base().join("r")).await;
    assert_eq!(server.value("SELECT COUNT(*) FROM shop.old").await, "2");
    assert_eq!(server.gtid_executed().await, taken.position.gtid_executed);
    drop(server);
    provider.release(&taken.snapshot).await.unwrap();

    let mut only_free = site;
    only_free.freeze.mode = FreezeSetting::LockFree;
    snapshot_conformance::assert_refuses(&shard, &BtrfsProvider::new(only_free), "shop.old").await;
}

#[tokio::test]
async fn data_outside_the_snapshot_is_refused() {
    let Some(volume) = TestVolume::btrfs(2000) else { return };
    let outside = volume.subvolume("outside");
    let option = format!("innodb_directories = {}", outside.display());
    let (shard, site) = on(&volume, ShardLayout::single().option(&option)).await;
    let provider = BtrfsProvider::new(site);
    let create = format!("CREATE TABLE shop.far (id INT) DATA DIRECTORY = '{}'", outside.display());
    shard.primary().run(&["CREATE DATABASE shop", &create]).await;
    snapshot_conformance::assert_refuses(&shard, &provider, "far.ibd").await;
    shard.primary().run(&["DROP TABLE shop.far"]).await;

    volume.subvolume("shard/m1/data/nested");
    snapshot_conformance::assert_refuses(&shard, &provider, "nested").await;
    std::fs::remove_dir(volume.path.join("shard/m1/data/nested")).unwrap();
    provider.take(&snapshot_conformance::new_run_id()).await.unwrap();
}

#[tokio::test]
async fn binlogs_elsewhere_in_the_subvolume_are_included() {
    let Some(volume) = TestVolume::btrfs(2000) else { return };
    volume.subvolume("all");
    let base = volume.path.join("all");
    std::fs::create_dir(base.join("logs")).unwrap();
    let option = format!("log_bin = {}", base.join("logs/bin").display());
    let layout = ShardLayout { base: Some(base), ..ShardLayout::single().option(&option) };
    let shard = TestShard::start(layout).await;
    let site =
        snapshot_conformance::snapshot_source(&shard, shard.primary(), &volume.path.join("work")).await;
    let workload = TestWorkload::start(shard.primary()).await;
    workload.wait_for_more(100).await;
    for site in [site.clone(), locked(&site)] {
        let provider = BtrfsProvider::new(site);
        let taken = provider.take(&snapshot_conformance::new_run_id()).await.unwrap();
        let opened = provider.open(&taken.snapshot).await.unwrap().tree().unwrap();
        let dir = shard.base().join("r");
        snapshot_conformance::restore(&opened, &dir);
        let server = backstop_testkit::TestMember::start_on(&dir, 900, &["log_bin = bin".to_owned()]).await;
        assert_eq!(server.gtid_executed().await, taken.position.gtid_executed);
        drop(server);
        provider.release(&taken.snapshot).await.unwrap();
    }
    workload.stop().await;
}

#[tokio::test]
async fn replica_is_snapshotted_while_it_applies() {
    let Some(volume) = TestVolume::btrfs(4000) else { return };
    volume.subvolume("shard/m2/data");
    let layout = ShardLayout { members: 2, base: Some(volume.path.join("shard")), ..ShardLayout::default() };
    let shard = TestShard::start(layout).await;
    let replica = shard.candidate();
    let mut site = snapshot_conformance::snapshot_source(&shard, replica, &volume.path.join("work")).await;
    site.role = Role::Candidate;
    for site in [site.clone(), locked(&site)] {
        let provider = BtrfsProvider::new(site);
        for _ in 0..2 {
            snapshot_conformance::assert_exact_under_load(&shard, replica, &provider).await;
        }
    }
    shard.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshot_is_discarded_after_lost_session_or_overrun_hold() {
    let Some(volume) = TestVolume::btrfs(2000) else { return };
    let (shard, site) = on(&volume, ShardLayout::single()).await;
    for mode in [FreezeSetting::LockFree, FreezeSetting::Lock] {
        let mut slow = site.clone();
        slow.freeze.mode = mode;
        slow.freeze.hold = Duration::from_secs(1);
        let mut lost = slow.clone();
        slow.ctx.failpoints =
            Arc::new(AtFailpoint::new("after:image", || std::thread::sleep(Duration::from_secs(3))));
        let provider = BtrfsProvider::new(slow);
        let error = provider.take(&snapshot_conformance::new_run_id()).await.unwrap_err();
        assert!(error.message.contains("longer than the limit"), "{error}");
        snapshot_conformance::assert_unharmed(&shard, &provider).await;

        lost.freeze.hold = Duration::from_secs(30);
        let socket = shard.primary().socket().to_owned();
        lost.ctx.failpoints = Arc::new(AtFailpoint::new("before:image", move || kill_backstop(&socket)));
        let provider = BtrfsProvider::new(lost);
        let error = provider.take(&snapshot_conformance::new_run_id()).await.unwrap_err();
        assert!(error.message.contains("prove that the freeze held"), "{error}");
        snapshot_conformance::assert_unharmed(&shard, &provider).await;
        assert_eq!(std::fs::read_dir(volume.path.join("work")).unwrap().count(), 0);
    }
}

/// Kills every session of Backstop's account, from a separate thread.
fn kill_backstop(socket: &Path) {
    use backstop_adapters::mysql::connection::{Connector, Login};
    let socket = socket.to_owned();
    let kill = async move {
        let login = Login { user: "root".into(), password: String::new().into() };
        let mut root = Connector::with_login(login, None).connect(&*socket).await.unwrap();
        let mine =
            "SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE PROCESSLIST_USER = 'backstop'";
        for id in root.query::<u64>(mine).await.unwrap() {
            root.run(&format!("KILL {id}")).await.unwrap();
        }
    };
    let thread = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(kill);
    });
    thread.join().unwrap();
}

#[tokio::test]
async fn full_volume_is_refused_or_fails_without_harm() {
    let Some(volume) = TestVolume::btrfs(1500) else { return };
    let (shard, site) = on(&volume, ShardLayout::single()).await;
    let provider = BtrfsProvider::new(site);
    let filler = volume.path.join("filler");
    let file = std::fs::File::create(&filler).unwrap();
    // btrfs reports more free space once dirty data is written.
    rustix::fs::syncfs(&file).unwrap();
    let length = free(&volume.path) - (200 << 20);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
    file.sync_all().unwrap();
    let error = provider.take(&snapshot_conformance::new_run_id()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.message.contains("free"), "{error}");
    std::fs::remove_file(&filler).unwrap();
    snapshot_conformance::assert_unharmed(&shard, &provider).await;
}

fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}
