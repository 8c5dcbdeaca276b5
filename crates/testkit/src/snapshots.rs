//! What every snapshot provider must stand, with real servers. One suite for all of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop_adapters::clock::SystemClock;
use backstop_adapters::mysql::connect::Connector;
use backstop_adapters::snapshots::{Site, dead};
use backstop_engine::contents::contents;
use backstop_engine::ports::{Faults, Image, Opened, Snapshots, Taken};
use backstop_engine::world::World;
use backstop_model::fault::{Fault, Kind};
use backstop_model::freeze::FreezeRules;
use backstop_model::ids::BackupId;
use backstop_model::topology::Role;

use crate::ledger::{Ledger, Written, missing_on};
use crate::member::Member;
use crate::program::{Quiet, servers};
use crate::shard::Shard;

/// Stops nothing.
pub struct NoFaults;

impl Faults for NoFaults {
    fn reach(&self, _: &str) {}
}

/// Does something when a named point is reached.
pub struct At {
    point: &'static str,
    act: Box<dyn Fn() + Send + Sync>,
}

impl At {
    /// Acts at this point (`before:clone`, `after:image`, …).
    pub fn new(point: &'static str, act: impl Fn() + Send + Sync + 'static) -> Self {
        Self { point, act: Box::new(act) }
    }
}

impl Faults for At {
    fn reach(&self, point: &str) {
        if point == self.point {
            (self.act)();
        }
    }
}

/// The surroundings of a story in a test: real time, nobody to tell, nothing stops it.
pub fn world() -> World {
    // The sender is dropped: nobody asks to stop.
    let (_, stop) = tokio::sync::watch::channel(false);
    World { clock: Arc::new(SystemClock::new()), reporter: Arc::new(Quiet), faults: Arc::new(NoFaults), stop }
}

/// The id of a run that begins now.
pub fn run() -> BackupId {
    BackupId::new(chrono::Utc::now(), crate::accounts::unique() as u32)
}

/// A member of a shard as a source of snapshots, worked on in `work_dir`.
pub async fn site(shard: &Shard, member: &Member, work_dir: &Path) -> Site {
    Site {
        connector: Connector::new(&shard.credentials()),
        endpoint: member.endpoint(),
        role: Role::Primary,
        freeze: FreezeRules::default(),
        work_dir: work_dir.to_owned(),
        servers: Arc::new(servers().await),
        world: world(),
    }
}

/// Restores an opened snapshot to `dir/data`, as a recovery would.
pub fn restore(opened: &Opened, dir: &Path) {
    let mut files = Vec::new();
    list(&opened.root, &opened.root, &mut files);
    let index =
        opened.files.binlogs.as_ref().map(|logs| std::fs::read_to_string(&logs.index).expect("the index"));
    let contents = contents(&opened.root, &files, &opened.files, index.as_deref());
    let data = dir.join("data");
    std::fs::create_dir_all(&data).expect("create a data directory");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o750)).expect("its mode");
    let place = |path: &str| {
        let to = data.join(path);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("create a folder");
        to
    };
    for (path, from) in &contents.kept {
        std::fs::copy(from, place(path)).unwrap_or_else(|error| panic!("copy {path}: {error}"));
    }
    for (path, bytes) in &contents.written {
        std::fs::write(place(path), bytes).expect("write a file");
    }
}

fn list(root: &Path, dir: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("read the snapshot") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its type");
        if kind.is_dir() {
            list(root, &entry.path(), files);
        } else if kind.is_file() {
            let path = entry.path();
            files.push(path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned());
        }
    }
}

/// Starts a server on a restored snapshot.
pub async fn recovered(opened: &Opened, dir: PathBuf) -> Member {
    restore(opened, &dir);
    Member::start_on(&dir, 900, &[]).await
}

/// Under write load: what the snapshot claims is exactly what the recovered server holds, every commit that was
/// acknowledged before the snapshot is in it, and the rows are the first so many of the ledger. Nothing is left
/// after the release, and the source takes writes all the time.
pub async fn exact_under_load(shard: &Shard, source: &Member, snapshots: &dyn Snapshots) -> Taken {
    exact_when_read(shard, source, snapshots, |image| image.tree().expect("a tree")).await
}

