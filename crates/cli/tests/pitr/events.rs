//! Events of a lost primary: the new primary runs those that ran, and no others.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backstop_adapters::mysql::connection::Connection;
use backstop_testkit::{ShardLayout, TestShard};
use serde_json::Value;

use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, contents};

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the definition of an event that records once that it ran, and where.
fn event(name: &str, more: &str) -> String {
    format!(
        "CREATE DEFINER = bob@localhost EVENT shop.{name} ON SCHEDULE EVERY 1 SECOND ON COMPLETION PRESERVE {more} \
         DO INSERT IGNORE INTO shop.fired VALUES ('{name}', @@server_uuid)"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn new_primary_fires_the_events_of_the_lost_one() {
    let layout = ShardLayout { members: 2, ..ShardLayout::default() };
    let mut shard = TestShard::start(layout.option("event_scheduler = ON")).await;
    let backstop = Backstop::of(&shard, "clone").await;
    before_the_backup(&shard).await;
    backstop.json("backup orders").await;
    after_the_backup(&shard).await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    let known = described(&mut shard.primary().root().await).await;
    let program = shard.program.clone();
    let old = shard.primary().endpoint().to_string();
    shard.members.clear();

    let standalone = RecoveredServer::at(shard.base().join("s"));
    let report = standalone.recover(&backstop, "--to latest --standalone").await;
    assert_eq!(report["events"], Value::Null, "{report}");
    assert_eq!(standalone.value("SELECT @@GLOBAL.event_scheduler").await, "OFF");
    assert_eq!(standalone.value("SELECT SUM(STATUS = 'ENABLED') FROM information_schema.EVENTS").await, "0");
    drop(standalone);

    let primary = RecoveredServer::at(shard.base().join("p"));
    let how = "--to latest --as-primary";
    let line = format!("recover orders {how} --into {}", primary.dir.display());
    backstop.killed(&line, "after:events").await;
    let report = primary.recover(&backstop, how).await;
    assert_reported(&report);
    assert_eq!(report["events"]["scheduler"], true, "{report}");
    assert_fires(&primary).await;
    assert_unchanged(&known, &described(&mut primary.root().await).await);
    let options = std::fs::read_to_string(primary.dir.join("my.cnf")).unwrap();
    assert!(options.contains("\nevent_scheduler = ON\n"), "{options}");
    let altered = "SELECT SUM(COUNT_STAR) FROM performance_schema.events_statements_summary_by_digest \
                   WHERE DIGEST_TEXT LIKE 'ALTER DEFINER%EVENT%'";
    assert_eq!(primary.value(altered).await, "12", "three were replayed, and nine states set once");
    assert_eq!(contents(&backstop).await.timelines.len(), 2);

    recovered_again(&backstop, primary, &report, &old, &program, shard.base()).await;
}

/// Recovers from a backup of the recovered server, with statements that are pasted.
async fn recovered_again(
    backstop: &Backstop,
    primary: RecoveredServer,
    report: &Value,
    old: &str,
    program: &Path,
    base: &Path,
) {
    let port = report["server"]["port"].as_u64().unwrap();
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    std::fs::write(&backstop.config, text.replace(old, &format!("127.0.0.1:{port}"))).unwrap();
    backstop.json("backup orders").await;
    primary.root().await.run("ALTER DEFINER = bob@localhost EVENT shop.off ENABLE").await.unwrap();
    primary.root().await.run("ALTER DEFINER = bob@localhost EVENT shop.off DISABLE").await.unwrap();
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    let known = described(&mut primary.root().await).await;
    drop(primary);
    let again = RecoveredServer::at(base.join("again"));
    let report = again.recover(backstop, "--to latest --as-primary --events print").await;
    assert_eq!(report["events"]["scheduler"], false, "{report}");
    assert_eq!(again.value("SELECT @@GLOBAL.event_scheduler").await, "OFF");
    let statements = report["events"]["statements"].as_array().unwrap();
    let statements: Vec<&str> = statements.iter().map(|statement| statement.as_str().unwrap()).collect();
    let client = program.with_file_name("mysql");
    let mut client = Command::new(if client.exists() { client.as_path() } else { Path::new("mysql") })
        .args(["--no-defaults", "--default-character-set=utf8mb4", "--user=root"])
        .arg(format!("--socket={}", again.dir.join("mysqld.sock").display()))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(statements.join("\n").as_bytes()).unwrap();
    assert!(client.wait().unwrap().success(), "{statements:?}");
    assert_fires(&again).await;
    assert_unchanged(&known, &described(&mut again.root().await).await);
    let persisted = "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables WHERE VARIABLE_NAME = 'event_scheduler'";
    assert_eq!(again.value(persisted).await, "ON");
}

async fn before_the_backup(shard: &TestShard) {
    let mut root = shard.primary().root().await;
    for sql in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.fired (event VARCHAR(64), server CHAR(36), PRIMARY KEY (event, server))",
        "CREATE USER bob@localhost",
        "GRANT ALL ON shop.* TO bob@localhost",
        // Settings that a later session must not apply to the events of this one.
        "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES', time_zone = '+05:00'",
        "SET NAMES latin1",
        &event("stays", ""),
        &event("off", "DISABLE"),
        &event("put_off", ""),
        &event("put_on", "DISABLE"),
        &event("dropped", ""),
        &event("renamed", ""),
        "CREATE DEFINER = bob@localhost EVENT shop.once ON SCHEDULE AT '2037-01-01' DISABLE DO SET @x = 1",
    ] {
        root.run(sql).await.unwrap();
    }
    shard.candidate().wait_for(&shard.primary().gtid_executed().await).await;
}

async fn after_the_backup(shard: &TestShard) {
    let mut root = shard.primary().root().await;
    for sql in [
        "SET SESSION sql_mode = 'ANSI_QUOTES', time_zone = '-03:00'",
        "SET NAMES utf8mb4",
        "ALTER DEFINER = bob@localhost EVENT shop.put_off DISABLE",
        "ALTER DEFINER = bob@localhost EVENT shop.put_on ENABLE",
        "DROP EVENT shop.dropped",
        "ALTER DEFINER = bob@localhost EVENT shop.renamed RENAME TO shop.moved",
        &event("later", ""),
        &event("\"späť `x\"", "").replace("('\"späť `x\"'", "('quoted'"),
        &event("later_off", "DISABLE"),
        "CREATE DEFINER = bob@localhost EVENT shop.done ON SCHEDULE AT NOW() + INTERVAL 1 SECOND ON COMPLETION PRESERVE \
         DO INSERT IGNORE INTO shop.fired VALUES ('done', @@server_uuid)",
    ] {
        root.run(sql).await.unwrap();
    }
    let begin = Instant::now();
    let done = "SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'done'";
    while root.one::<String>(done).await.unwrap() != "DISABLED" {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "the event that fires once does not");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn assert_reported(report: &Value) {
    let names = |list: &Value| -> Vec<String> {
        let mut names: Vec<String> =
            list.as_array().unwrap().iter().map(|name| name["event"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let events = &report["events"];
    assert_eq!(names(&events["enabled"]), ["later", "moved", "put_on", "späť `x", "stays"], "{report}");
    assert_eq!(names(&events["disabled"]), ["done", "later_off", "off", "once", "put_off"], "{report}");
    assert_eq!(
        (&events["unknown"], &events["statements"]),
        (&Value::from(vec![(); 0]), &Value::from(vec![(); 0]))
    );
    let codes: Vec<&str> = events["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["events-over"], "{report}");
    assert!(report["checks"].to_string().contains("events-over"), "{report}");
}

/// Checks that every event that was enabled runs on this server, and no other does.
async fn assert_fires(server: &RecoveredServer) {
    let sql = "SELECT COALESCE(GROUP_CONCAT(event ORDER BY event), '') FROM shop.fired WHERE server = @@server_uuid";
    let begin = Instant::now();
    while server.value(sql).await != "later,put_on,quoted,renamed,stays" {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "these fire: {}", server.value(sql).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

type Columns = BTreeMap<String, String>;

/// Returns the server's description of its events, by their names.
async fn described(root: &mut Connection) -> BTreeMap<String, Columns> {
    let columns: Vec<String> = root
        .query(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'information_schema' AND TABLE_NAME = 'EVENTS'",
        )
        .await
        .unwrap();
    let mut events: BTreeMap<String, Columns> = BTreeMap::new();
    for column in columns {
        let sql = format!(
            "SELECT EVENT_NAME, COALESCE(CAST({column} AS CHAR), '-') FROM information_schema.EVENTS"
        );
        let rows: Vec<(String, String)> = root.query(&sql).await.unwrap();
        for (event, value) in rows {
            events.entry(event).or_default().insert(column.clone(), value);
        }
    }
    events
}

/// Checks that only the events' states and originators differ: an event that is enabled belongs to
/// the server that it runs on.
fn assert_unchanged(before: &BTreeMap<String, Columns>, after: &BTreeMap<String, Columns>) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (event, columns) in before {
        let after = &after[event];
        let differ: Vec<&String> =
            columns.iter().filter(|(name, value)| after[*name] != **value).map(|(name, _)| name).collect();
        let may = ["LAST_ALTERED", "LAST_EXECUTED", "ORIGINATOR", "STATUS"];
        assert!(
            differ.iter().all(|name| may.contains(&name.as_str())),
            "{event}: {differ:?}\n{columns:?}\n{after:?}"
        );
        let fires = |columns: &Columns| columns["STATUS"] == "ENABLED";
        assert_eq!(fires(columns), fires(after), "{event}");
    }
}
