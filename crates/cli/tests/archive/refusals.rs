//! Sources that an archiver refuses, and its messages about transactions that are lost for good.

use backstop_testkit::TestShard;
use rustix::process::Signal;

use crate::byte_identical::single;
use crate::support::program::{Backstop, until};
use crate::support::stored_archive::{ARCHIVE, contents, held};

#[tokio::test(flavor = "multi_thread")]
async fn second_archiver_is_refused_and_a_purge_is_reported() {
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    backstop.run("archive orders").await.failed(2, &["not configured to be archived"]);
    let spool = format!(
        "{caught_up} --set shards.orders.archive.semi_sync=true --set shards.orders.archive.ack=spool"
    );
    backstop.run(&spool).await.failed(20, &["spool", "this host"]);
    assert!(!backstop.repository.exists(), "a refusal makes no repository");

    let archiver = backstop.spawn(ARCHIVE, None);
    until(
        std::time::Duration::from_secs(120),
        || archiver.told(),
        || archiver.told().contains("archiving from"),
    )
    .await;
    backstop.run(&caught_up).await.failed(11, &["orders", &archiver.pid().to_string(), "archive"]);
    archiver.signal(Signal::INT);
    let ran = archiver.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");

    // While no archiver runs, the source writes and purges.
    primary.run(&["CREATE DATABASE one", "CREATE DATABASE two", "FLUSH BINARY LOGS"]).await;
    let lost = primary.gtid_executed().await.subtract(&held(&backstop).await);
    let file = primary.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    primary.run(&[&format!("PURGE BINARY LOGS TO '{file}'"), "CREATE DATABASE three"]).await;
    let ran = backstop.run(&format!("--json {caught_up}")).await;
    assert_eq!(ran.status.code(), Some(1), "{ran}");
    assert!(ran.err.contains("gap:"), "{ran}");
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["gaps"][0]["gtids"], lost.to_string(), "{report}");
    let archive = contents(&backstop).await;
    assert_eq!(archive.timelines.len(), 1);
    let held = held(&backstop).await;
    assert!(held.intersect(&lost).is_empty(), "{held}");
    assert_eq!(primary.gtid_executed().await.subtract(&held), lost);

    // `check` shows the gap as `status` does, by its transactions and times.
    for command in ["check", "status"] {
        let archive = "--set shards.orders.archive.from=primary";
        let ran = backstop.run(&format!("--json {command} orders {archive}")).await;
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{ran}");
        let gap = &report["shards"][0]["coverage"]["gaps"][0];
        assert_eq!(gap["missing"], lost.to_string(), "{ran}");
        assert!(gap["from"].is_string(), "{ran}");
        let findings = report["shards"][0]["findings"].as_array().unwrap();
        let told = findings.iter().find(|finding| finding["code"] == "coverage-gap").unwrap();
        assert!(told["what"].as_str().unwrap().contains(&lost.to_string()), "{told}");
    }

    // A gap is reported once: the archive continues after it.
    primary.run(&["CREATE DATABASE four"]).await;
    let report = backstop.json(&caught_up).await;
    assert_eq!(report["gaps"].as_array().unwrap().len(), 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_gtids_is_refused() {
    let shard = TestShard::start(single().option("binlog_checksum = NONE")).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    primary.run(&["CREATE DATABASE one"]).await;
    backstop.json(&caught_up).await;
    assert_eq!(held(&backstop).await, primary.gtid_executed().await);
    primary.run(&["SET GLOBAL gtid_mode = ON_PERMISSIVE", "SET GLOBAL gtid_mode = OFF_PERMISSIVE"]).await;
    backstop.run(&caught_up).await.failed(20, &["gtid_mode"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_without_the_replication_grant_is_refused() {
    let shard = TestShard::start(single()).await;
    let primary = shard.primary();
    let backstop = Backstop::of(&shard, "clone").await;
    let caught_up = format!("{ARCHIVE} --until-caught-up");
    primary.run(&["REVOKE REPLICATION SLAVE ON *.* FROM 'backstop_replication'@'%'"]).await;
    backstop.run(&caught_up).await.failed(12, &["REPLICATION SLAVE", "docs/grants.md"]);
    primary.run(&["ALTER USER 'backstop_replication'@'%' ACCOUNT LOCK"]).await;
    backstop
        .run(&caught_up)
        .await
        .failed(12, &["the account is locked", "ALTER USER 'backstop_replication'@'HOST' ACCOUNT UNLOCK"]);
    assert!(contents(&backstop).await.segments.is_empty());

    // `check` reports in advance the guarantees that such an archive cannot give.
    primary.run(&["SET PERSIST binlog_format = 'STATEMENT'"]).await;
    let check = backstop.run("--json check orders --set shards.orders.archive.from=primary").await;
    let report: serde_json::Value = serde_json::from_str(&check.out).unwrap();
    let findings = report["shards"][0]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["code"] == "archive-statements"), "{report}");
}
