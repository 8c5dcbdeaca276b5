//! Lost rows are recovered: a dropped table, a bad UPDATE, a table that is in use again.

use crate::support::pasted_page::PastedPage;
use crate::support::shell_session::ShellSession;

const SUM: &str = "SELECT CAST(SUM(CRC32(CONCAT(id, name))) AS CHAR) FROM shop.customers";
const GTID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:4711";

/// Drops a table, finds it, recovers it into a copy, and copies it to production from there: first
/// the whole table, then only its missing rows.
pub async fn table_was_dropped(night: &mut ShellSession) {
    let whole = night.shard.primary().value(SUM).await;
    night.shard.primary().run(&["DROP TABLE shop.customers"]).await;
    archived(night).await;
    let mut page = PastedPage::open("table-dropped");
    let found = page.next(night, "Find").await;
    night.see(GTID, &before(&found, "DROP TABLE"));
    let said = page.next(night, "into a copy").await;
    assert!(said.contains("A STANDALONE copy of shard orders"), "{said}");
    assert!(page.next(night, "the right one").await.contains("300"));
    page.next(night, "to production").await;
    assert_eq!(night.shard.primary().value(SUM).await, whole);

    rows_come_back(night).await;
    page.next(night, "remove the copy").await;
    page.end();
    assert!(!night.copy.dir.exists());
}

/// The copy still exists.
async fn rows_come_back(night: &mut ShellSession) {
    let changed = "UPDATE shop.customers SET name = 'new' WHERE id = 1";
    night.shard.primary().run(&["DROP TABLE shop.customers"]).await;
    let mut page = PastedPage::open("rows-back");
    page.next(night, "gone").await;
    night.shard.primary().run(&["DELETE FROM shop.customers WHERE id > 200", changed]).await;
    let said = page.next(night, "in use again").await;
    assert!(said.contains("300"), "{said}");
    let name = night.shard.primary().value("SELECT name FROM shop.customers WHERE id = 1").await;
    assert_eq!(name, "new", "a row that is there stays as it is");
    page.end();
}

/// Overwrites names while the application continues to write. A copy is inspected, stopped and
/// removed.
pub async fn update_was_bad(night: &mut ShellSession) {
    let names =
        "SELECT GROUP_CONCAT(name ORDER BY id) FROM (SELECT * FROM shop.customers WHERE id <= 100) AS t";
    let primary = night.shard.primary();
    let was = primary.value(names).await;
    primary.run(&["UPDATE shop.customers SET name = 'oops' WHERE id <= 100"]).await;
    primary.run(&["INSERT INTO shop.customers VALUES (301, 'since then')"]).await;
    archived(night).await;
    let mut page = PastedPage::open("bad-update");
    let found = page.next(night, "Find").await;
    night.see(GTID, &before(&found, "100 updated"));
    page.next(night, "Recover").await;
    page.next(night, "Compare").await;
    page.next(night, "beside").await;
    page.next(night, "beside").await;
    assert_eq!(night.shard.primary().value(names).await, was);
    assert_eq!(night.shard.primary().value("SELECT COUNT(*) FROM shop.customers").await, "301");

    page.next(night, "Clear up").await;
    page.end();

    let mut page = PastedPage::open("copy");
    let said = page.next(night, "Log in").await;
    assert!(said.lines().any(|line| line.starts_with('1')), "it is read-only: {said}");
    page.next(night, "Stop").await;
    page.next(night, "Remove").await;
    page.end();
    assert!(!night.copy.dir.exists());
}

/// Waits until the archive holds everything the primary does.
async fn archived(night: &ShellSession) {
    let held = night.shard.primary().gtid_executed().await;
    night.archived(&held).await;
}

/// Returns the GTID of the first transaction in the output of `find` with these words.
fn before(found: &str, words: &str) -> String {
    let from = found.find(words).unwrap_or_else(|| panic!("`{words}` is not in {found}"));
    let target = found[from..].split("--to before:").nth(1).expect("a target below it");
    target.split_whitespace().next().unwrap().to_owned()
}
