//! Wrong input for an existing shard: each refusal has its exit code and names the fault, before
//! anything is changed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use backstop_testkit::{ShardLayout, TestShard, tables};

use crate::support::program::Backstop;
use crate::support::source_unharmed::entries;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_refused_and_named() {
    let shard = TestShard::start(ShardLayout::single()).await;
    tables::fill(shard.primary(), 1, 2_000).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let into = shard.base().join("new");

    nothing_is_stored_yet(&backstop, &into).await;
    credentials_are_wrong(&shard, &backstop).await;
    let first = backstop.json("backup orders").await;
    shard.primary().run(&["UPDATE shop.t1 SET pad = HEX(RANDOM_BYTES(50))"]).await;
    let second = backstop.json("backup orders").await;
    let id = |backup: &serde_json::Value| backup["backup_id"].as_str().unwrap().to_owned();
    let (first, second) = (id(&first), id(&second));
    targets_are_wrong(&backstop, &into, &first, &second).await;
    directories_and_ports_are_taken(&backstop, &into).await;
    files_and_live_servers_are_no_targets(&shard, &backstop).await;
    server_programs_are_wrong(&backstop, &into).await;
    damage_is_named(&backstop, &into, &first, &second).await;
}

fn recover(into: &Path, more: &str) -> String {
    format!("recover orders --standalone --into {} {more}", into.display())
}

async fn nothing_is_stored_yet(backstop: &Backstop, into: &Path) {
    let never = "backup orders --set repository.create=never";
    for line in ["backups orders --latest", "status", never, &recover(into, "--to latest")] {
        backstop.run(line).await.failed(21, &["no", "backstop init"]);
    }
    assert!(!into.exists() && !backstop.repository.exists(), "nothing was touched");
    backstop.json("init").await;
    for line in ["backups orders --latest", "plan orders --to latest", &recover(into, "--to latest")] {
        backstop.run(line).await.failed(21, &["orders", "no backup", "backstop backup orders"]);
    }
    assert!(!into.exists(), "nothing was touched");
    assert_eq!(entries(&backstop.repository.join("shards")), Vec::<PathBuf>::new());
    for command in ["backup", "backups", "plan --to latest", "verify", "status", "check"] {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        backstop.run(&format!("{verb} payments {rest}")).await.failed(2, &["payments", "orders"]);
    }
}

async fn credentials_are_wrong(shard: &TestShard, backstop: &Backstop) {
    let right = std::fs::read_to_string(&backstop.credentials).unwrap();
    std::fs::set_permissions(&backstop.credentials, PermissionsExt::from_mode(0o644)).unwrap();
    let path = backstop.credentials.display().to_string();
    let ran = backstop.run("backup orders").await;
    ran.failed(20, &[&path, "chmod"]);
    assert!(!ran.err.contains(shard.password()), "{ran}");
    backstop.write_credentials(&right.replacen(shard.password(), "not-the-password", 1));
    backstop.run("backup orders").await.failed(12, &["backstop", &shard.primary().endpoint().to_string()]);
    backstop.write_credentials("user = 'backstop'\npasword = 'hunter2'\nport = 7\n");
    let ran = backstop.run("backup orders").await;
    // The keys are not repeated: a line of such a file may hold a secret anywhere.
    ran.failed(2, &["line 1", "line 2", "line 3", "password"]);
    assert!(!ran.err.contains("hunter2"), "{ran}");
    backstop.write_credentials(&right);
    assert_eq!(backstop.backups().await, Vec::<String>::new());
}

