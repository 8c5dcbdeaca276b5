//! Passwords are in the credentials files, and nowhere else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backstop_testkit::{ShardLayout, TestShard, tables};

use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;

/// Returns true for files in which MySQL itself keeps the password with which a replica logs in
/// (`mysql.slave_master_info`, in clear): its tablespace, and the redo and undo logs that the row
/// went through. The statement in the binary log has no password, and `RESET REPLICA ALL` of a
/// recovery empties the row. A backup of that tablespace is in packs.
fn is_mysqls_own(path: &Path) -> bool {
    let text = path.to_string_lossy();
    if text.contains("/repository/shards/orders/packs/") {
        return true;
    }
    text.contains("/data/")
        && ["mysql.ibd", "#innodb_redo", "undo_0", "#ib_", "ibdata1"].iter().any(|name| text.contains(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_written_nowhere() {
    let general = "general_log = ON";
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }.option(general)).await;
    tables::fill(shard.primary(), 1, 500).await;
    shard.settle().await;
    let backstop = Backstop::of(&shard, "clone").await;
    // Only the replication password may be where MySQL keeps it; the account's own password is
    // another one.
    let (replication, own) = (shard.password().to_owned(), format!("own-{}", shard.password()));
    shard.primary().run(&[&format!("ALTER USER 'backstop'@'%' IDENTIFIED BY '{own}'")]).await;
    shard.settle().await;
    let credentials = std::fs::read_to_string(&backstop.credentials).unwrap();
    let first = format!("\npassword = '{replication}'");
    assert!(credentials.contains(&first), "{credentials}");
    backstop.write_credentials(&credentials.replace(&first, &format!("\npassword = '{own}'")));
    // The replication password is part of the other, so that a search for it finds both.
    let seen = Sampler::start(replication.clone());
    let rebuilt = RecoveredServer::into(shard.base().join("rebuilt"));
    run_everything(&shard, &backstop, &rebuilt).await;
    assert_eq!(seen.stop(), BTreeSet::<String>::new(), "command lines and environments with a password");

    let mut found = Vec::new();
    let mut looked = 0;
    for dir in [&backstop.dir, &rebuilt.dir] {
        for path in files(dir) {
            looked += 1;
            let bytes = std::fs::read(&path).unwrap_or_default();
            let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            let wrong = holds(&own) || (holds(&replication) && !is_mysqls_own(&path));
            if wrong && path != backstop.credentials {
                found.push(path);
            }
        }
    }
    assert!(looked > 100, "{looked} files were searched");
    assert_eq!(found, Vec::<PathBuf>::new(), "files with a password");
    let said = std::fs::read_dir(backstop.dir.join("said")).unwrap().count();
    assert!(said > 20, "what was said is among the files");
}

/// Runs every command with every kind of output, also with failures.
async fn run_everything(shard: &TestShard, backstop: &Backstop, rebuilt: &RecoveredServer) {
    let join = format!("recover orders --to latest --join --into {}", rebuilt.dir.display());
    let commands = [
        "check",
        "check orders --fix --yes",
        "backup orders",
        "backups orders",
        "plan orders --to latest",
        &join,
        "status",
        "verify orders --content",
        "prune orders --apply",
    ];
    for more in ["-vv", "-vv --json"] {
        for command in commands {
            backstop.run(&format!("{more} {command}")).await;
        }
    }
    assert!(rebuilt.dir.join("mysqld.sock").exists(), "the recovery succeeded");
    rebuilt.equals(shard).await;
    let right = std::fs::read_to_string(&backstop.credentials).unwrap();
    let broken = [
        right.replace("user = 'backstop'", "user = 'nobody'"),
        right.replace("user = ", "usr = "),
        right.replace("password = '", "password = \""),
        right.replace("replication_user = 'backstop_replication'", "replication_user = 'nobody'"),
    ];
    for text in broken {
        backstop.write_credentials(&text);
        let failing =
            format!("recover orders --to latest --join --into {}", shard.base().join("failing").display());
        for command in ["-vv check", "-vv backup orders", "-vv --json status", &format!("-vv {failing}")] {
            backstop.run(command).await;
        }
        drop(RecoveredServer::into(shard.base().join("failing")));
    }
    backstop.write_credentials(&right);
}

/// Inspects all command lines and environments while commands run.
struct Sampler {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Sampler {
    fn start(password: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::SeqCst) {
                seen.extend(sample(&password));
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            seen
        });
        Self { stop, thread }
    }

    fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn sample(password: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let texts = processes.flat_map(|process| [process.join("cmdline"), process.join("environ")]);
    let holds = |path: &PathBuf| {
        std::fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(password))
    };
    texts.filter(holds).map(|path| path.display().to_string()).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = crate::support::source_unharmed::entries(dir).into_iter().filter(|path| !path.is_symlink());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
