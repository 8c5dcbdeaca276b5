//! Planned maintenance: passwords are changed, the spool is moved.

use crate::support::pasted_page::PastedPage;
use crate::support::shell_session::ShellSession;

/// Gives Backstop's accounts new passwords; the old ones do not work any more.
pub async fn passwords_are_changed(night: &mut ShellSession) {
    night.see("NEW-PASSWORD", "fresh-5f1c9");
    let mut page = PastedPage::open("rotate-passwords");
    page.next(night, "new passwords").await;
    let said = page.next(night, "credentials").await;
    assert!(!said.contains("denied"), "{said}");
    let said = page.next(night, "replicas").await;
    assert!(!said.contains("does not replicate"), "{said}");
    page.next(night, "old ones").await;
    page.end();
    let credentials = std::fs::read_to_string(&night.backstop.credentials).unwrap();
    assert_eq!(credentials.matches("fresh-5f1c9").count(), 2);
    assert_eq!(credentials.matches(night.shard.password()).count(), 0);
    let old = "SELECT COUNT(*) FROM mysql.user WHERE User_attributes->>'$.additional_password' IS NOT NULL";
    assert_eq!(night.shard.primary().value(&old.replace("COUNT(*)", "CAST(COUNT(*) AS CHAR)")).await, "0");
    night.shard.settle().await;
}

/// Fills the spool's disk; the spool is moved to another one.
pub async fn disk_is_full(night: &mut ShellSession) {
    let mut page = PastedPage::open("archiver-disk-full");
    page.next(night, "Look").await;
    page.next(night, "larger disk").await;
    page.end();
    night.shard.primary().run(&["INSERT INTO shop.customers VALUES (500, 'on the larger disk')"]).await;
    let all = night.shard.primary().gtid_executed().await;
    night.archived(&all).await;
    let configuration = std::fs::read_to_string(&night.backstop.config).unwrap();
    assert!(configuration.contains("/larger'"), "{configuration}");
}
