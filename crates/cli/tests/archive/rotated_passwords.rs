//! Passwords that are rotated while the program runs, in the order of AWS's rotation functions: the
//! server first (step setSecret), the secret some seconds later (finishSecret).
//! docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html

use std::time::Duration;

use backstop_testkit::workload::missing_on;
use backstop_testkit::{ShardLayout, TestMember, TestShard, TestWorkload};
use rustix::process::Signal;

use crate::kill_random::wait_for_archiver;
use crate::support::program::{Backstop, RunningBackstop, until};
use crate::support::recoverable_rows::lost;
use crate::support::stored_archive::{ARCHIVE, assert_identical, held};

/// Number of commits that a primary acknowledged to its clients after the archiver had.
const ACKNOWLEDGED: &str = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                            WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_yes_tx'";
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

fn written(backstop: &Backstop, password: &str) {
    backstop.write_credentials(&format!(
        "user = 'backstop'\npassword = '{password}'\nreplication_user = 'backstop_replication'\n\
         replication_password = '{password}'\n"
    ));
}

/// Gives the accounts another password.
async fn altered(primary: &TestMember, password: &str) {
    let alter = |account: &str| format!("ALTER USER {account}@'%' IDENTIFIED BY '{password}'");
    primary.run(&[alter("backstop"), alter("backstop_replication")].each_ref().map(String::as_str)).await;
}

/// Lets the fourth refusal in a row lock the accounts for a day.
async fn limited(primary: &TestMember) {
    let limit =
        |account: &str| format!("ALTER USER {account}@'%' FAILED_LOGIN_ATTEMPTS 4 PASSWORD_LOCK_TIME 1");
    primary.run(&[limit("backstop"), limit("backstop_replication")].each_ref().map(String::as_str)).await;
}

/// Gives the accounts another password, and ends all their sessions.
async fn changed(primary: &TestMember, password: &str) {
    altered(primary, password).await;
    let mut root = primary.root().await;
    let sessions = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER LIKE 'backstop%'";
    for id in root.query::<u64>(sessions).await.unwrap() {
        // The session may have ended by itself.
        let _ = root.run(&format!("KILL {id}")).await;
    }
}

