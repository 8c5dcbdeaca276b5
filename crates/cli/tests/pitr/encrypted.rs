//! A server that encrypts its binlog, with a real keyring.

use std::path::Path;
use std::process::Command;

use backstop_testkit::member::as_sent;
use backstop_testkit::server_program::server_program;
use backstop_testkit::server_wrapper::with_keyring;
use backstop_testkit::{ShardLayout, TestMember, TestShard};

use crate::support::program::Backstop;
use crate::support::recovered_server::{RecoveredServer, ServerState};
use crate::support::stored_archive::{ARCHIVE, files, held, uuid};

/// Text in every row, which is found where a row is written in plain text.
const NEEDLE: &str = "an-amount-nobody-may-read";

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_binlog_is_archived_encrypted_and_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let program = Some(with_keyring(dir.path()).await);
    let layout = ShardLayout { program, ..ShardLayout::single() }.option("binlog_encryption = ON");
    let shard = TestShard::start(layout).await;
    let primary = shard.primary();
    let mut backstop = Backstop::of(&shard, "clone").await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    backstop.run(&caught_up).await.failed(20, &["encrypts its binlog", "encryption_key"]);
    assert!(!backstop.repository.exists(), "a refusal makes no repository");

    let insert = |id: u32| format!("INSERT INTO shop.t VALUES ({id}, REPEAT('{NEEDLE} ', 50))");
    primary.run(&["CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, t TEXT)"]).await;
    primary.run(&[&insert(1)]).await;
    backstop.encrypt_repository();
    backstop.json("backup orders").await;
    primary.run(&[&insert(2), "ALTER INSTANCE ROTATE BINLOG MASTER KEY", &insert(3)]).await;
    primary
        .run(&[
            "SET GLOBAL binlog_encryption = OFF",
            &insert(4),
            "SET GLOBAL binlog_encryption = ON",
            &insert(5),
        ])
        .await;
    backstop.json(&caught_up).await;
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    assert_as_mysqlbinlog_gets_them(&backstop, primary, dir.path()).await;
    assert_eq!(who_tells(&backstop.repository), Vec::<String>::new());
    assert_eq!(who_tells(&backstop.work), Vec::<String>::new());

    let rebuilt = RecoveredServer::at(shard.base().join("r"));
    let report = rebuilt.recover(&backstop, "--to latest --standalone").await;
    assert_eq!(rebuilt.held().await, primary.gtid_executed().await, "{report}");
    assert_eq!(rebuilt.state().await, ServerState::of(&mut primary.root().await).await, "{report}");
    assert_eq!(rebuilt.value("SELECT COUNT(*) FROM shop.t").await, "5");
    assert_eq!(rebuilt.value("SELECT @@GLOBAL.binlog_encryption").await, "1");

    // Without the keyring the recovery reports what is missing, and with it the same recovery
    // continues.
    let rebuilt = RecoveredServer::at(shard.base().join("p"));
    let server = server_program().await.mysqld.display();
    let how = format!("--to latest --standalone --into {}", rebuilt.dir.display());
    let ran = backstop.run(&format!("recover orders {how} --set mysql.server={server}")).await;
    ran.failed(1, &["hint: its data or its settings need a keyring"]);
    rebuilt.recover(&backstop, "--to latest --standalone").await;
    assert_eq!(rebuilt.held().await, primary.gtid_executed().await);
}

/// Compares the archive with the output of mysqlbinlog: the server decrypts the events that it
/// sends, and they are archived byte for byte.
async fn assert_as_mysqlbinlog_gets_them(backstop: &Backstop, member: &TestMember, dir: &Path) {
    let archived = files(backstop, uuid(member).await).await;
    let names: Vec<&String> = archived.keys().collect();
    assert!(names.len() >= 4, "each change of the encryption begins a file: {names:?}");
    let ran = Command::new(server_program().await.tools.join("mysqlbinlog"))
        .args([
            "--no-defaults",
            "--read-from-remote-server",
            "--raw",
            "--protocol=socket",
            "-uroot",
            "--result-file",
        ])
        .arg(dir.join("raw-"))
        .arg(format!("--socket={}", member.socket().display()))
        .args(&names)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    for (name, bytes) in &archived {
        let own = as_sent(std::fs::read(dir.join(format!("raw-{name}"))).unwrap(), bytes);
        assert!(own.starts_with(bytes), "{name}: {} archived bytes of {}", bytes.len(), own.len());
        // The file on the disk is unreadable; otherwise the test would prove nothing.
        let stored = std::fs::read(member.datadir().join(name)).unwrap();
        assert!(stored.starts_with(b"\xfdbin") || bytes_tell(&stored), "{name}");
    }
}

/// Returns the files below a folder in which the rows can be read.
fn who_tells(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(who_tells(&path));
        } else if bytes_tell(&std::fs::read(&path).unwrap()) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn bytes_tell(bytes: &[u8]) -> bool {
    bytes.windows(NEEDLE.len()).any(|window| window == NEEDLE.as_bytes())
}
