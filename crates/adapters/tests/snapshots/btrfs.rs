//! The `btrfs` provider, on loop-mounted volumes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstop_adapters::snapshots::btrfs::Btrfs;
use backstop_adapters::snapshots::{Site, auto};
use backstop_engine::ports::Snapshots;
use backstop_model::fault::Kind;
use backstop_model::freeze::{FreezeMode, FreezeWish};
use backstop_model::settings::ProviderWish;
use backstop_model::topology::Role;
use backstop_testkit::snapshots::At;
use backstop_testkit::{Layout, Ledger, Shard, Volume, snapshots, tables};

/// A server whose data directory is a subvolume; the volume must outlive the shard.
pub async fn on(volume: &Volume, layout: Layout) -> (Shard, Site) {
    volume.subvolume("shard/m1/data");
    let shard = Shard::start(Layout { base: Some(volume.path.join("shard")), ..layout }).await;
    let site = snapshots::site(&shard, shard.primary(), &volume.path.join("work")).await;
    (shard, site)
}

fn locked(site: &Site) -> Site {
    let mut site = site.clone();
    site.freeze.mode = FreezeWish::Lock;
    site
}

#[tokio::test]
async fn conformance() {
    let Some(volume) = Volume::btrfs(3000) else { return };
    let (shard, site) = on(&volume, Layout::single()).await;
    tables::fill(shard.primary(), 1, 5_000).await;
    let free = Btrfs::new(site.clone());
    for _ in 0..3 {
        let taken = snapshots::exact_under_load(&shard, shard.primary(), &free).await;
        assert_eq!(taken.freeze.mode, FreezeMode::LockFree);
        assert!(taken.lineage.volume.starts_with("btrfs:") && taken.lineage.generation.is_some());
    }
    let lock = Btrfs::new(locked(&site));
    for _ in 0..3 {
        let taken = snapshots::exact_under_load(&shard, shard.primary(), &lock).await;
        assert_eq!(taken.freeze.mode, FreezeMode::Lock);
    }
    for after in [10, 40, 80, 120, 200, 400] {
        snapshots::survives_being_dropped(&shard, &site, &free, Duration::from_millis(after)).await;
        snapshots::survives_being_dropped(&shard, &site, &lock, Duration::from_millis(after)).await;
    }
    let auto = auto::open(ProviderWish::Auto, site).await.unwrap();
    assert_eq!(auto.provider(), "btrfs");
}

#[tokio::test]
async fn auto_takes_clone_where_btrfs_cannot() {
    let shard = Shard::start(Layout::single()).await;
    let site = snapshots::site(&shard, shard.primary(), &shard.base().join("work")).await;
    let fault = Btrfs::new(site.clone()).take(&snapshots::run()).await.unwrap_err();
    assert!(fault.kind == Kind::Refused && fault.message.contains("not on btrfs"), "{fault}");
    assert_eq!(auto::open(ProviderWish::Auto, site).await.unwrap().provider(), "clone");
}

#[tokio::test]
async fn other_tables_need_the_lock_and_come_along() {
    let Some(volume) = Volume::btrfs(2000) else { return };
    let (shard, site) = on(&volume, Layout::single()).await;
    shard
        .primary()
        .run(&[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.old (id INT) ENGINE = MyISAM",
            "INSERT INTO shop.old VALUES (1), (2)",
        ])
        .await;
    let provider = Btrfs::new(site.clone());
    let taken = provider.take(&snapshots::run()).await.unwrap();
    assert_eq!(taken.freeze.mode, FreezeMode::Lock);
    let opened = provider.open(&taken.snapshot).await.unwrap().tree().unwrap();
    let server = snapshots::recovered(&opened, shard.base().join("r")).await;
    assert_eq!(server.value("SELECT COUNT(*) FROM shop.old").await, "2");
    assert_eq!(server.gtid_executed().await, taken.position.gtid_executed);
    drop(server);
    provider.release(&taken.snapshot).await.unwrap();

    let mut only_free = site;
    only_free.freeze.mode = FreezeWish::LockFree;
    snapshots::refuses(&shard, &Btrfs::new(only_free), "shop.old").await;
}

#[tokio::test]
async fn what_is_not_in_the_snapshot_is_refused() {
    let Some(volume) = Volume::btrfs(2000) else { return };
    let outside = volume.subvolume("outside");
    let option = format!("innodb_directories = {}", outside.display());
    let (shard, site) = on(&volume, Layout::single().option(&option)).await;
    let provider = Btrfs::new(site);
    let create = format!("CREATE TABLE shop.far (id INT) DATA DIRECTORY = '{}'", outside.display());
    shard.primary().run(&["CREATE DATABASE shop", &create]).await;
    snapshots::refuses(&shard, &provider, "far.ibd").await;
    shard.primary().run(&["DROP TABLE shop.far"]).await;

    volume.subvolume("shard/m1/data/nested");
    snapshots::refuses(&shard, &provider, "nested").await;
    std::fs::remove_dir(volume.path.join("shard/m1/data/nested")).unwrap();
    provider.take(&snapshots::run()).await.unwrap();
}