async fn targets_are_wrong(backstop: &Backstop, into: &Path, first: &str, second: &str) {
    for wrong in ["2026-11-23T02:21:33", "yesterday", "after:nonsense", "before:1-5"] {
        backstop.run(&recover(into, &format!("--to {wrong}"))).await.failed(2, &[wrong]);
    }
    let list = backstop.json("backups orders").await;
    let taken: Vec<chrono::DateTime<chrono::Utc>> = list["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["taken_at"].as_str().unwrap().parse().unwrap())
        .collect();
    let between = taken[1] + (taken[0] - taken[1]) / 2;
    let to = between.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    for line in [recover(into, &format!("--to {to}")), format!("plan orders --to {to}")] {
        backstop.run(&line).await.failed(21, &["nearest", first, second]);
    }
    let unknown = "20200101T000000Z-00000000";
    backstop
        .run(&recover(into, &format!("--backup {unknown}")))
        .await
        .failed(21, &[unknown, "there is no backup"]);
    assert!(!into.exists(), "nothing was touched");
}

async fn directories_and_ports_are_taken(backstop: &Backstop, into: &Path) {
    std::fs::create_dir(into).unwrap();
    std::fs::write(into.join("precious"), "mine").unwrap();
    let path = into.display().to_string();
    backstop.run(&recover(into, "--to latest")).await.failed(20, &[&path, "not empty"]);
    assert_eq!(entries(into), [into.join("precious")]);
    std::fs::remove_dir_all(into).unwrap();

    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    backstop.run(&recover(into, &format!("--to latest --port {port}"))).await.failed(20, &[&port]);
    let _ = std::fs::remove_dir_all(into);
}

async fn files_and_live_servers_are_no_targets(shard: &TestShard, backstop: &Backstop) {
    let live = shard.primary().datadir();
    let before = entries(live);
    let file = shard.base().join("file");
    std::fs::write(&file, "mine").unwrap();
    for into in [file.as_path(), live, &shard.primary().dir] {
        let path = into.display().to_string();
        backstop.run(&recover(into, "--to latest")).await.failed(20, &[&path]);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(entries(live), before, "nothing was touched");
}

async fn server_programs_are_wrong(backstop: &Backstop, into: &Path) {
    let older = fake(backstop, "mysqld  Ver 8.0.11 for Linux on x86_64");
    let ancient = fake(backstop, "mysqld  Ver 5.7.44 for Linux on x86_64");
    let other = fake(backstop, "mysqld  Ver 11.8.2-MariaDB for debian-linux-gnu on x86_64");
    for (program, word) in [(&older, "8.0.11"), (&ancient, "5.7.44"), (&other, "MariaDB")] {
        let server = format!("--mysql-server {}", program.display());
        backstop.run(&recover(into, &format!("--to latest {server}"))).await.failed(20, &[word]);
        backstop.run(&format!("backup orders {server}")).await.failed(20, &[word]);
        let _ = std::fs::remove_dir_all(into);
    }
    let another = format!("backup orders --mysql-server {}", fake(backstop, "GNU coreutils").display());
    backstop
        .run(&another)
        .await
        .failed(2, &["is not a MySQL server: it printed `GNU coreutils`", "mysql.server"]);
    let missing = "--mysql-server /nonexistent/mysqld";
    backstop.run(&recover(into, &format!("--to latest {missing}"))).await.failed(2, &["/nonexistent/mysqld"]);
    let _ = std::fs::remove_dir_all(into);
}

/// Creates a program that only prints a version.
fn fake(backstop: &Backstop, version: &str) -> PathBuf {
    let name: String = version.chars().filter(char::is_ascii_alphanumeric).collect();
    let path = backstop.dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// Damages a pack that only the second backup needs: its recovery fails and names the pack; the
/// first backup is recovered.
async fn damage_is_named(backstop: &Backstop, into: &Path, first: &str, second: &str) {
    let before = packs(&backstop.repository);
    let newest =
        before.iter().max_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    let mut bytes = std::fs::read(newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(newest, bytes).unwrap();
    let name = newest.file_name().unwrap().to_string_lossy().into_owned();
    backstop.run(&recover(into, "--to latest")).await.failed(22, &[&name]);
    let _ = std::fs::remove_dir_all(into);
    let verified = backstop.run("--json verify orders --content").await;
    assert_eq!(verified.status.code(), Some(22), "{verified}");
    assert!(verified.out.contains(&name) && verified.out.contains(second), "{verified}");

    let rebuilt = crate::support::recovered_server::RecoveredServer::into(into.to_owned());
    let report = backstop.json(&recover(into, &format!("--backup {first}"))).await;
    assert_eq!(report["backup_id"], first, "{report}");
    assert_eq!(rebuilt.value("SELECT COUNT(*) FROM shop.t1").await, "2000");
}

fn packs(dir: &Path) -> Vec<PathBuf> {
    let below =
        entries(dir).into_iter().flat_map(|path| if path.is_dir() { packs(&path) } else { vec![path] });
    below.filter(|path| path.components().any(|part| part.as_os_str() == "packs")).collect()
}
