//! The freeze on real servers: what it holds, its duration, and the locks that it avoids.

use std::io::BufRead;
use std::process::Stdio;
use std::time::{Duration, Instant};

use backstop_adapters::mysql::connection::{Connector, Login};
use backstop_adapters::mysql::freeze_locks::MysqlFreezeSessions;
use backstop_engine::freeze::{Frozen, freeze_lock_free, freeze_locked};
use backstop_testkit::accounts::ALL_BACKUPS;
use backstop_testkit::{ShardLayout, TestMember, TestShard, TestWorkload, snapshot_conformance, tables};
use backstop_types::error::{Error, ErrorKind};
use backstop_types::freeze::{FreezeMode, FreezeRules};

fn rules() -> FreezeRules {
    FreezeRules { wait: Duration::from_secs(3), ..FreezeRules::default() }
}

fn sessions(shard: &TestShard, member: &TestMember) -> MysqlFreezeSessions {
    MysqlFreezeSessions::new(Connector::new(&shard.credentials()), member.endpoint())
}

async fn lock(shard: &TestShard, rules: &FreezeRules) -> Result<Frozen, Error> {
    freeze_locked(&sessions(shard, shard.primary()), rules, &snapshot_conformance::test_context()).await
}

/// Waits until a statement of another session runs on the server.
async fn until_running(member: &TestMember, like: &str) {
    let sql = format!(
        "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE '{like}' \
         AND PROCESSLIST_ID <> CONNECTION_ID()"
    );
    until(Duration::from_secs(20), || async { member.value(&sql).await != "0" }).await;
}

async fn until_not_running(member: &TestMember, like: &str) {
    let sql = format!(
        "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE '{like}' \
         AND PROCESSLIST_ID <> CONNECTION_ID()"
    );
    until(Duration::from_secs(20), || async { member.value(&sql).await == "0" }).await;
}

async fn until<F: Future<Output = bool>>(deadline: Duration, ready: impl Fn() -> F) {
    let begin = Instant::now();
    while !ready().await {
        assert!(begin.elapsed() < deadline, "not so within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a statement in a separate session, in the background.
async fn in_background(
    member: &TestMember,
    user: &str,
    statements: &'static [&'static str],
    like: &str,
) -> tokio::task::JoinHandle<()> {
    let login = Login { user: user.into(), password: String::new().into() };
    let mut session = Connector::with_login(login, None).connect(member.socket()).await.unwrap();
    let task = tokio::spawn(async move {
        for sql in statements {
            let _ = session.run_within(sql, Duration::from_secs(60)).await;
        }
    });
    until_running(member, like).await;
    task
}

#[tokio::test]
async fn read_lock_blocks_commits_and_its_position_is_exact() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let workload = TestWorkload::start(shard.primary()).await;
    workload.wait_for_more(100).await;
    let frozen = lock(&shard, &rules()).await.unwrap();
    let held = shard.primary().gtid_executed().await;
    assert_eq!(frozen.position().gtid_executed, held);
    assert!(frozen.remaining() > Duration::ZERO && frozen.position().binlog_file.is_some());
    let mut other = shard.primary().root().await;
    other.run("SET SESSION lock_wait_timeout = 1").await.unwrap();
    assert!(other.run("CREATE DATABASE other").await.is_err(), "the lock holds writes");
    assert_eq!(shard.primary().gtid_executed().await, held, "nothing was committed");
    let report = frozen.thaw().await.unwrap();
    assert_eq!(report.mode, FreezeMode::Lock);
    assert!(report.held_ms >= 1000.0 && report.held_ms < 2000.0, "{report:?}");
    workload.wait_for_more(10).await;
    workload.stop().await;
}

#[tokio::test]
async fn thaw_fails_after_a_lost_session_or_an_overrun_hold() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    let frozen = lock(&shard, &rules()).await.unwrap();
    let backstops = "SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE PROCESSLIST_USER = 'backstop' \
                     ORDER BY PROCESSLIST_ID LIMIT 1";
    let id = primary.value(backstops).await;
    primary.run(&[&format!("KILL {id}")]).await;
    snapshot_conformance::assert_commits(primary).await;
    assert!(frozen.thaw().await.unwrap_err().message.contains("prove that the freeze held"));

    let short = FreezeRules { hold: Duration::from_secs(1), ..rules() };
    let frozen = lock(&shard, &short).await.unwrap();
    snapshot_conformance::assert_commits(primary).await; // only once the bound has passed
    assert!(frozen.remaining() < Duration::from_millis(100), "{:?}", frozen.remaining());
    let error = frozen.thaw().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed, "{error}");

    // Without a thaw, the session ends with its owner.
    drop(lock(&shard, &rules()).await.unwrap());
    snapshot_conformance::assert_commits(primary).await;
}