#[tokio::test]
async fn binary_logs_elsewhere_in_the_subvolume_come_along() {
    let Some(volume) = Volume::btrfs(2000) else { return };
    volume.subvolume("all");
    let base = volume.path.join("all");
    std::fs::create_dir(base.join("logs")).unwrap();
    let option = format!("log_bin = {}", base.join("logs/bin").display());
    let layout = Layout { base: Some(base), ..Layout::single().option(&option) };
    let shard = Shard::start(layout).await;
    let site = snapshots::site(&shard, shard.primary(), &volume.path.join("work")).await;
    let ledger = Ledger::start(shard.primary()).await;
    ledger.wait_for_more(100).await;
    for site in [site.clone(), locked(&site)] {
        let provider = Btrfs::new(site);
        let taken = provider.take(&snapshots::run()).await.unwrap();
        let opened = provider.open(&taken.snapshot).await.unwrap().tree().unwrap();
        let dir = shard.base().join("r");
        snapshots::restore(&opened, &dir);
        let server = backstop_testkit::Member::start_on(&dir, 900, &["log_bin = bin".to_owned()]).await;
        assert_eq!(server.gtid_executed().await, taken.position.gtid_executed);
        drop(server);
        provider.release(&taken.snapshot).await.unwrap();
    }
    ledger.stop().await;
}

#[tokio::test]
async fn a_replica_is_imaged_while_it_applies() {
    let Some(volume) = Volume::btrfs(4000) else { return };
    volume.subvolume("shard/m2/data");
    let layout = Layout { members: 2, base: Some(volume.path.join("shard")), ..Layout::default() };
    let shard = Shard::start(layout).await;
    let replica = shard.candidate();
    let mut site = snapshots::site(&shard, replica, &volume.path.join("work")).await;
    site.role = Role::Candidate;
    for site in [site.clone(), locked(&site)] {
        let provider = Btrfs::new(site);
        for _ in 0..2 {
            snapshots::exact_under_load(&shard, replica, &provider).await;
        }
    }
    shard.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_session_or_an_overrun_bound_discards_the_snapshot() {
    let Some(volume) = Volume::btrfs(2000) else { return };
    let (shard, site) = on(&volume, Layout::single()).await;
    for mode in [FreezeWish::LockFree, FreezeWish::Lock] {
        let mut slow = site.clone();
        slow.freeze.mode = mode;
        slow.freeze.hold = Duration::from_secs(1);
        let mut lost = slow.clone();
        slow.world.faults = Arc::new(At::new("after:image", || std::thread::sleep(Duration::from_secs(3))));
        let provider = Btrfs::new(slow);
        let fault = provider.take(&snapshots::run()).await.unwrap_err();
        assert!(fault.message.contains("longer than the bound"), "{fault}");
        snapshots::unharmed(&shard, &provider).await;

        lost.freeze.hold = Duration::from_secs(30);
        let socket = shard.primary().socket().to_owned();
        lost.world.faults = Arc::new(At::new("before:image", move || kill_backstop(&socket)));
        let provider = Btrfs::new(lost);
        let fault = provider.take(&snapshots::run()).await.unwrap_err();
        assert!(fault.message.contains("prove that the freeze held"), "{fault}");
        snapshots::unharmed(&shard, &provider).await;
        assert_eq!(std::fs::read_dir(volume.path.join("work")).unwrap().count(), 0);
    }
}

/// Kills every session of Backstop's account, from a thread of its own.
fn kill_backstop(socket: &Path) {
    use backstop_adapters::mysql::connect::{Connector, Login};
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
async fn a_full_volume_is_refused_or_fails_and_harms_nothing() {
    let Some(volume) = Volume::btrfs(1500) else { return };
    let (shard, site) = on(&volume, Layout::single()).await;
    let provider = Btrfs::new(site);
    let filler = volume.path.join("filler");
    let file = std::fs::File::create(&filler).unwrap();
    // btrfs tells of more free space once what was dirty is written.
    rustix::fs::syncfs(&file).unwrap();
    let length = free(&volume.path) - (200 << 20);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
    file.sync_all().unwrap();
    let fault = provider.take(&snapshots::run()).await.unwrap_err();
    assert!(fault.kind == Kind::Refused && fault.message.contains("free"), "{fault}");
    std::fs::remove_file(&filler).unwrap();
    snapshots::unharmed(&shard, &provider).await;
}

fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}
