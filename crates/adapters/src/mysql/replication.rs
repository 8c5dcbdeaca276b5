//! Reads the state of replication from a server.

use std::time::Duration;

use backstop_binlog::redact_message;
use backstop_types::ids::Endpoint;
use backstop_types::topology::Replication;
use mysql_async::Row;
use mysql_async::prelude::FromValue;

use super::connection::Connection;
use super::dialect::Dialect;
use super::error::{SqlCause, SqlError};

/// Returns the state of the default channel, or of the first channel if there is no default; `None`
/// if the server replicates nothing.
pub async fn replication(
    session: &mut Connection,
    dialect: Dialect,
) -> Result<Option<Replication>, SqlError> {
    let channels: Vec<Row> = session.query(dialect.show_replica_status()).await?;
    let status = ReplicaStatus { dialect, address: session.address().to_string() };
    let is_default = |row: &&Row| row.get::<String, _>("Channel_Name").is_none_or(|name| name.is_empty());
    let chosen = channels.iter().find(is_default).or(channels.first());
    chosen.map(|row| status.read(row)).transpose()
}

struct ReplicaStatus {
    dialect: Dialect,
    address: String,
}

impl ReplicaStatus {
    fn read(&self, row: &Row) -> Result<Replication, SqlError> {
        let host: String = self.need(row, "Source_Host")?;
        let port: u16 = self.need(row, "Source_Port")?;
        let uuid: Option<String> = self.get(row, "Source_UUID")?;
        let running = |name: &str| self.need::<String>(row, name).map(|state| state == "Yes");
        let lag: Option<u64> = self.get(row, "Seconds_Behind_Source")?;
        Ok(Replication {
            source: Endpoint::new(host, port),
            source_uuid: uuid.and_then(|uuid| uuid.parse().ok()),
            io_running: running("Replica_IO_Running")?,
            sql_running: running("Replica_SQL_Running")?,
            lag: lag.map(Duration::from_secs),
            delay: Duration::from_secs(self.get(row, "SQL_Delay")?.unwrap_or(0)),
            auto_position: self.need::<u8>(row, "Auto_Position")? != 0,
            last_error: self.last_error(row)?,
        })
    }

    fn last_error(&self, row: &Row) -> Result<Option<String>, SqlError> {
        let mut errors = Vec::new();
        for column in ["Last_IO_Error", "Last_SQL_Error"] {
            let error = self.get::<String>(row, column)?.filter(|error| !error.is_empty());
            errors.extend(error.as_deref().map(redact_message));
        }
        Ok((!errors.is_empty()).then(|| errors.join("; ")))
    }

    fn get<T: FromValue>(&self, row: &Row, name: &str) -> Result<Option<T>, SqlError> {
        let column = self.dialect.column(name);
        match row.get_opt::<Option<T>, _>(column.as_str()) {
            Some(Ok(value)) => Ok(value),
            _ => Err(SqlError {
                doing: format!("read the replication state of {}", self.address),
                cause: SqlCause::Shape(format!("no column {column}")),
            }),
        }
    }

    fn need<T: FromValue>(&self, row: &Row, name: &str) -> Result<T, SqlError> {
        self.get(row, name)?.ok_or_else(|| SqlError {
            doing: format!("read the replication state of {}", self.address),
            cause: SqlCause::Shape(format!("column {name} is NULL")),
        })
    }
}
