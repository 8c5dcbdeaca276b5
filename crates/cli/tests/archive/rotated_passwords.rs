//! Passwords that are changed while the archiver runs.

use std::time::Duration;

use backstop_testkit::{ShardLayout, TestMember, TestShard, TestWorkload};
use rustix::process::Signal;

use crate::support::program::{Backstop, RunningBackstop, until};
use crate::support::stored_archive::{ARCHIVE, assert_identical, held};

const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

fn written(backstop: &Backstop, password: &str) {
    backstop.write_credentials(&format!(
        "user = 'backstop'\npassword = '{password}'\nreplication_user = 'backstop_replication'\n\
         replication_password = '{password}'\n"
    ));
}

/// Gives the accounts another password, and ends all their sessions.
async fn changed(primary: &TestMember, password: &str) {
    let alter = |account: &str| format!("ALTER USER {account}@'%' IDENTIFIED BY '{password}'");
    primary.run(&[alter("backstop"), alter("backstop_replication")].each_ref().map(String::as_str)).await;
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
    // This many refusals in a row lock an account for a day.
    let limit =
        |account: &str| format!("ALTER USER {account}@'%' FAILED_LOGIN_ATTEMPTS 10 PASSWORD_LOCK_TIME 1");
    primary.run(&[limit("backstop"), limit("backstop_replication")].each_ref().map(String::as_str)).await;
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