async fn caught_up(backstop: &Backstop, primary: &TestMember, archiver: &RunningBackstop) {
    let now = primary.gtid_executed().await;
    let begin = std::time::Instant::now();
    while !now.is_subset_of(&held(backstop).await) {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "not archived: {now}: {}", archiver.told());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archiver_reads_changed_passwords_again() {
    let shard =
        TestShard::start(ShardLayout { grants: vec!["base", "replication"], ..ShardLayout::single() }).await;
    let primary = shard.primary();
    limited(primary).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let archiver = backstop.spawn(&format!("--json {ARCHIVE}"), None);
    let workload = TestWorkload::start(primary).await;
    workload.wait_for_more(20).await;
    caught_up(&backstop, primary, &archiver).await;

    // The file is changed first: it is read again when the server refuses the old password.
    written(&backstop, "Second-1");
    changed(primary, "Second-1").await;
    workload.wait_for_more(20).await;
    caught_up(&backstop, primary, &archiver).await;

    // The server is changed first: until the file is written, logins do not lock the account.
    changed(primary, "Third-1").await;
    let refused = || archiver.told().contains("user or password is wrong");
    until(WAIT_TIMEOUT, || archiver.told(), refused).await;
    workload.wait_for_more(20).await;
    written(&backstop, "Third-1");
    caught_up(&backstop, primary, &archiver).await;

    workload.stop().await;
    caught_up(&backstop, primary, &archiver).await;
    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    let report = ran.json();
    assert_eq!(report["gaps"].as_array().unwrap().len(), 0, "{report}");
    assert!(ran.err.contains("the credentials have changed"), "{ran}");
    assert!(!ran.err.contains("Second-1") && !ran.err.contains("Third-1"), "{ran}");
    assert_identical(&backstop, primary).await;
}

/// Returns the number of logins that a server has refused.
async fn refusals(server: &TestMember) -> u64 {
    let told = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                WHERE VARIABLE_NAME = 'Aborted_connects'";
    server.value(told).await.parse().unwrap()
}

/// Waits until the program has tried a wrong password.
async fn refused(server: &TestMember, earlier: u64, program: &RunningBackstop) {
    let begin = std::time::Instant::now();
    while refusals(server).await == earlier {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "no login was refused: {}", program.told());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Loads semi-synchronous replication on a replica, so that a promotion only turns it on.
async fn waits_for_archiver_once_primary(replica: &TestMember) {
    let statements = [
        "SET GLOBAL super_read_only = OFF",
        "SET sql_log_bin = 0",
        "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
        "SET GLOBAL rpl_semi_sync_source_timeout = 4294967295",
        "SET GLOBAL super_read_only = ON",
    ];
    replica.run(&statements).await;
}

/// Makes the second member the primary, and the first its replica.
async fn taken_over(shard: &TestShard, password: &str) {
    let [old, new] = &shard.members[..] else { panic!("two members") };
    old.run(&["SET GLOBAL super_read_only = ON"]).await;
    new.wait_for(&old.gtid_executed().await).await;
    new.run(&["STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL rpl_semi_sync_source_enabled = ON"]).await;
    new.run(&["SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"]).await;
    let source = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, \
         SOURCE_USER = 'backstop_replication', SOURCE_PASSWORD = '{password}', SOURCE_AUTO_POSITION = 1, \
         SOURCE_SSL = 1",
        new.endpoint().port
    );
    old.run(&[&source, "START REPLICA"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archiver_logs_in_at_the_next_primary_with_the_rotated_password() {
    let layout = ShardLayout { members: 2, grants: vec!["base", "replication"], ..ShardLayout::default() };
    let shard = TestShard::start(layout).await;
    let [db1, db2] = &shard.members[..] else { panic!("two members") };
    limited(db1).await;
    db2.wait_for(&db1.gtid_executed().await).await;
    // Every commit of this primary waits for the archiver from here on.
    wait_for_archiver(db1).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let archiver =
        backstop.spawn(&format!("--json {ARCHIVE} --set shards.orders.archive.semi_sync=true"), None);
    let before = TestWorkload::start(db1).await;
    before.wait_for_more(20).await;

    let earlier = refusals(db1).await;
    altered(db1, "Second-1").await;
    refused(db1, earlier, &archiver).await;
    before.wait_for_more(20).await;
    written(&backstop, "Second-1");
    before.wait_for_more(20).await;

    waits_for_archiver_once_primary(db2).await;
    taken_over(&shard, "Second-1").await;
    let before = before.stop().await;
    let after = TestWorkload::start(db2).await;
    after.wait_for_more(20).await;
    let after = after.stop().await;
    caught_up(&backstop, db2, &archiver).await;
    for (rows, primary) in [(&before, "first"), (&after, "second")] {
        assert_eq!(lost(&backstop, rows).await, Vec::<u64>::new(), "acknowledged by the {primary} primary");
    }
    assert_eq!(missing_on(&before, db2).await, Vec::<u64>::new());
    let acknowledged: u64 = db2.value(ACKNOWLEDGED).await.parse().unwrap();
    assert!(acknowledged >= 20, "{acknowledged} commits of the second primary waited for the archiver");

    archiver.signal(Signal::TERM);
    let ran = archiver.end().await;
    let report = ran.json();
    assert_eq!(report["gaps"].as_array().unwrap().len(), 0, "{report}");
    assert!(!ran.err.contains("temporarily locked") && !ran.err.contains("Second-1"), "{ran}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_survives_a_rotation_between_reading_and_login() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let primary = shard.primary();
    limited(primary).await;
    let backstop = Backstop::of(&shard, "clone").await;
    let earlier = refusals(primary).await;
    altered(primary, "Second-1").await;
    let backup = backstop.spawn("--json backup orders", None);
    refused(primary, earlier, &backup).await;
    written(&backstop, "Second-1");
    let ran = backup.end().await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");

    // A secret that stays wrong ends the run, and leaves the account unlocked for the right one.
    altered(primary, "Third-1").await;
    let ran = backstop.run("backup orders").await;
    ran.failed(12, &["user or password is wrong", "the secret was read again 3 times"]);
    written(&backstop, "Third-1");
    let ran = backstop.run("--json backup orders").await;
    assert_eq!(ran.status.code(), Some(0), "{ran}");
}
