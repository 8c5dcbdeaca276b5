//! Lists and checks the user tables of a server.

use std::time::Duration;

use backstop_engine::ports::{CheckDepth, Reporter};
use backstop_policy::schema_diff::TableInventory;
use backstop_policy::table_check::TablesChecked;
use backstop_types::backup::BrokenTable;
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::progress::{Progress, ProgressUnit};

use super::connection::Connection;
use super::dialect::{quote_name, quote_text};
use super::instance_state::gtids;

/// Limit for the check of one table, which reads all of it.
const CHECK_TABLE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Selects the user tables that `CHECK TABLE` can check.
const USER_TABLES: &str = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
     WHERE TABLE_TYPE = 'BASE TABLE' AND COALESCE(ENGINE, '') <> 'MEMORY' \
     AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') \
     ORDER BY TABLE_SCHEMA, TABLE_NAME";

/// Selects the names of all schemas, tables and views but the server's own.
const SCHEMA_AND_TABLE_NAMES: &str = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA \
     WHERE SCHEMA_NAME NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') \
     UNION ALL SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES \
     WHERE TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')";

/// Time for a member to catch up, in seconds: a member that lags more is not compared.
const CATCH_UP_SECONDS: u32 = 5;

/// Returns the schemas, tables and views of a server once it has executed `after`. The GTID set
/// that is returned with them is read after them.
pub async fn schemas_and_tables(session: &mut Connection, after: &GtidSet) -> Result<TableInventory> {
    if !after.is_empty() {
        let sql = format!(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET({}, {CATCH_UP_SECONDS})",
            quote_text(&after.to_string())
        );
        if session.one::<Option<u8>>(&sql).await? != Some(0) {
            let message = format!(
                "{} did not catch up with the primary within {CATCH_UP_SECONDS} s",
                session.address()
            );
            return Err(Error::failed(message));
        }
    }
    let names: Vec<String> = session.query(SCHEMA_AND_TABLE_NAMES).await?;
    let executed: String = session.one("SELECT @@GLOBAL.gtid_executed").await?;
    Ok(TableInventory { names: names.into_iter().collect(), executed: gtids(session, &executed)? })
}

/// Selects the `MEMORY` tables of users.
const MEMORY_TABLES: &str = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE ENGINE = 'MEMORY' \
     AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')";

/// Returns the names of the `MEMORY` tables.
pub(super) async fn memory_tables(session: &mut Connection) -> Result<Vec<(String, String)>> {
    Ok(session.query(MEMORY_TABLES).await?)
}

/// Reads every `MEMORY` table: at the first use after a start, the server empties the table and logs
/// a `TRUNCATE`, even with `sql_log_bin = 0` (observed with MySQL 9.7).
pub(super) async fn use_memory_tables(session: &mut Connection) -> Result<()> {
    for (schema, table) in memory_tables(session).await? {
        let sql = format!("SELECT COUNT(*) FROM {}.{}", quote_name(&schema), quote_name(&table));
        session.one::<u64>(&sql).await?;
    }
    Ok(())
}

/// Row of `CHECK TABLE`: table, operation, kind of message, message.
type CheckTableRow = (String, String, String, Option<String>);

/// Runs `CHECK TABLE` on every user table, one after the other, except `MEMORY` tables: they have
/// nothing to check, and their first use logs a transaction.
pub async fn check_tables(
    session: &mut Connection,
    depth: CheckDepth,
    reporter: &dyn Reporter,
) -> Result<TablesChecked> {
    let tables: Vec<(String, String)> = session.query(USER_TABLES).await?;
    let total = tables.len() as u64;
    let mut broken = Vec::new();
    for ((schema, table), done) in tables.into_iter().zip(1..) {
        let messages = check_table(session, &schema, &table, depth).await?;
        broken.extend(verdict(&format!("{schema}.{table}"), &messages));
        reporter.progress(Progress { done, total: Some(total), unit: ProgressUnit::Tables });
    }
    Ok(TablesChecked { checked: total, broken })
}

async fn check_table(
    session: &mut Connection,
    schema: &str,
    table: &str,
    depth: CheckDepth,
) -> Result<Vec<CheckTableRow>> {
    let option = match depth {
        CheckDepth::Quick => "QUICK",
        CheckDepth::Full => "EXTENDED",
    };
    let sql = format!("CHECK TABLE {}.{} {option}", quote_name(schema), quote_name(table));
    Ok(session.query_within(&sql, CHECK_TABLE_TIMEOUT).await?)
}

/// Decides whether a table is sound: the last message says so and no other message is an error. An
/// engine that has nothing to check (`MEMORY`, `BLACKHOLE`) reports that in a note.
fn verdict(table: &str, messages: &[CheckTableRow]) -> Option<BrokenTable> {
    let sound = |text: &str| {
        ["OK", "Table is already up to date"].contains(&text) || text.ends_with("doesn't support check")
    };
    let text = |message: &CheckTableRow| message.3.clone().unwrap_or_default();
    let error = messages.iter().find(|(_, _, kind, _)| kind.eq_ignore_ascii_case("error"));
    let last = messages.last().map(text).unwrap_or_default();
    if error.is_none() && sound(&last) {
        return None;
    }
    let why = error.map_or(last, text);
    Some(BrokenTable { table: table.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, text: &str) -> CheckTableRow {
        ("s.t".into(), "check".into(), kind.into(), Some(text.into()))
    }

    #[test]
    fn table_is_sound_only_if_check_table_says_ok() {
        assert_eq!(verdict("s.t", &[message("status", "OK")]), None);
        assert_eq!(verdict("s.t", &[message("note", "The storage engine …"), message("status", "OK")]), None);
        let broken = [message("Error", "Index k is corrupted"), message("status", "OK")];
        assert!(verdict("s.t", &broken).is_some_and(|broken| broken.why.contains("Index k")));
        let note = "The storage engine for the table doesn't support check";
        assert_eq!(verdict("s.t", &[message("note", note)]), None);
        assert!(verdict("s.t", &[message("status", "Operation failed")]).is_some());
        assert!(verdict("s.t", &[]).is_some());
    }
}
