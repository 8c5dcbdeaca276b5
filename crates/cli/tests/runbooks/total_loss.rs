//! All servers are gone: a new primary, and a replica of it.

use crate::support::pasted_page::PastedPage;
use crate::support::recovered_server::RecoveredServer;
use crate::support::shell_session::ShellSession;

/// Kills every member; the page rebuilds a shard from the repository.
pub async fn everything(night: &mut ShellSession) {
    let all = night.shard.candidate().gtid_executed().await;
    night.archived(&all).await;
    let dir = night.new.dir.clone();
    drop(std::mem::replace(&mut night.new, RecoveredServer::at(dir)));
    for member in &night.shard.members {
        member.kill();
    }
    let mut page = PastedPage::open("everything-is-gone");
    let said = page.next(night, "what there is").await;
    assert!(said.contains(&all.to_string()), "{said}");
    page.next(night, "away").await;
    let said = page.next(night, "new primary").await;
    assert!(said.contains("A NEW PRIMARY of shard orders"), "{said}");
    assert_eq!(night.new.held().await, all);
    let port = night.new.value("SELECT CAST(@@GLOBAL.port AS CHAR)").await;
    night.see_server("db4", port.parse().unwrap());
    page.next(night, "Tell").await;
    night.archiver_runs().await;
    page.next(night, "Tell").await;
    let said = night.paste("backstop status orders").await;
    assert!(!said.contains("is not running"), "{said}");
    let said = page.next(night, "replicas").await;
    assert!(said.contains("joined and caught up"), "{said}");
    page.end();
    assert_eq!(night.replica.held().await, night.new.held().await);
}
