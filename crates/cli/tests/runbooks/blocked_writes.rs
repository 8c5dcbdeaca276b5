//! Semi-sync blocks every write: production is released, and later returns to an RPO of 0.

use std::time::{Duration, Instant};

use crate::support::pasted_page::PastedPage;
use crate::support::shell_session::ShellSession;

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Kills the archiver while each commit on the primary waits for it.
pub async fn semi_sync_holds_them(night: &mut ShellSession) {
    let primary = night.shard.primary();
    let replicas = "the replicas are no semi-synchronous ones: the archiver alone acknowledges";
    primary
        .run(&[
            "SET GLOBAL rpl_semi_sync_source_timeout = 4294967295",
            "CREATE USER 'releaser'@'%' IDENTIFIED BY 'r'",
            "GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO 'releaser'@'%'",
        ])
        .await;
    night.paste("systemctl restart backstop-archive-orders").await;
    primary
        .run(&[
            "SET GLOBAL rpl_semi_sync_source_enabled = ON",
            "INSERT INTO shop.customers VALUES (400, 'told')",
        ])
        .await;
    night.paste("systemctl stop backstop-archive-orders").await;
    let mut session = primary.root().await;
    let held = tokio::spawn(async move {
        session.run_within("INSERT INTO shop.customers VALUES (401, 'held')", WAIT_TIMEOUT).await
    });
    waits(night).await;

    let mut page = PastedPage::open("semi-sync-holds-writes");
    assert!(page.next(night, "Look").await.contains('1'), "{replicas}");
    // The archiver does not start: its credentials are gone.
    let credentials = night.backstop.credentials.clone();
    let aside = credentials.with_extension("aside");
    std::fs::rename(&credentials, &aside).unwrap();
    page.next(night, "Start the archiver").await;
    assert!(!held.is_finished());
    night.login("releaser", "r");
    page.next(night, "Release").await;
    tokio::time::timeout(WAIT_TIMEOUT, held).await.expect("the commit is released").unwrap().unwrap();
    night.login("admin", night.shard.password());
    let said = page.next(night, "Mend").await;
    assert!(said.contains("orders.toml"), "the log names the reason: {said}");
    std::fs::rename(aside, credentials).unwrap();
    page.next(night, "Go back").await;
    night.archiver_runs().await;
    assert!(page.next(night, "Go back").await.contains("ON"));
    page.end();
    night.shard.primary().run(&["INSERT INTO shop.customers VALUES (402, 'told again')"]).await;
    let all = night.shard.primary().gtid_executed().await;
    night.archived(&all).await;
}

/// Waits until a commit hangs.
async fn waits(night: &ShellSession) {
    let begin = Instant::now();
    let waiting = "SELECT VARIABLE_VALUE FROM performance_schema.global_status \
                   WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_wait_sessions'";
    while night.shard.primary().value(waiting).await != "1" {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "no commit waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
