//! Finds what an instance leaves out of its data or its binlog: its filters, and the errors that it
//! skips.

use std::collections::BTreeSet;

use backstop_types::topology::ReplicationFidelity;
use mysql_async::Row;

use super::connection::Connection;
use super::dialect::Dialect;
use super::error::SqlError;

/// Selects the filter variables by their names in all versions.
const FILTER_VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'log_replica_updates', \
     'log_slave_updates', 'replica_skip_errors', 'slave_skip_errors', 'replica_exec_mode', 'slave_exec_mode')";

/// Selects the filters of every channel, and those that a new channel gets.
const APPLIER_FILTERS: &str = "SELECT FILTER_NAME, FILTER_RULE FROM performance_schema.replication_applier_filters \
     UNION SELECT FILTER_NAME, FILTER_RULE FROM performance_schema.replication_applier_global_filters";

/// Columns with the same filters in the state of each channel. A server without the performance
/// schema has them too, and they include the servers whose events are ignored. These columns have
/// one name in all versions.
const FILTER_COLUMNS: [&str; 8] = [
    "Replicate_Do_DB",
    "Replicate_Ignore_DB",
    "Replicate_Do_Table",
    "Replicate_Ignore_Table",
    "Replicate_Wild_Do_Table",
    "Replicate_Wild_Ignore_Table",
    "Replicate_Rewrite_DB",
    "Replicate_Ignore_Server_Ids",
];

/// Reads what an instance leaves out. Needs REPLICATION CLIENT and SELECT on the performance
/// schema.
pub async fn fidelity(session: &mut Connection, dialect: Dialect) -> Result<ReplicationFidelity, SqlError> {
    let variables: Vec<(String, String)> = session.query(FILTER_VARIABLES).await?;
    let get =
        |end: &str| variables.iter().find(|(name, _)| name.ends_with(end)).map(|(_, value)| value.as_str());
    let is_on = |name: &str| get(name).is_none_or(|value| value == "ON");
    let skipped = get("_skip_errors").filter(|value| !value.is_empty() && *value != "OFF");
    Ok(ReplicationFidelity {
        log_bin: is_on("log_bin"),
        log_replica_updates: is_on("_updates"),
        filters: filters(session, dialect).await?,
        binlog_filters: binlog_filters(session, dialect).await?,
        skipped_errors: skipped.map(str::to_owned),
        idempotent: get("_exec_mode") == Some("IDEMPOTENT"),
    })
}

async fn filters(session: &mut Connection, dialect: Dialect) -> Result<Vec<String>, SqlError> {
    let rules: Vec<(String, Option<String>)> = session.query(APPLIER_FILTERS).await?;
    let channels: Vec<Row> = session.query(dialect.show_replica_status()).await?;
    let of_channels = channels.iter().flat_map(|row| columns(row, &FILTER_COLUMNS));
    let rules = rules.into_iter().map(|(name, rule)| (name, rule.unwrap_or_default()));
    let all: BTreeSet<(String, String)> = rules
        .chain(of_channels)
        .filter(|(_, rule)| !rule.is_empty())
        .map(|(name, rule)| (name.to_uppercase(), rule))
        .collect();
    Ok(all.into_iter().map(|(name, rule)| format!("{name} {rule}")).collect())
}

async fn binlog_filters(session: &mut Connection, dialect: Dialect) -> Result<Vec<String>, SqlError> {
    let rows: Vec<Row> = session.query(dialect.show_binary_log_status()).await?;
    let told = rows.iter().flat_map(|row| columns(row, &["Binlog_Do_DB", "Binlog_Ignore_DB"]));
    let told = told.filter(|(_, rule)| !rule.is_empty());
    Ok(told.map(|(name, rule)| format!("{} {rule}", name.to_lowercase())).collect())
}

fn columns<'a>(row: &'a Row, names: &'a [&str]) -> impl Iterator<Item = (String, String)> + 'a {
    names.iter().filter_map(|name| {
        let value: Option<Option<String>> = row.get_opt(*name).and_then(Result::ok);
        Some(((*name).to_owned(), value??))
    })
}
