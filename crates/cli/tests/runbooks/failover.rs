//! The primary is dead: a replica replaces it, and a new server replaces that replica.

use crate::support::pasted_page::PastedPage;
use crate::support::shell_session::ShellSession;

/// Kills the primary; the candidate is promoted by hand, and the lost server is rebuilt.
pub async fn primary_is_dead(night: &mut ShellSession) {
    let all = night.shard.primary().gtid_executed().await;
    night.archived(&all).await;
    night.shard.settle().await;
    night.shard.primary().kill();
    let mut page = PastedPage::open("primary-dead");
    page.next(night, "dead").await;
    let said = page.next(night, "has everything").await;
    assert!(said.lines().any(|line| line == "0"), "{said}");
    page.next(night, "Promote").await;
    page.next(night, "semi_sync").await;
    page.next(night, "Tell").await;
    night.archiver_runs().await;
    let said = page.next(night, "Tell").await;
    assert!(said.contains("is complete"), "{said}");
    page.next(night, "Events").await;
    page.end();
    let candidate = night.shard.candidate();
    candidate.run(&["CREATE DATABASE promoted"]).await;
    let all = candidate.gtid_executed().await;
    night.shard.replica().wait_for(&all).await;
    night.archived(&all).await;

    let mut page = PastedPage::open("move-host");
    let said = page.next(night, "new member").await;
    assert!(said.contains("joined and caught up"), "{said}");
    let mut text = std::fs::read_to_string(&night.backstop.config).unwrap();
    let port = night.new.value("SELECT CAST(@@GLOBAL.port AS CHAR)").await;
    text = text.replace("members = [", &format!("members = [\"127.0.0.1:{port}\", "));
    std::fs::write(&night.backstop.config, text).unwrap();
    page.next(night, "Name it").await;
    page.next(night, "archiver").await;
    page.next(night, "archiver").await;
    page.end();
    night.shard.candidate().run(&["CREATE DATABASE moved"]).await;
    night.archived(&night.shard.candidate().gtid_executed().await).await;
}
