//! A store that refuses writes: nothing is acknowledged, the archiver reports it, and nothing is
//! lost.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backstop_testkit::{TestShard, TestWorkload};
use rustix::process::{Pid, Signal, kill_process};

use crate::byte_identical::single;
use crate::kill_random::{rounds, wait_for_archiver};
use crate::support::program::{Backstop, S3, until};
use crate::support::random::Random;
use crate::support::recoverable_rows::lost;
use crate::support::stored_archive::{ARCHIVE, assert_identical, held};

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn archiver_loses_nothing_while_the_store_refuses() {
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    wait_for_archiver(primary).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(50).await;

    // A file is in the place of the repository's folder.
    let away = backstop.repository.with_extension("away");
    std::fs::rename(&backstop.repository, &away).unwrap();
    std::fs::write(&backstop.repository, "in the way").unwrap();
    let told = || archiver.told().matches("note:").count() >= 2;
    until(WAIT_TIMEOUT, || archiver.told(), told).await;
    let stuck = workload.committed();
    std::fs::remove_file(&backstop.repository).unwrap();
    std::fs::rename(&away, &backstop.repository).unwrap();
    workload.wait_for_more(50).await;
    let acknowledged = workload.stop().await.rows.len() as u64;
    assert!(acknowledged > stuck);

    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert_identical(&backstop, primary).await;
}

/// SIGKILL of the store at random moments under load.
#[tokio::test(flavor = "multi_thread")]
async fn archiver_loses_nothing_when_the_store_is_killed() {
    if S3::of_the_tests().is_none() {
        return;
    }
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    wait_for_archiver(primary).await;
    let mut store = Store::start(&shard.base().join("s3"));
    let mut backstop = Backstop::of(&shard, "clone").await;
    backstop.in_bucket(&store.s3, "killed", &store.s3.endpoint);
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    let workload = TestWorkload::start(primary).await;
    let mut dice = Random::new();
    // A round takes twenty seconds; most of them pass until the S3 server stores objects again.
    for _ in 0..rounds().div_ceil(5) {
        workload.wait_for_more(20).await;
        tokio::time::sleep(dice.time(Duration::from_millis(500))).await;
        store.kill();
        let noted = archiver.told().matches("note:").count();
        until(WAIT_TIMEOUT, || archiver.told(), || archiver.told().matches("note:").count() > noted).await;
        store.start_again();
    }
    workload.wait_for_more(20).await;
    let written = workload.stop().await;
    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(lost(&backstop, &written).await, Vec::<u64>::new(), "acknowledged and lost");
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert_identical(&backstop, primary).await;
}

/// An S3 server for this test alone.
struct Store {
    s3: S3,
    dir: PathBuf,
    /// Command line of the server.
    line: Vec<String>,
    pid: Pid,
    again: Option<Child>,
}

impl Store {
    fn start(dir: &Path) -> Self {
        script("start", dir);
        let env = script("env", dir);
        let value = |name: &str| {
            let found =
                env.lines().find_map(|line| line.strip_prefix(&format!("export BACKSTOP_TEST_S3_{name}=")));
            found.unwrap_or_else(|| panic!("{name} is not in {env}")).to_owned()
        };
        let s3 = S3 {
            endpoint: value("ENDPOINT"),
            bucket: value("BUCKET"),
            id: value("ACCESS_KEY_ID"),
            secret: value("SECRET_ACCESS_KEY"),
        };
        let pid: i32 = std::fs::read_to_string(dir.join("pid")).unwrap().trim().parse().unwrap();
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        let line = line.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
        Self { s3, dir: dir.to_owned(), line, pid: Pid::from_raw(pid).unwrap(), again: None }
    }

    fn kill(&mut self) {
        kill_process(self.pid, Signal::KILL).unwrap();
        if let Some(mut child) = self.again.take() {
            child.wait().unwrap();
        }
    }

    /// Starts the server again with the same data and address.
    fn start_again(&mut self) {
        let log = File::options().append(true).open(self.dir.join("server.log")).unwrap();
        let mut command = Command::new(&self.line[0]);
        command.args(&self.line[1..]).current_dir(root()).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.pid = Pid::from_child(&child);
        self.again = Some(child);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::KILL);
        if let Some(child) = &mut self.again {
            let _ = child.wait();
        }
        // The server has files outside its folder.
        let mut stop = Command::new(root().join("testing/s3-server"));
        let _ = stop.arg("stop").env("BACKSTOP_S3_DIR", &self.dir).output();
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn script(word: &str, dir: &Path) -> String {
    let mut command = Command::new(root().join("testing/s3-server"));
    let ran = command.arg(word).env("BACKSTOP_S3_DIR", dir).output().unwrap();
    assert!(ran.status.success(), "s3-server {word}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}
