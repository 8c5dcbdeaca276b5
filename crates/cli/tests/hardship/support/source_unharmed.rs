//! Limits of the harm that a run may do, however it ends: to the shard, and by the files that it
//! leaves.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backstop_testbed::processes::servers_in;
use backstop_testkit::{TestMember, TestShard};

use crate::support::program::Backstop;

/// Limit for an outside session to commit, and for locks to disappear.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for the SQL threads to run and apply.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Counts read locks and backup locks. Writers hold intention locks, which are not among them.
pub const LOCKS: &str = "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE LOCK_TYPE = 'SHARED' \
     AND OBJECT_TYPE IN ('GLOBAL', 'COMMIT', 'BACKUP LOCK')";
const APPLIERS: &str =
    "SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE SERVICE_STATE = 'ON'";
const CLONES: &str =
    "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE 'CLONE LOCAL %'";

/// Checks the shard right after a run was killed, without another run: writes and replication
/// continue, no lock is held.
pub async fn unharmed(shard: &TestShard) {
    let begin = Instant::now();
    backstop_testkit::snapshot_conformance::assert_commits(shard.primary()).await;
    assert!(
        begin.elapsed() < COMMIT_TIMEOUT,
        "an outside session committed only after {:?}",
        begin.elapsed()
    );
    for member in &shard.members {
        value_becomes(member, LOCKS, "0", COMMIT_TIMEOUT).await;
    }
    let written = shard.primary().gtid_executed().await;
    for replica in &shard.members[1..] {
        value_becomes(replica, APPLIERS, "1", APPLY_TIMEOUT).await;
        let applied = format!("SELECT GTID_SUBSET('{written}', @@GLOBAL.gtid_executed)");
        value_becomes(replica, &applied, "1", APPLY_TIMEOUT).await;
    }
}

/// Checks that a whole command leaves nothing of this run or an earlier one on the host or on a
/// server.
pub async fn nothing_left(shard: &TestShard, backstop: &Backstop) {
    let of_shard = entries(&backstop.work.join("orders"));
    let runs = of_shard.iter().filter(|path| !is_of_repository(path)).cloned();
    let runs: Vec<PathBuf> = runs.chain(of_shard.iter().flat_map(|path| entries(path))).collect();
    assert_eq!(runs, Vec::<PathBuf>::new(), "folders of runs");
    assert_eq!(servers_in(&backstop.work), Vec::<u32>::new(), "servers of runs");
    for member in &shard.members {
        assert_eq!(member.value(CLONES).await, "0", "a CLONE on {}", member.endpoint());
        let around = [member.dir.as_path(), member.datadir()];
        let snapshots = around.into_iter().flat_map(entries).filter(|path| is_snapshot(path));
        assert_eq!(snapshots.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "snapshots");
    }
}

/// Returns true for a repository's folder, which is named by its id. Those of runs are named by
/// their times.
fn is_of_repository(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().all(|c| c.is_ascii_hexdigit())
}

/// Waits until the server returns this value.
pub async fn value_becomes(member: &TestMember, sql: &str, wanted: &str, within: Duration) {
    let begin = Instant::now();
    loop {
        let value = member.value(sql).await;
        if value == wanted {
            return;
        }
        let endpoint = member.endpoint();
        assert!(begin.elapsed() < within, "{endpoint} after {within:?}: {sql} gives {value}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_snapshot(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".backstop-20"))
}

/// Returns the entries of a directory; none if it does not exist.
pub fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
