//! `check` and `status` report on an archive, and `check --fix` sets the primary's variables.

use std::time::{Duration, Instant};

use backstop_testkit::{ShardLayout, TestShard};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::program::Backstop;
use crate::support::stored_archive::ARCHIVE;

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
const SEMI_SYNC_OPTIONS: &str =
    "--set shards.orders.archive.from=primary --set shards.orders.archive.semi_sync=true";

/// Returns a command's findings, by code.
async fn findings(backstop: &Backstop, line: &str) -> Vec<Value> {
    let ran = backstop.run(&format!("--json {line}")).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran}"));
    report["shards"][0]["findings"].as_array().unwrap().clone()
}

fn with<'a>(findings: &'a [Value], code: &str) -> Option<&'a Value> {
    findings.iter().find(|finding| finding["code"] == code)
}

/// Waits until a command has a finding.
async fn found(backstop: &Backstop, line: &str, code: &str) -> Value {
    let begin = Instant::now();
    loop {
        let all = findings(backstop, line).await;
        if let Some(finding) = with(&all, code) {
            return finding.clone();
        }
        assert!(begin.elapsed() < WAIT_TIMEOUT, "no {code}: {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_fix_enables_semi_sync_only_with_a_live_archiver() {
    let layout = ShardLayout { grants: vec!["base", "clone", "replication", "fix"], ..ShardLayout::single() };
    let shard = TestShard::start(layout).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("init").await;
    let all = findings(&backstop, "check orders").await;
    assert_eq!(with(&all, "archive-not-configured").unwrap()["severity"], "warning");

    // No archiver runs: `check` offers nothing that would stop writes.
    let status = format!("status orders {SEMI_SYNC_OPTIONS}");
    let check = format!("check orders {SEMI_SYNC_OPTIONS}");
    let all = findings(&backstop, &check).await;
    assert_eq!(with(&all, "archiver-never-ran").unwrap()["severity"], "warning");
    let semi_sync = with(&all, "archive-semi-sync").unwrap();
    let fix = semi_sync["fix"].as_array().unwrap();
    assert!(fix.len() == 5 && semi_sync["severity"] == "problem", "{semi_sync}");
    assert!(!semi_sync["fix"].to_string().contains("_enabled = ON"), "{semi_sync}");
    let all = findings(&backstop, &status).await;
    assert_eq!(with(&all, "archiver-never-ran").unwrap()["severity"], "problem");

    // An archiver runs, and the primary is to wait for it.
    primary.run(&["CREATE DATABASE one"]).await;
    let archiver = backstop.spawn(ARCHIVE, None);
    found(&backstop, &status, "archiver-running").await;
    let all = findings(&backstop, &check).await;
    let semi_sync = with(&all, "archive-semi-sync").unwrap();
    assert_eq!(semi_sync["fix"].as_array().unwrap().len(), 6, "{semi_sync}");
    assert_eq!(semi_sync["on"]["port"], primary.endpoint().port, "{semi_sync}");
    archiver.signal(Signal::TERM);
    archiver.end().await;
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    // The archiver refuses a source that cannot wait, and prints a hint.
    let ran = archiver.end().await;
    ran.failed(20, &["semi-synchronous"]);
    let archiver = backstop.spawn(ARCHIVE, None);
    found(&backstop, &check, "archiver-running").await;
    backstop.run(&format!("{check} --fix --yes")).await;
    for (variable, value) in [
        ("enabled", "1"),
        ("timeout", "4294967295"),
        ("wait_no_replica", "1"),
        ("wait_for_replica_count", "1"),
        ("wait_point", "AFTER_SYNC"),
    ] {
        let now = primary.value(&format!("SELECT @@GLOBAL.rpl_semi_sync_source_{variable}")).await;
        assert_eq!(now, value, "{variable}");
    }
    archiver.signal(Signal::TERM);
    archiver.end().await;
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    primary.run(&["CREATE DATABASE two"]).await;
    let finding = found(&backstop, &check, "archive-semi-sync").await;
    assert_eq!(finding["severity"], "ok", "{finding}");
    let ran = backstop.run(&format!("--json {status}")).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["shards"][0]["rpo_seconds"], 0.0, "{report}");

    // A heartbeat that is seconds old does not prove that an archiver runs.
    archiver.signal(Signal::TERM);
    archiver.end().await;
    primary.run(&["SET GLOBAL rpl_semi_sync_source_enabled = OFF"]).await;
    let all = findings(&backstop, &check).await;
    assert_eq!(with(&all, "archive-semi-sync").unwrap()["fix"].as_array().unwrap().len(), 1);
    backstop.run(&format!("{check} --fix --yes")).await.failed(20, &["no heartbeat in 15 s"]);
    assert_eq!(primary.value("SELECT @@GLOBAL.rpl_semi_sync_source_enabled").await, "0");
    let archiver = backstop.spawn(&format!("{ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    found(&backstop, &check, "archiver-running").await;
    backstop.run(&format!("{check} --fix --yes")).await;
    assert_eq!(primary.value("SELECT @@GLOBAL.rpl_semi_sync_source_enabled").await, "1");

    // The degrade policy: the primary's own timeout ends the wait, and `status` reports it.
    archiver.signal(Signal::KILL);
    archiver.end().await;
    primary.run(&["SET GLOBAL rpl_semi_sync_source_timeout = 100", "CREATE DATABASE three"]).await;
    let finding = found(&backstop, &check, "archive-semi-sync").await;
    assert_eq!(finding["severity"], "problem", "{finding}");
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_prints_a_service_with_the_systemd_option() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let unit = backstop.json("archive orders --systemd").await;
    let content = unit["service"]["content"].as_str().unwrap();
    assert!(content.contains("archive orders") && content.contains("Restart=always"), "{content}");
}
