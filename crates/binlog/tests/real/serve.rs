//! Tests of the binlog server with a real replica and `mysqlbinlog` as its clients.

use std::sync::Arc;

use backstop_binlog::{BinlogServer, PasswordCheck, SegmentFolder};
use backstop_testkit::{ShardLayout, TestMember, TestShard};
use tokio::net::TcpListener;

use crate::support::*;

const PASSWORD: &str = "binlog-server-pw";

/// Serves the folder for the duration of the test. Returns the port.
async fn serve(folder: SegmentFolder) -> u16 {
    let server = BinlogServer {
        source: Arc::new(folder),
        user: "replay".into(),
        password: PasswordCheck::new(&PASSWORD.to_owned().into()),
        server_id: 9999,
        server_uuid: "0b5c0000-0000-4000-8000-000000000002".parse().unwrap(),
        version: "9.7.4-backstop".into(),
        now: Arc::new(|| chrono::Utc::now().timestamp()),
        deadline: SECOND * 20,
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { server.serve(listener).await });
    port
}

async fn follow(replica: &TestMember, port: u16) {
    replica
        .run(&[
            "SET GLOBAL super_read_only = OFF",
            "STOP REPLICA",
            "RESET REPLICA ALL",
            &format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='replay', \
                 SOURCE_PASSWORD='{PASSWORD}', SOURCE_AUTO_POSITION=1, SOURCE_SSL=0, SOURCE_HEARTBEAT_PERIOD=0.5, \
                 SOURCE_CONNECT_RETRY=1"
            ),
        ])
        .await;
}

/// Waits until the applier has stopped.
async fn wait_stopped(replica: &TestMember) {
    let begin = std::time::Instant::now();
    let state = "SELECT service_state FROM performance_schema.replication_applier_status";
    while replica.value(state).await != "OFF" {
        assert!(begin.elapsed() < SECOND * 60, "the applier does not stop");
        tokio::time::sleep(SECOND / 20).await;
    }
}

#[tokio::test]
async fn replica_applies_the_archive_and_stops_where_requested() {
    let shard = TestShard::start(
        ShardLayout { members: 2, ..ShardLayout::default() }.option("max_allowed_packet = 256M"),
    )
    .await;
    let (primary, replica) = (shard.primary(), shard.candidate());
    replica.run(&["STOP REPLICA"]).await;
    primary.run(&ALL_KINDS).await;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = SegmentFolder::new(dir.path());
    // Archive the replica first, then the primary: a timeline of two servers.
    all_of(&shard, replica, &mut sink).await;
    all_of(&shard, primary, &mut sink).await;
    let executed = primary.gtid_executed().await;
    let port = serve(sink).await;
    follow(replica, port).await;

    let last: u64 = executed.of_uuid(uuid(primary).await).iter().map(|(_, _, end)| end - 1).max().unwrap();
    let stop = format!("{}:{}", uuid(primary).await, last - 3);
    replica.run(&[&format!("START REPLICA UNTIL SQL_BEFORE_GTIDS = '{stop}'")]).await;
    wait_stopped(replica).await;
    let held = replica.gtid_executed().await;
    assert!(!held.contains(&stop.parse().unwrap()), "{held}");
    replica.run(&["STOP REPLICA", &format!("START REPLICA UNTIL SQL_AFTER_GTIDS = '{stop}'")]).await;
    wait_stopped(replica).await;
    let held = replica.gtid_executed().await;
    assert!(held.contains(&stop.parse().unwrap()) && !executed.is_subset_of(&held), "{held}");

    replica.run(&["STOP REPLICA", "START REPLICA"]).await;
    replica.wait_for(&executed).await;
    assert_eq!(replica.gtid_executed().await, executed);
    for table in ["kinds.t", "kinds.s", "kinds.u"] {
        let sql = format!("CHECKSUM TABLE {table}");
        let sum = async |member: &TestMember| {
            let mut root = member.root().await;
            let row: (String, u64) = root.one(&sql).await.unwrap();
            root.close().await;
            row
        };
        assert_eq!(sum(primary).await, sum(replica).await);
    }
    // The replica stays connected: heartbeats arrive.
    let beats = "SELECT COUNT_RECEIVED_HEARTBEATS FROM performance_schema.replication_connection_status";
    let begin = std::time::Instant::now();
    while replica.value(beats).await == "0" {
        assert!(begin.elapsed() < SECOND * 30, "no heartbeat arrives");
        tokio::time::sleep(SECOND / 10).await;
    }
}

#[tokio::test]
async fn mysqlbinlog_reads_the_archive_by_file_and_by_gtid() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    primary.run(&["CREATE DATABASE one", "FLUSH BINARY LOGS", "CREATE DATABASE two"]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = SegmentFolder::new(dir.path());
    all_of(&shard, primary, &mut sink).await;
    let name = sink.sealed()[0].file.clone();
    let port = serve(sink).await;
    let tool = mysqlbinlog().await;
    let run = async |password: &str, args: &[&str]| {
        let mut command = tokio::process::Command::new(&tool);
        command.args(["--no-defaults", "--host=127.0.0.1", "--user=replay", "--ssl-mode=DISABLED"]);
        command.env("MYSQL_PWD", password).arg(format!("--port={port}")).args(args);
        let output = tokio::time::timeout(SECOND * 30, command.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let by_name = ["--read-from-remote-server", "--verify-binlog-checksum", "--to-last-log", &name];
    let (ok, out, err) = run(PASSWORD, &by_name).await;
    assert!(ok && out.contains("CREATE DATABASE one") && out.contains("CREATE DATABASE two"), "{err}");
    let by_set = ["--read-from-remote-source=BINLOG-DUMP-GTIDS", "--to-last-log", &name];
    let (ok, out, err) = run(PASSWORD, &by_set).await;
    assert!(ok && out.contains("CREATE DATABASE two"), "{err}");
    let (ok, _, err) = run("wrong", &by_name).await;
    assert!(!ok && err.contains("Access denied"), "{err}");
    let (ok, _, err) = run(PASSWORD, &["--read-from-remote-server", "nothing.000001"]).await;
    assert!(!ok && err.contains("lacks the beginning"), "{err}");
}

#[tokio::test]
async fn gap_is_reported_to_a_replica() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    let (primary, replica) = (shard.primary(), shard.candidate());
    replica.run(&["STOP REPLICA"]).await;
    primary.run(&["CREATE DATABASE one", "FLUSH BINARY LOGS", "CREATE DATABASE two"]).await;
    let file = primary.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    primary.run(&[&format!("PURGE BINARY LOGS TO '{file}'")]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut sink = SegmentFolder::new(dir.path());
    all_of(&shard, primary, &mut sink).await;
    follow(replica, serve(sink).await).await;
    replica.run(&["START REPLICA"]).await;
    let error = "SELECT CONCAT(last_error_number, last_error_message) FROM performance_schema.replication_connection_status";
    let begin = std::time::Instant::now();
    loop {
        let said = replica.value(error).await;
        if said.contains("gap") {
            assert!(said.starts_with("13114") || said.starts_with("1236"), "{said}");
            break;
        }
        assert!(begin.elapsed() < SECOND * 30, "no word of the gap: {said}");
        tokio::time::sleep(SECOND / 10).await;
    }
}
