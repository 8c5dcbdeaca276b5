//! Settings of a recovered server that replays an archive: relaxed durability, parallel appliers,
//! and the options with which it follows the binlog server.

use backstop_engine::ports::ReplaySource;
use secrecy::ExposeSecret;

use super::connection::Connection;
use super::dialect::{Dialect, quote_text};
use super::error::SqlError;

/// Seconds between two heartbeats of the binlog server.
const HEARTBEAT_PERIOD_SECONDS: &str = "5";

/// Relaxes durability and makes appliers work in parallel. Returns the changed variables with their
/// earlier values.
///
/// `innodb_flush_log_at_trx_commit` is 2 and not 0: committed transactions survive the end of the
/// server's process, so that its binary log and its tables agree after a kill. After a crash of the
/// machine they may disagree; the caller must detect such a crash.
pub(super) async fn relax_durability(
    session: &mut Connection,
    dialect: Dialect,
) -> Result<Vec<(String, String)>, SqlError> {
    let workers = std::thread::available_parallelism().map_or(4, |cores| (cores.get() * 2).clamp(4, 16));
    let wanted = [
        ("innodb_flush_log_at_trx_commit".to_owned(), "2".to_owned()),
        ("sync_binlog".to_owned(), "0".to_owned()),
        (dialect.variable("replica_parallel_workers"), workers.to_string()),
        (dialect.variable("replica_preserve_commit_order"), "ON".to_owned()),
    ];
    let names: Vec<String> = wanted.iter().map(|(name, _)| quote_text(name)).collect();
    let sql = format!(
        "SELECT LOWER(VARIABLE_NAME), VARIABLE_VALUE FROM performance_schema.global_variables WHERE VARIABLE_NAME IN ({})",
        names.join(", ")
    );
    let before: Vec<(String, String)> = session.query(&sql).await?;
    let known = |(name, _): &(String, String)| before.iter().any(|(other, _)| other == name);
    let wanted: Vec<(String, String)> = wanted.into_iter().filter(known).collect();
    set_variables(session, &wanted).await?;
    Ok(before)
}

/// Sets global variables.
pub(super) async fn set_variables(
    session: &mut Connection,
    settings: &[(String, String)],
) -> Result<(), SqlError> {
    for (name, value) in settings {
        let value = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
            value.clone()
        } else {
            quote_text(value)
        };
        session.run(&format!("SET GLOBAL {name} = {value}")).await?;
    }
    Ok(())
}

/// Returns the options with which a server follows a binlog server of this process: over loopback,
/// as plain text.
pub(super) fn source_options(server: &ReplaySource) -> Vec<(&'static str, String)> {
    vec![
        ("SOURCE_HOST", quote_text("127.0.0.1")),
        ("SOURCE_PORT", server.port.to_string()),
        ("SOURCE_USER", quote_text(&server.user)),
        ("SOURCE_PASSWORD", quote_text(server.password.expose_secret())),
        ("SOURCE_AUTO_POSITION", "1".to_owned()),
        ("SOURCE_SSL", "0".to_owned()),
        ("GET_SOURCE_PUBLIC_KEY", "1".to_owned()),
        ("SOURCE_HEARTBEAT_PERIOD", HEARTBEAT_PERIOD_SECONDS.to_owned()),
        ("SOURCE_CONNECT_RETRY", "1".to_owned()),
        ("SOURCE_RETRY_COUNT", "60".to_owned()),
    ]
}
