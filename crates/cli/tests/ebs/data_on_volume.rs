//! Point-in-time recovery on an instance that has a volume of the backup: the data directory
//! exists, and the archive is replayed on it.

use std::process::Command;

use serde_json::Value;

use crate::Fleet;
use crate::support::recovered_server::RecoveredServer;

const ARCHIVE: &str = "archive orders --set shards.orders.archive.from=primary --until-caught-up";

/// Returns the files of the newest snapshot's volume, as if it were mounted here.
fn mounted(fleet: &Fleet, name: &str) -> RecoveredServer {
    let dir = fleet.shard.base().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let image = fleet.ec2.image(fleet.snapshots().last().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").arg(image).arg(dir.join("data")).status().unwrap().success());
    RecoveredServer::into(dir)
}

fn line(backup: &Value, moment: &str, at: &RecoveredServer) -> String {
    let id = backup["backup_id"].as_str().unwrap();
    format!("recover orders --backup {id} --to {moment} --standalone --on-volume --into {}", at.dir.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_is_replayed_on_a_volume_of_the_backup() {
    let fleet = Fleet::start().await;
    let primary = fleet.shard.primary();
    primary
        .run(&[
            "CREATE DATABASE one",
            "CREATE TABLE one.t (id INT PRIMARY KEY)",
            "INSERT INTO one.t VALUES (1)",
        ])
        .await;
    let backup = fleet.backstop.json("backup orders").await;
    primary.run(&["INSERT INTO one.t VALUES (2)", "INSERT INTO one.t VALUES (3)"]).await;
    let wanted = primary.gtid_executed().await;
    primary.run(&["DROP TABLE one.t"]).await;
    fleet.backstop.json(ARCHIVE).await;
    let found = fleet.backstop.json("find orders --table one.t --kind ddl").await;
    let dropped = found["transactions"][0]["gtid"].as_str().unwrap();
    let moment = format!("before:{dropped}");

    let volume = mounted(&fleet, "v");
    let line = line(&backup, &moment, &volume);
    let elsewhere = line.replace("/v", "/nothing");
    fleet
        .backstop
        .run(&elsewhere)
        .await
        .failed(20, &["/nothing/data is not a MySQL data directory", "docs/aws.md"]);
    // A data directory that belongs to another server.
    let living = fleet.shard.base().join("living");
    std::fs::create_dir(&living).unwrap();
    std::os::unix::fs::symlink(primary.datadir(), living.join("data")).unwrap();
    fleet
        .backstop
        .run(&line.replace("/v", "/living"))
        .await
        .failed(20, &["a server is running on", "/living/data"]);
    assert!(
        !living.join(".backstop").exists() && primary.datadir().join("auto.cnf").exists(),
        "nothing was touched"
    );
    assert_eq!(primary.value("SELECT 1").await, "1");
    fleet
        .backstop
        .run(&line.replace(" --on-volume", ""))
        .await
        .failed(20, &["no table `recovery`", "--on-volume"]);
    // Two transactions more than the backup holds, at every kill.
    for point in ["after:decide", "before:start", "before:replay", "after:replay", "before:hand_over"] {
        fleet.backstop.killed(&line, point).await;
    }
    let report = fleet.backstop.json(&line).await;
    assert_eq!(
        (&report["ending"], &report["transactions_replayed"]),
        (&"standalone".into(), &2.into()),
        "{report}"
    );
    assert_eq!(report["backup_id"], backup["backup_id"]);
    assert_eq!(volume.gtid_executed().await, wanted);
    assert_eq!(volume.value("SELECT GROUP_CONCAT(id ORDER BY id) FROM one.t").await, "1,2,3");
    assert_eq!(volume.value("SELECT @@GLOBAL.super_read_only").await, "1");
    assert_ne!(volume.value("SELECT @@server_uuid").await, primary.value("SELECT @@server_uuid").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_another_backup_is_refused() {
    let fleet = Fleet::start().await;
    let first = fleet.backstop.json("backup orders").await;
    fleet.shard.primary().run(&["CREATE DATABASE one"]).await;
    fleet.backstop.json("backup orders").await;
    let volume = mounted(&fleet, "v");
    let ran = fleet.backstop.run(&line(&first, "latest", &volume).replace(" --to latest", "")).await;
    ran.failed(22, &["GTID set differs from its backup's", "extra"]);
}
