//! Reads the state of one instance: identity, transactions, replication.

use backstop_types::gtid::GtidSet;
use backstop_types::topology::InstanceState;

use super::connection::Connection;
use super::dialect::Dialect;
use super::error::{SqlCause, SqlError};
use super::replication::replication;
use super::replication_filters::fidelity;

/// Reads an instance's identity, its transactions and its replication.
///
/// # Errors
/// See [`SqlCause`]; [`SqlCause::Shape`] if an answer cannot be parsed.
pub async fn instance_state(session: &mut Connection) -> Result<InstanceState, SqlError> {
    let (uuid, server_id, version, gtid_mode): (String, u32, String, String) =
        session.one("SELECT @@server_uuid, @@server_id, @@version, @@GLOBAL.gtid_mode").await?;
    let (read_only, super_read_only): (u8, u8) =
        session.one("SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only").await?;
    let version = read(session, "version", version.parse())?;
    let (executed, purged): (String, String) =
        session.one("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged").await?;
    let semi_sync: Vec<(String, String)> =
        session.query("SHOW GLOBAL VARIABLES LIKE 'rpl\\_semi\\_sync\\_%\\_enabled'").await?;
    let dialect = Dialect::of(&version);
    Ok(InstanceState {
        server_uuid: read(session, "server UUID", uuid.parse())?,
        server_id,
        gtid_mode_on: gtid_mode == "ON",
        read_only: read_only != 0 || super_read_only != 0,
        gtid_executed: gtids(session, &executed)?,
        gtid_purged: gtids(session, &purged)?,
        semi_sync_replica: is_semi_sync_replica(&semi_sync),
        semi_sync_source_loaded: has_semi_sync_source(&semi_sync),
        replication: replication(session, dialect).await?,
        fidelity: fidelity(session, dialect).await?,
        group: group(session).await?,
        version,
    })
}

/// Returns the member's state in a replication group; `None` if it is in none.
async fn group(session: &mut Connection) -> Result<Option<String>, SqlError> {
    session
        .first(
            "SELECT MEMBER_STATE FROM performance_schema.replication_group_members \
             WHERE MEMBER_ID = @@server_uuid AND MEMBER_STATE <> 'OFFLINE'",
        )
        .await
}

/// Parses a GTID set as the server prints it.
pub(super) fn gtids(session: &Connection, text: &str) -> Result<GtidSet, SqlError> {
    read(session, "GTID set", text.parse())
}

fn is_semi_sync_replica(variables: &[(String, String)]) -> bool {
    let is_replica = |name: &str| name.contains("_replica_") || name.contains("_slave_");
    variables.iter().any(|(name, value)| is_replica(name) && value == "ON")
}

/// Returns true if the source plugin is loaded: its variables exist only then.
fn has_semi_sync_source(variables: &[(String, String)]) -> bool {
    variables.iter().any(|(name, _)| name.contains("_source_") || name.contains("_master_"))
}

fn read<T, E: std::fmt::Display>(
    session: &Connection,
    what: &str,
    parsed: Result<T, E>,
) -> Result<T, SqlError> {
    parsed.map_err(|error| SqlError {
        doing: format!("read the {what} of {}", session.address()),
        cause: SqlCause::Shape(error.to_string()),
    })
}
