//! Contents of a server's tables.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_adapters::mysql::connection::Connection;
use backstop_types::error::Result;

const CHECKSUM_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns `CHECKSUM TABLE` of every user table, by `schema.table`.
///
/// # Errors
/// Returns an error if a statement fails.
pub async fn checksums(session: &mut Connection) -> Result<BTreeMap<String, Option<u64>>> {
    let tables: Vec<(String, String)> = session
        .query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
             AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')",
        )
        .await?;
    let mut sums = BTreeMap::new();
    for (schema, table) in tables {
        let sql = format!("CHECKSUM TABLE `{schema}`.`{table}`");
        let rows: Vec<(String, Option<u64>)> = session.query_within(&sql, CHECKSUM_TIMEOUT).await?;
        sums.extend(rows);
    }
    Ok(sums)
}
