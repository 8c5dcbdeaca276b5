//! Unusual shards: an event, tables of other engines, persisted settings, another page size, a
//! candidate with an errant transaction.

use backstop_testkit::{ShardLayout, TestShard, tables};

use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::source_unharmed::nothing_left;

#[tokio::test(flavor = "multi_thread")]
async fn unusual_shards_are_backed_up_and_rebuilt() {
    let made_with = vec!["--innodb-page-size=8k"];
    let shard = TestShard::start(ShardLayout { members: 2, made_with, ..ShardLayout::default() }).await;
    tables::fill(shard.primary(), 1, 2_000).await;
    shard
        .primary()
        .run(&[
            "CREATE TABLE shop.fired (at TIMESTAMP(6) PRIMARY KEY)",
            "CREATE EVENT shop.fires ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.fired VALUES (NOW(6))",
        ])
        .await;
    shard.settle().await;
    shard.candidate().run(&["SET PERSIST max_connections = 77", "SET PERSIST long_query_time = 3.5"]).await;
    let backstop = Backstop::of(&shard, "clone").await;
    foreign_tables_are_refused(&shard, &backstop).await;

    backstop.json("backup orders").await;
    let rebuilt = RecoveredServer::into(shard.base().join("rebuilt"));
    let line = format!("recover orders --to latest --join --into {}", rebuilt.dir.display());
    let report = backstop.json(&line).await;
    assert_eq!(report["joined"], true, "{report}");
    rebuilt.equals(&shard).await;
    for (sql, wanted) in [
        ("SELECT @@innodb_page_size", "8192"),
        ("SELECT @@GLOBAL.max_connections", "77"),
        ("SELECT @@GLOBAL.long_query_time", "3.500000"),
        ("SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_NAME = 'fires'", "1"),
        ("SELECT COUNT(*) FROM shop.fired", "0"),
        ("SELECT @@GLOBAL.event_scheduler", "OFF"),
    ] {
        assert_eq!(rebuilt.value(sql).await, wanted, "{sql}");
    }
    drop(rebuilt);
    second_choices_are_looked_at(&shard, &backstop).await;
    broken_tables_are_expected(&shard, &backstop).await;
    a_drifted_candidate_is_told(&shard, &backstop).await;
    an_errant_candidate_is_left_out(&shard, &backstop).await;
    nothing_left(&shard, &backstop).await;
}

/// Checks that tables are refused that CLONE would copy without their rows.
async fn foreign_tables_are_refused(shard: &TestShard, backstop: &Backstop) {
    shard
        .primary()
        .run(&["CREATE TABLE shop.old (id INT) ENGINE = MyISAM", "INSERT INTO shop.old VALUES (1)"])
        .await;
    shard.settle().await;
    backstop.run("backup orders").await.failed(20, &["shop.old", "InnoDB"]);
    assert_eq!(backstop.backups().await, Vec::<String>::new());
    shard.primary().run(&["DROP TABLE shop.old"]).await;
    shard.settle().await;
}

/// Checks that a fault that would stop backups in the night of a failover is a warning before it.
async fn second_choices_are_looked_at(shard: &TestShard, backstop: &Backstop) {
    shard.primary().run(&["UNINSTALL PLUGIN clone"]).await;
    let check = backstop.run("--json check orders").await.json();
    let primary = shard.primary().endpoint();
    let findings = check["shards"][0]["findings"].as_array().unwrap();
    let missing = findings.iter().find(|finding| finding["code"] == "clone-plugin-missing").unwrap();
    assert_eq!(
        (&missing["severity"], &missing["on"]["port"]),
        (&"warning".into(), &primary.port.into()),
        "{check}"
    );
    assert!(missing["what"].as_str().unwrap().contains(&primary.to_string()), "{check}");
    shard.primary().run(&["INSTALL PLUGIN clone SONAME 'mysql_clone.so'"]).await;
}

