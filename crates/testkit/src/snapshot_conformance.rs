//! Conformance suite for all snapshot providers, with real servers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::snapshots::{LocalPlace, SnapshotSource, cleanup};
use backstop_engine::context::RunContext;
use backstop_engine::datadir_files::datadir_files;
use backstop_engine::ports::{Failpoints, SnapshotData, SnapshotDir, SnapshotProvider, TakenSnapshot};
use backstop_host::Host;
use backstop_types::error::{Error, ErrorKind};
use backstop_types::freeze::FreezeRules;
use backstop_types::ids::BackupId;
use backstop_types::topology::Role;

use crate::member::TestMember;
use crate::server_program::{QuietReporter, servers};
use crate::shard::TestShard;
use crate::workload::{TestWorkload, WrittenRows, missing_on};

/// Stops nothing.
pub struct NoFailpoints;

impl Failpoints for NoFailpoints {
    fn reach(&self, _: &str) {}
}

/// Runs an action at a named point.
pub struct AtFailpoint {
    point: &'static str,
    act: Box<dyn Fn() + Send + Sync>,
}

impl AtFailpoint {
    /// Acts at this point (`before:clone`, `after:image`, …).
    pub fn new(point: &'static str, act: impl Fn() + Send + Sync + 'static) -> Self {
        Self { point, act: Box::new(act) }
    }
}

impl Failpoints for AtFailpoint {
    fn reach(&self, point: &str) {
        if point == self.point {
            (self.act)();
        }
    }
}

/// Returns the context of an operation in a test: real time, no progress output, no failpoints.
pub fn test_context() -> RunContext {
    // The sender is dropped: no stop is ever requested.
    let (_, stop) = tokio::sync::watch::channel(false);
    RunContext {
        host: Host::system(),
        reporter: Arc::new(QuietReporter),
        failpoints: Arc::new(NoFailpoints),
        stop,
    }
}

/// Returns the id of a run that begins now.
pub fn new_run_id() -> BackupId {
    BackupId::new(chrono::Utc::now(), crate::accounts::unique_number() as u32)
}

/// Returns a member of a shard as a source of snapshots, with the working directory `work_dir`.
pub async fn snapshot_source(shard: &TestShard, member: &TestMember, work_dir: &Path) -> SnapshotSource {
    SnapshotSource {
        connector: Connector::new(&shard.credentials()),
        endpoint: member.endpoint(),
        role: Role::Primary,
        freeze: FreezeRules::default(),
        ctx: test_context(),
        place: LocalPlace { work_dir: work_dir.to_owned(), servers: Arc::new(servers().await) },
    }
}

/// Restores an opened snapshot to `dir/data`, as a recovery would.
pub fn restore(opened: &SnapshotDir, dir: &Path) {
    let mut files = Vec::new();
    list(&opened.root, &opened.root, &mut files);
    let index =
        opened.files.binlogs.as_ref().map(|logs| std::fs::read_to_string(&logs.index).expect("the index"));
    let contents = datadir_files(&opened.root, &files, &opened.files, index.as_deref());
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
pub async fn start_recovered(opened: &SnapshotDir, dir: PathBuf) -> TestMember {
    restore(opened, &dir);
    TestMember::start_on(&dir, 900, &[]).await
}

/// Checks under write load that the recovered server holds exactly what the snapshot claims, that
/// every commit acknowledged before the snapshot is in it, and that its rows are the first ones of
/// the ledger, without a gap. Nothing is left after the release, and the source takes writes all
/// the time.
pub async fn assert_exact_under_load(
    shard: &TestShard,
    source: &TestMember,
    snapshots: &dyn SnapshotProvider,
) -> TakenSnapshot {
    assert_exact_when_read(shard, source, snapshots, |image| image.tree().expect("a tree")).await
}

/// Checks the same for snapshots that are not directories: `read` returns a substitute for the
/// volume that would be made from them.
pub async fn assert_exact_when_read(
    shard: &TestShard,
    source: &TestMember,
    snapshots: &dyn SnapshotProvider,
    read: impl Fn(SnapshotData) -> SnapshotDir,
) -> TakenSnapshot {
    let workload = TestWorkload::start(shard.primary()).await;
    workload.wait_for_more(200).await;
    // On a replica the table itself may not have arrived yet.
    source.wait_for(&shard.primary().gtid_executed().await).await;
    let before: u64 = source.value("SELECT MAX(id) FROM ledger.entries").await.parse().expect("a number");
    let taken =
        snapshots.take(&new_run_id()).await.unwrap_or_else(|error| panic!("{error} ({:?})", error.hint));
    workload.wait_for_more(50).await;
    let written = workload.stop().await;

    let image = snapshots.open(&taken.snapshot).await.expect("open the snapshot");
    let opened = read(image);
    let server = start_recovered(&opened, shard.base().join(format!("r-{}", taken.snapshot.run))).await;
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
        WrittenRows { rows: written.rows.into_iter().filter(|&(id, _)| id <= held).collect(), ..written };
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

/// Checks that the provider refuses, names the cause and leaves nothing, and that the source still
/// takes writes.
pub async fn assert_refuses(shard: &TestShard, snapshots: &dyn SnapshotProvider, names: &str) -> Error {
    let checked = snapshots.check().await.expect("check");
    let problem = checked.iter().find(|finding| finding.what.contains(names));
    assert!(problem.is_some(), "check names {names}: {checked:?}");
    let error = snapshots.take(&new_run_id()).await.expect_err("a refusal");
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.message.contains(names), "{error}");
    assert!(error.hint.is_some(), "{error} comes with something to do");
    assert_unharmed(shard, snapshots).await;
    error
}

/// Checks that nothing is left, no lock is held, and an outside session commits within five
/// seconds.
pub async fn assert_unharmed(shard: &TestShard, snapshots: &dyn SnapshotProvider) {
    for left in snapshots.list().await.expect("list") {
        snapshots.release(&left).await.expect("release what is left");
    }
    assert_commits(shard.primary()).await;
}

/// Checks that an outside session commits within five seconds.
pub async fn assert_commits(member: &TestMember) {
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

/// Checks that the next run clears everything that an operation left when it was dropped at a
/// random time.
pub async fn assert_cancel_safe(
    shard: &TestShard,
    site: &SnapshotSource,
    snapshots: &dyn SnapshotProvider,
    after: std::time::Duration,
) {
    let run = new_run_id();
    let dropped = tokio::time::timeout(after, snapshots.take(&run)).await;
    assert_commits(shard.primary()).await;
    // This process lives, so its runs count as alive until their records name another process.
    for left in snapshots.list().await.expect("list") {
        std::fs::write(left.path.join("owner"), r#"{"boot_id":"another","pid":1,"started":1}"#)
            .expect("write owner");
    }
    let left = snapshots.list().await.expect("list").len();
    let cleared = cleanup::clear_dead_runs(site).await.expect("clear dead runs");
    assert_eq!(cleared.len(), left);
    assert_eq!(snapshots.list().await.expect("list"), [], "nothing is left (dropped: {})", dropped.is_err());
    let clones = shard
        .primary()
        .value("SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE 'CLONE LOCAL%'")
        .await;
    assert_eq!(clones, "0", "no orphaned CLONE");
}
