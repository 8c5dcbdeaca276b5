//! Loss of stored data, or of the access to it: a gap, damaged objects, the configuration, the key.

use std::path::Path;

use crate::support::pasted_page::PastedPage;
use crate::support::shell_session::ShellSession;

/// Purges transactions that were not archived from the source, which is the new primary now.
pub async fn archive_has_a_gap(night: &mut ShellSession) {
    night.paste("systemctl stop backstop-archive-orders").await;
    let mut root = night.new.root().await;
    for sql in
        ["SET GLOBAL rpl_semi_sync_source_enabled = OFF", "CREATE DATABASE unseen", "FLUSH BINARY LOGS"]
    {
        root.run(sql).await.unwrap();
    }
    let file = night.new.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    root.run(&format!("PURGE BINARY LOGS TO '{file}'")).await.unwrap();
    root.run("SET GLOBAL binlog_expire_logs_seconds = 3600").await.unwrap();
    let before = night.new.held().await;
    root.run("CREATE DATABASE seen").await.unwrap();
    night.paste("systemctl start backstop-archive-orders").await;
    night.archived(&night.new.held().await.subtract(&before)).await;
    let port = night.new.value("SELECT CAST(@@GLOBAL.port AS CHAR)").await;
    night.see_server("db1", port.parse().unwrap());
    let mut page = PastedPage::open("archive-gap");
    let said = page.next(night, "See it").await;
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("were purged before they were archived"), "{said}");
    page.next(night, "backup").await;
    let said = page.next(night, "happening again").await;
    assert!(said.contains("259200"), "{said}");
    page.end();
}

/// Removes a pack.
pub async fn something_is_damaged(night: &mut ShellSession) {
    let packs = folder(&night.backstop.repository.join("shards"), "packs");
    let mut all: Vec<_> = std::fs::read_dir(packs).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    std::fs::remove_file(&all[0]).unwrap();
    let mut page = PastedPage::open("bucket-damaged");
    let said = page.next(night, "needs it").await;
    assert!(said.contains(all[0].file_name().unwrap().to_str().unwrap()), "{said}");
    // The log is whole, so nothing needs to be done.
    page.next(night, "needs it").await;
    page.next(night, "whole backup").await;
    let list = night.backstop.json("backups orders").await;
    assert_eq!(list["backups"][0]["state"], "complete", "{list}");
    // The index is whole, too.
    page.next(night, "archive").await;
    page.next(night, "archive").await;
    page.end();
}

/// Removes the configuration, which is written again.
pub async fn configuration_is_lost(night: &mut ShellSession) {
    let was = std::fs::read(&night.backstop.config).unwrap();
    std::fs::remove_file(&night.backstop.config).unwrap();
    let mut page = PastedPage::open("config-lost");
    let said = page.next_without_configuration(night, "in the repository").await;
    assert!(said.contains("orders"), "{said}");
    page.next(night, "again").await;
    let said = page.next(night, "fits").await;
    assert!(said.contains("id = \""), "{said}");
    page.end();
    std::fs::write(&night.backstop.config, was).unwrap();
}

/// Keeps nothing but the repository.
pub async fn only_the_bucket_is_left(night: &mut ShellSession) {
    let was = std::fs::read(&night.backstop.config).unwrap();
    std::fs::remove_file(&night.backstop.config).unwrap();
    let mut page = PastedPage::open("bucket-only");
    let said = page.next_without_configuration(night, "stored").await;
    assert!(said.contains("orders"), "{said}");
    page.next(night, "configuration").await;
    page.next(night, "primary").await;
    page.end();
    std::fs::write(&night.backstop.config, was).unwrap();
}

/// Loses the key: another repository is begun.
pub async fn key_is_lost(night: &mut ShellSession) {
    let mut page = PastedPage::open("key-lost");
    page.next(night, "another repository").await;
    page.end();
    let list = night.backstop.json("backups orders").await;
    assert_eq!(list["backups"].as_array().unwrap().len(), 1, "{list}");
    let key = std::fs::metadata(night.shard.base().join("repository.key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
}

/// Returns the folder of this name, at any depth below another.
fn folder(below: &Path, name: &str) -> std::path::PathBuf {
    let mut left = vec![below.to_owned()];
    while let Some(next) = left.pop() {
        if next.ends_with(name) {
            return next;
        }
        let entries = std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path());
        left.extend(entries.filter(|path| path.is_dir()));
    }
    panic!("there is no folder {name} below {}", below.display());
}