/// Checks that a table that the source cannot read does not keep the others from being recovered;
/// another broken table needs the operator's consent.
async fn broken_tables_are_expected(shard: &TestShard, backstop: &Backstop) {
    let create = |name: &str| format!("CREATE TABLE shop.{name} (id INT PRIMARY KEY)");
    shard.primary().run(&[&create("import"), &create("fine")]).await;
    shard.settle().await;
    shard
        .candidate()
        .run(&[
            "SET GLOBAL super_read_only = OFF",
            "SET sql_log_bin = 0",
            "ALTER TABLE shop.import DISCARD TABLESPACE",
            "SET GLOBAL super_read_only = ON",
        ])
        .await;
    let check = backstop.run("--json check orders").await;
    assert!(check.out.contains("tables-broken") && check.out.contains("shop.import"), "{check}");
    backstop.json("backup orders").await;

    let rebuilt = RecoveredServer::into(shard.base().join("half"));
    let line = format!("recover orders --to latest --standalone --into {}", rebuilt.dir.display());
    backstop.killed(&line, "after:materialise").await;
    std::fs::remove_file(rebuilt.dir.join("data/shop/fine.ibd")).unwrap();
    backstop.run(&line).await.failed(22, &["shop.fine", "--accept-broken 'shop.fine'"]);
    let report = backstop.json(&format!("{line} --accept-broken shop.fine")).await;
    let broken = report["checks"].as_array().unwrap().iter().filter(|check| check["code"] == "table-broken");
    let broken: Vec<_> = broken.map(|check| check["what"].as_str().unwrap()).collect();
    assert!(
        broken.len() == 2 && broken[0].contains("shop.fine") && broken[1].contains("shop.import"),
        "{report}"
    );
    drop(rebuilt);
    shard.primary().run(&["DROP TABLE shop.import, shop.fine"]).await;
    shard.settle().await;
}

/// Checks a table that no GTID accounts for.
async fn a_drifted_candidate_is_told(shard: &TestShard, backstop: &Backstop) {
    let drift = async |sql: &str| {
        let open = ["SET GLOBAL super_read_only = OFF", "SET sql_log_bin = 0", sql];
        shard.candidate().run(&[&open[..], &["SET GLOBAL super_read_only = ON"]].concat()).await;
    };
    drift("CREATE TABLE shop.drifted (id INT PRIMARY KEY)").await;
    let check = backstop.run("--json check orders").await;
    assert!(check.out.contains("tables-differ") && check.status.code() == Some(1), "{check}");
    let backup = backstop.json("backup orders").await;
    assert_eq!(backup["findings"][0]["code"], "tables-differ", "{backup}");
    assert!(backup["findings"][0]["what"].as_str().unwrap().contains("shop.drifted"), "{backup}");
    let listed = backstop.run("backups orders").await;
    assert!(listed.out.contains("DOUBTFUL") && listed.out.contains("shop.drifted"), "{listed}");
    drift("DROP TABLE shop.drifted").await;
}

/// Checks that a transaction that the primary does not have makes a candidate unfit; the reason
/// names it.
async fn an_errant_candidate_is_left_out(shard: &TestShard, backstop: &Backstop) {
    let uuid = shard.candidate().value("SELECT @@server_uuid").await;
    shard
        .candidate()
        .run(&[
            "SET GLOBAL super_read_only = OFF",
            "CREATE DATABASE errant",
            "SET GLOBAL super_read_only = ON",
        ])
        .await;
    let backup = backstop.json("backup orders").await;
    let reason = backup["source_reason"].as_str().unwrap();
    assert_eq!(backup["source"]["role"], "primary", "{backup}");
    assert!(reason.contains(&uuid) && reason.contains(&shard.candidate().endpoint().to_string()), "{reason}");
    assert!(!backup["gtid_executed"].as_str().unwrap().contains(&uuid), "{backup}");
}

/// MySQL empties such a table when it is first used after a start, and logs that as a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn memory_tables_add_no_transaction_to_a_recovered_server() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    tables::fill(shard.primary(), 1, 100).await;
    let statements = ["CREATE TABLE shop.mem (id INT) ENGINE = MEMORY", "INSERT INTO shop.mem VALUES (1)"];
    shard.primary().run(&statements).await;
    shard.settle().await;
    let backstop = Backstop::of(&shard, "clone").await;
    backstop.json("backup orders").await;
    let held = shard.primary().gtid_executed().await;
    for ending in ["--standalone", "--join"] {
        let rebuilt = RecoveredServer::into(shard.base().join("rebuilt"));
        let line = format!("recover orders --to latest {ending} --into {}", rebuilt.dir.display());
        backstop.json(&line).await;
        assert_eq!(rebuilt.gtid_executed().await, held, "{ending}");
        assert_eq!(rebuilt.value("SELECT COUNT(*) FROM shop.mem").await, "0");
        if ending == "--join" {
            assert_eq!(rebuilt.gtid_executed().await, held, "the first use was logged before");
        }
    }
}