/// The same for snapshots that are not directories: `read` gives what stands in for the volume that would be made
/// from them.
pub async fn exact_when_read(
    shard: &Shard,
    source: &Member,
    snapshots: &dyn Snapshots,
    read: impl Fn(Image) -> Opened,
) -> Taken {
    let ledger = Ledger::start(shard.primary()).await;
    ledger.wait_for_more(200).await;
    // On a replica the table itself may still be on its way.
    source.wait_for(&shard.primary().gtid_executed().await).await;
    let before: u64 = source.value("SELECT MAX(id) FROM ledger.entries").await.parse().expect("a number");
    let taken = snapshots.take(&run()).await.unwrap_or_else(|fault| panic!("{fault} ({:?})", fault.hint));
    ledger.wait_for_more(50).await;
    let written = ledger.stop().await;

    let image = snapshots.open(&taken.snapshot).await.expect("open the snapshot");
    let opened = read(image);
    let server = recovered(&opened, shard.base().join(format!("r-{}", taken.snapshot.run))).await;
    assert_eq!(
        server.gtid_executed().await,
        taken.position.gtid_executed,
        "the recovered server holds what was claimed"
    );
    let held: u64 = server.value("SELECT COUNT(*) FROM ledger.entries").await.parse().expect("a number");
    assert!(held >= before, "{before} rows were acknowledged before the snapshot, and it holds {held}");
    assert!(held < written.rows.last().expect("rows").0, "the ledger went on after the snapshot");
    let last = server.value("SELECT MAX(id) FROM ledger.entries").await;
    assert_eq!(last, held.to_string(), "the ledger's rows are numbered without a gap");
    let prefix =
        Written { rows: written.rows.into_iter().filter(|&(id, _)| id <= held).collect(), ..written };
    assert_eq!(
        missing_on(&prefix, &server).await,
        Vec::<u64>::new(),
        "the snapshot holds a prefix of the ledger"
    );
    drop(server);

    snapshots.release(&taken.snapshot).await.expect("release the snapshot");
    assert_eq!(snapshots.list().await.expect("list"), [], "nothing is left");
    snapshots.release(&taken.snapshot).await.expect("releasing twice is no error");
    taken
}

/// The provider refuses, names the thing, leaves nothing, and the source still takes writes.
pub async fn refuses(shard: &Shard, snapshots: &dyn Snapshots, names: &str) -> Fault {
    let checked = snapshots.check().await.expect("check");
    let problem = checked.iter().find(|finding| finding.what.contains(names));
    assert!(problem.is_some(), "check names {names}: {checked:?}");
    let fault = snapshots.take(&run()).await.expect_err("a refusal");
    assert_eq!(fault.kind, Kind::Refused, "{fault}");
    assert!(fault.message.contains(names), "{fault}");
    assert!(fault.hint.is_some(), "{fault} comes with something to do");
    unharmed(shard, snapshots).await;
    fault
}

/// Nothing is left, no lock is held, and an outside session commits within five seconds.
pub async fn unharmed(shard: &Shard, snapshots: &dyn Snapshots) {
    for left in snapshots.list().await.expect("list") {
        snapshots.release(&left).await.expect("release what is left");
    }
    commits(shard.primary()).await;
}

/// An outside session commits within five seconds.
pub async fn commits(member: &Member) {
    let mut session = member.root().await;
    let five = std::time::Duration::from_secs(5);
    for sql in [
        "CREATE DATABASE IF NOT EXISTS outside",
        "CREATE TABLE IF NOT EXISTS outside.t (id INT)",
        "INSERT INTO outside.t VALUES (1)",
    ] {
        session.run_within(sql, five).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// A story that is dropped at a random moment leaves nothing that the next run does not clear.
pub async fn survives_being_dropped(
    shard: &Shard,
    site: &Site,
    snapshots: &dyn Snapshots,
    after: std::time::Duration,
) {
    let run = run();
    let dropped = tokio::time::timeout(after, snapshots.take(&run)).await;
    commits(shard.primary()).await;
    // This process lives, so its runs count as alive until they say that another process made them.
    for left in snapshots.list().await.expect("list") {
        std::fs::write(left.path.join("owner"), r#"{"boot_id":"another","pid":1,"started":1}"#)
            .expect("write owner");
    }
    let left = snapshots.list().await.expect("list").len();
    let cleared = dead::clear_dead_runs(site).await.expect("clear dead runs");
    assert_eq!(cleared.len(), left);
    assert_eq!(snapshots.list().await.expect("list"), [], "nothing is left (dropped: {})", dropped.is_err());
    let clones = shard
        .primary()
        .value("SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE 'CLONE LOCAL%'")
        .await;
    assert_eq!(clones, "0", "no orphaned CLONE");
}