/// Freezes and never thaws, in a separate process that the next test stops.
#[tokio::test]
#[ignore = "run by the next test"]
async fn frozen_child_holds_the_lock() {
    let port = std::env::var("BACKSTOP_TEST_PORT").unwrap().parse().unwrap();
    let password = std::env::var("BACKSTOP_TEST_PASSWORD").unwrap();
    let credentials = backstop_testkit::accounts::credentials(&password);
    let endpoint = backstop_types::ids::Endpoint::new("127.0.0.1", port);
    let sessions = MysqlFreezeSessions::new(Connector::new(&credentials), endpoint);
    let frozen = freeze_locked(&sessions, &rules(), &snapshot_conformance::test_context()).await.unwrap();
    println!("\nfrozen");
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(frozen);
}

#[tokio::test]
async fn server_releases_the_lock_when_backstop_is_stopped() {
    let shard = TestShard::start(ShardLayout::single()).await;
    for signal in ["STOP", "KILL"] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "freeze::frozen_child_holds_the_lock", "--ignored", "--nocapture"])
            .env("BACKSTOP_TEST_PORT", shard.primary().endpoint().port.to_string())
            .env("BACKSTOP_TEST_PASSWORD", shard.password())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "frozen"), "the child freezes");
        let kill = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        snapshot_conformance::assert_commits(shard.primary()).await; // within five seconds; the bound is two
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[tokio::test]
async fn long_query_is_awaited_named_and_killed_only_if_allowed() {
    let grants = [&ALL_BACKUPS[..], &["kill-blockers"]].concat();
    let shard = TestShard::start(ShardLayout { grants, ..ShardLayout::single() }).await;
    let primary = shard.primary();
    tables::fill(primary, 1, 100).await;
    // An account like an application's: Backstop's account may not kill the statements of root, who
    // is a SYSTEM_USER.
    primary.run(&["CREATE USER app@localhost", "GRANT SELECT ON shop.* TO app@localhost"]).await;
    let query =
        in_background(primary, "app", &["SELECT SLEEP(40) FROM shop.t1 LIMIT 1"], "SELECT SLEEP%").await;
    until(Duration::from_secs(10), || async {
        primary.value("SELECT MAX(PROCESSLIST_TIME) FROM performance_schema.threads WHERE PROCESSLIST_INFO LIKE 'SELECT SLEEP%'").await.parse::<u64>().is_ok_and(|s| s >= 1)
    })
    .await;
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(10).await;
    let error = lock(&shard, &rules()).await.err().expect("a refusal");
    let written = workload.stop().await;
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.message.contains("of `app` has been running a statement"), "{error}");
    assert!(
        written.longest_gap < Duration::from_secs(1),
        "writes did not pile up: {:?}",
        written.longest_gap
    );

    let killing = FreezeRules { kill_blockers: true, ..rules() };
    let frozen = lock(&shard, &killing).await.unwrap();
    frozen.thaw().await.unwrap();
    query.await.unwrap();
}

