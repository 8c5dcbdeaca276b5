//! Reads the settings of a primary that its archive depends on, and the tables of a member.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::ports::Schemas;
use backstop_policy::schema_diff::TableInventory;
use backstop_policy::stream_or_fork::{SemiSync, SemiSyncNames, SourceSettings};
use backstop_types::error::Result;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::Endpoint;
use backstop_types::plugins::Plugin;
use backstop_types::scheduled_events::ServerEvents;

use super::connection::{Connection, Connector};
use super::dialect::Dialect;
use super::error::{SqlCause, SqlError};
use super::server_facts::{is_plugin_active, variable};
use super::{events, plugins, tables};

/// Reads the tables, events and plugins of members.
pub struct MysqlInspector {
    connector: Connector,
}

impl MysqlInspector {
    /// Creates an inspector that uses this connector.
    pub fn new(connector: Connector) -> Self {
        Self { connector }
    }
}

#[async_trait]
impl Schemas for MysqlInspector {
    async fn tables(&self, endpoint: &Endpoint, after: &GtidSet) -> Result<TableInventory> {
        let mut session = self.connector.connect(endpoint).await?;
        let tables = tables::schemas_and_tables(&mut session, after).await;
        session.close().await;
        tables
    }

    async fn events(&self, endpoint: &Endpoint) -> Result<ServerEvents> {
        let mut session = self.connector.connect(endpoint).await?;
        let told = events::read_event_states(&mut session).await;
        session.close().await;
        Ok(told?)
    }

    async fn plugins(&self, endpoint: &Endpoint) -> Result<Vec<Plugin>> {
        let mut session = self.connector.connect(endpoint).await?;
        let plugins = plugins::library_plugins(&mut session).await;
        session.close().await;
        Ok(plugins?)
    }
}

/// Returns the settings of a primary that its archive depends on.
///
/// # Errors
/// Fails if the primary cannot be reached or refuses a query.
pub async fn source_settings(connector: &Connector, endpoint: &Endpoint) -> Result<SourceSettings> {
    let mut session = connector.connect(endpoint).await?;
    let settings = settings(&mut session, endpoint).await?;
    session.close().await;
    Ok(settings)
}

async fn settings(session: &mut Connection, endpoint: &Endpoint) -> Result<SourceSettings, SqlError> {
    let version: String = session.one("SELECT @@version").await?;
    let version = version.parse().map_err(|error: backstop_types::ids::InvalidName| SqlError {
        doing: format!("read the version of {endpoint}"),
        cause: SqlCause::Shape(error.to_string()),
    })?;
    let dialect = Dialect::of(&version);
    let words = words(dialect);
    let kept: Option<u64> = variable(session, "binlog_expire_logs_seconds").await?;
    let encryption: Option<String> = variable(session, "binlog_encryption").await?;
    let format: Option<String> = variable(session, "binlog_format").await?;
    let semi_sync = match is_plugin_active(session, &words.plugin).await? {
        true => Some(semi_sync(session, &words).await?),
        false => None,
    };
    Ok(SourceSettings {
        endpoint: endpoint.clone(),
        kept: kept.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        binlog_encryption: encryption.as_deref() == Some("ON"),
        // A version without the variable writes only row events.
        rows: format.is_none_or(|format| format == "ROW"),
        semi_sync,
        words,
    })
}

fn words(dialect: Dialect) -> SemiSyncNames {
    let plugin = dialect.semi_sync_source();
    let name = |name: &str| dialect.variable(&format!("rpl_semi_sync_source_{name}"));
    SemiSyncNames {
        plugin: plugin.name.to_owned(),
        library: plugin.library.to_owned(),
        enabled: name("enabled"),
        timeout: name("timeout"),
        count: name("wait_for_replica_count"),
        without_replicas: name("wait_no_replica"),
        wait_point: name("wait_point"),
    }
}

async fn semi_sync(session: &mut Connection, words: &SemiSyncNames) -> Result<SemiSync, SqlError> {
    let sql = "SHOW GLOBAL VARIABLES LIKE 'rpl\\_semi\\_sync\\_%'";
    let rows: Vec<(String, String)> = session.query(sql).await?;
    let variables: BTreeMap<String, String> = rows.into_iter().collect();
    let get = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let status = words.enabled.replace("enabled", "status");
    let status: Option<(String, String)> =
        session.first(&format!("SHOW GLOBAL STATUS WHERE Variable_name = '{status}'")).await?;
    Ok(SemiSync {
        enabled: get(&words.enabled) == "ON",
        active: status.is_some_and(|(_, value)| value == "ON"),
        timeout_ms: get(&words.timeout).parse().unwrap_or_default(),
        count: get(&words.count).parse().unwrap_or_default(),
        without_replicas: get(&words.without_replicas) == "ON",
        after_sync: get(&words.wait_point) == "AFTER_SYNC",
    })
}
