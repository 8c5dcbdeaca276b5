//! Sessions and statements that freeze an instance.

use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::freeze::{FreezeSession, FreezeSessions, LockOutcome};
use backstop_policy::blocking_queries::{Activity, QueryKind, RunningQuery};
use backstop_types::error::{Error, Result};
use backstop_types::ids::Endpoint;
use backstop_types::server::{Position, ServerVersion};

use super::connection::{Connection, Connector};
use super::dialect::Dialect;
use super::error::{SqlError, code};
use super::instance_state;

/// Selects the running statement of every active session. Statements are truncated: they are for
/// operators to read.
const RUNNING_STATEMENTS: &str = "SELECT PROCESSLIST_ID, COALESCE(PROCESSLIST_USER, ''), COALESCE(PROCESSLIST_COMMAND, ''), \
    COALESCE(PROCESSLIST_STATE, ''), COALESCE(LEFT(PROCESSLIST_INFO, 100), ''), COALESCE(PROCESSLIST_TIME, 0), NAME \
    FROM performance_schema.threads WHERE PROCESSLIST_ID IS NOT NULL \
    AND (PROCESSLIST_COMMAND IS NULL OR PROCESSLIST_COMMAND <> 'Sleep') AND PROCESSLIST_ID <> CONNECTION_ID()";

const LOG_STATUS: &str = "SELECT LOCAL->>'$.gtid_executed', LOCAL->>'$.binary_log_file', \
    CAST(LOCAL->>'$.binary_log_position' AS UNSIGNED) FROM performance_schema.log_status";

/// The thread that KILL names does not exist any more.
const NO_SUCH_THREAD: u16 = 1094;

/// Opens sessions on one instance.
pub struct MysqlFreezeSessions {
    connector: Connector,
    endpoint: Endpoint,
}

impl MysqlFreezeSessions {
    /// Creates an opener of sessions on this instance.
    pub fn new(connector: Connector, endpoint: Endpoint) -> Self {
        Self { connector, endpoint }
    }
}

#[async_trait]
impl FreezeSessions for MysqlFreezeSessions {
    async fn open(&self) -> Result<Box<dyn FreezeSession>> {
        let mut connection = self.connector.connect(&self.endpoint).await?;
        let id: u64 = connection.one("SELECT CONNECTION_ID()").await?;
        let version: String = connection.one("SELECT @@version").await?;
        let version: ServerVersion = version.parse().map_err(|error| Error::failed(format!("{error}")))?;
        Ok(Box::new(LockSession { connection, id, dialect: Dialect::of(&version), held: None }))
    }
}

struct LockSession {
    connection: Connection,
    id: u64,
    dialect: Dialect,
    held: Option<HeldLock>,
}

enum HeldLock {
    Tables,
    Instance,
}

#[async_trait]
impl FreezeSession for LockSession {
    fn id(&self) -> u64 {
        self.id
    }

    async fn activity(&mut self) -> Result<Activity> {
        let rows: Vec<ActivityRow> = self.connection.query(RUNNING_STATEMENTS).await?;
        Ok(Activity { queries: rows.into_iter().map(running_query).collect() })
    }

    async fn arm(&mut self, idle: Duration, lock_wait: Duration) -> Result<()> {
        let seconds = |duration: Duration| duration.as_secs().max(1);
        let sql = format!(
            "SET SESSION wait_timeout = {}, lock_wait_timeout = {}",
            seconds(idle),
            seconds(lock_wait)
        );
        Ok(self.connection.run(&sql).await?)
    }

    async fn lock_tables(&mut self, deadline: Duration) -> Result<LockOutcome> {
        self.lock("FLUSH LOCAL TABLES WITH READ LOCK", HeldLock::Tables, deadline).await
    }

    async fn lock_instance(&mut self, deadline: Duration) -> Result<LockOutcome> {
        self.lock("LOCK INSTANCE FOR BACKUP", HeldLock::Instance, deadline).await
    }

    async fn flush_logs(&mut self) -> Result<()> {
        self.connection.run("FLUSH LOCAL BINARY LOGS").await?;
        Ok(self.connection.run("FLUSH LOCAL ENGINE LOGS").await?)
    }

    async fn position(&mut self) -> Result<Position> {
        let binlog: Option<(String, u64, String, String, String)> =
            self.connection.first(self.dialect.show_binary_log_status()).await?;
        let executed: String = self.connection.one("SELECT @@GLOBAL.gtid_executed").await?;
        let (binlog_file, binlog_position) =
            binlog.map_or((None, 0), |(file, position, ..)| (Some(file), position));
        let gtid_executed = instance_state::gtids(&self.connection, &executed)?;
        Ok(Position { gtid_executed, binlog_file, binlog_position })
    }

    async fn log_status(&mut self) -> Result<Position> {
        let (executed, file, position): (String, String, u64) = self.connection.one(LOG_STATUS).await?;
        let gtid_executed = instance_state::gtids(&self.connection, &executed)?;
        Ok(Position { gtid_executed, binlog_file: Some(file), binlog_position: position })
    }

    async fn unlock(&mut self) -> Result<()> {
        match self.held.take() {
            Some(HeldLock::Tables) => self.connection.run("UNLOCK TABLES").await?,
            Some(HeldLock::Instance) => self.connection.run("UNLOCK INSTANCE").await?,
            None => {}
        }
        Ok(())
    }

    async fn kill_session(&mut self, id: u64) -> Result<()> {
        gone_is_fine(self.connection.run(&format!("KILL {id}")).await)
    }

    async fn kill_statement(&mut self, id: u64) -> Result<()> {
        gone_is_fine(self.connection.run(&format!("KILL QUERY {id}")).await)
    }
}

impl LockSession {
    async fn lock(&mut self, sql: &str, held: HeldLock, deadline: Duration) -> Result<LockOutcome> {
        match self.connection.run_within(sql, deadline).await {
            Ok(()) => {
                self.held = Some(held);
                Ok(LockOutcome::Granted)
            }
            Err(error) if error.code() == Some(code::LOCK_WAIT_TIMEOUT) => Ok(LockOutcome::TimedOut),
            Err(error) => Err(error.into()),
        }
    }
}

fn gone_is_fine(killed: Result<(), SqlError>) -> Result<()> {
    match killed {
        Err(error) if error.code() != Some(NO_SUCH_THREAD) => Err(error.into()),
        _ => Ok(()),
    }
}

type ActivityRow = (u64, String, String, String, String, u64, String);

fn running_query((id, user, command, state, info, seconds, thread): ActivityRow) -> RunningQuery {
    // `thread/sql/replica_sql`, `…/replica_worker`, `…/slave_sql`, `…/slave_worker`
    let name = thread.rsplit('/').next().unwrap_or_default();
    let kind = match name {
        "replica_sql" | "replica_worker" | "slave_sql" | "slave_worker" => QueryKind::Applier,
        // The receiver and its monitor run under the name of the user who started replication.
        _ if name.starts_with("replica_") || name.starts_with("slave_") => QueryKind::System,
        _ => QueryKind::of(&user, &command, &info),
    };
    RunningQuery { id, user, command, state, info, running: Duration::from_secs(seconds), kind }
}