#[tokio::test]
async fn ddl_and_other_locks_are_awaited_and_never_killed() {
    let grants = [&ALL_BACKUPS[..], &["kill-blockers"]].concat();
    let shard = TestShard::start(ShardLayout { grants, ..ShardLayout::single() }).await;
    let primary = shard.primary();
    tables::fill(primary, 1, 100).await;
    let killing = FreezeRules { kill_blockers: true, ..rules() };

    // An ALTER that waits for an open transaction.
    let mut transaction = primary.root().await;
    transaction.run("BEGIN").await.unwrap();
    transaction.run("SELECT COUNT(*) FROM shop.t1").await.unwrap();
    let alter =
        in_background(primary, "root", &["ALTER TABLE shop.t1 ADD COLUMN more INT"], "ALTER TABLE%").await;
    let error = lock(&shard, &killing).await.err().expect("a refusal");
    assert!(error.message.contains("DDL"), "{error}");
    let free =
        freeze_lock_free(&sessions(&shard, primary), &rules(), &snapshot_conformance::test_context()).await;
    let error = free.err().expect("DDL holds up the lock-free freeze too");
    assert!(error.kind == ErrorKind::Refused && error.message.contains("DDL"), "{error}");
    until_running(primary, "ALTER TABLE%").await;
    transaction.run("COMMIT").await.unwrap();
    alter.await.unwrap();
    assert_eq!(primary.value("SELECT COUNT(more) FROM shop.t1").await, "0");

    // Another session's read lock that waits itself.
    let mut holder = primary.root().await;
    holder.run("LOCK TABLES shop.t1 WRITE").await.unwrap();
    let waiting =
        in_background(primary, "root", &["FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"], "FLUSH TABLES%")
            .await;
    let error = lock(&shard, &killing).await.err().expect("a refusal");
    assert!(error.kind == ErrorKind::Refused && error.message.contains("another global lock"), "{error}");
    holder.run("UNLOCK TABLES").await.unwrap();
    waiting.await.unwrap();
    snapshot_conformance::assert_commits(primary).await;
    lock(&shard, &rules()).await.unwrap().thaw().await.unwrap();
}

#[tokio::test]
async fn ungranted_lock_leaves_no_session_even_if_dropped() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    tables::fill(primary, 1, 100).await;
    // The session runs no statement, so it is not visible before the lock is requested.
    let mut holder = primary.root().await;
    holder.run("LOCK TABLES shop.t1 WRITE").await.unwrap();
    let error = lock(&shard, &rules()).await.err().expect("a refusal");
    assert!(error.message.contains("holds locks"), "{error}");
    until_not_running(primary, "FLUSH LOCAL%").await;

    let rules = rules();
    let waiting = tokio::spawn({
        let sessions = sessions(&shard, primary);
        async move { freeze_locked(&sessions, &rules, &snapshot_conformance::test_context()).await.map(drop) }
    });
    until_running(primary, "FLUSH LOCAL TABLES%").await;
    waiting.abort();
    until_not_running(primary, "FLUSH LOCAL%").await;
    holder.run("UNLOCK TABLES").await.unwrap();
    snapshot_conformance::assert_commits(primary).await;
}

#[tokio::test]
async fn lock_free_freeze_blocks_ddl_and_not_commits() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    tables::fill(primary, 1, 100).await;
    let workload = TestWorkload::start(primary).await;
    let frozen =
        freeze_lock_free(&sessions(&shard, primary), &rules(), &snapshot_conformance::test_context())
            .await
            .unwrap();
    assert!(frozen.position().binlog_position > 0);
    workload.wait_for_more(20).await;
    let mut other = primary.root().await;
    other.run("SET SESSION lock_wait_timeout = 1").await.unwrap();
    assert!(other.run("ALTER TABLE shop.t1 ADD COLUMN more INT").await.is_err(), "DDL waits");
    assert_eq!(frozen.thaw().await.unwrap().mode, FreezeMode::LockFree);
    other.run("ALTER TABLE shop.t1 ADD COLUMN more INT").await.unwrap();
    workload.stop().await;
}

#[tokio::test]
async fn replica_keeps_replicating_without_errant_transactions() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    let replica = shard.candidate();
    let own = replica.value("SELECT @@server_uuid").await;
    let workload = TestWorkload::start(shard.primary()).await;
    workload.wait_for_more(50).await;
    for _ in 0..5 {
        let frozen =
            freeze_locked(&sessions(&shard, replica), &rules(), &snapshot_conformance::test_context())
                .await
                .unwrap();
        let held = frozen.position().gtid_executed.clone();
        assert_eq!(replica.gtid_executed().await, held);
        frozen.thaw().await.unwrap();
        workload.wait_for_more(20).await;
    }
    workload.stop().await;
    shard.settle().await;
    assert!(!replica.value("SELECT @@GLOBAL.gtid_executed").await.contains(&own), "no errant transaction");
}
