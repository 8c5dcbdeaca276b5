//! Recovered servers of the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_adapters::mysql::connection::Connection;
use backstop_testbed::processes::kill_on;
use backstop_types::gtid::GtidSet;
use serde_json::Value;

use crate::support::program::Backstop;

/// Contents of a server, as its users see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// Checksums of all user tables.
    sums: BTreeMap<String, Option<u64>>,
    /// Columns of all user tables, in order: schema, table, column, type.
    columns: Vec<(String, String, String, String)>,
    /// XA transactions that are prepared.
    prepared: Vec<String>,
}

impl ServerState {
    /// Reads the state of this server.
    pub async fn of(root: &mut Connection) -> Self {
        let sums = backstop_testbed::tables::checksums(root).await.unwrap();
        let columns = root
            .query(
                "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema') \
                 ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION",
            )
            .await
            .unwrap();
        let prepared: Vec<(i64, i64, i64, String)> = root.query("XA RECOVER").await.unwrap();
        let mut prepared: Vec<String> = prepared.into_iter().map(|(_, _, _, xid)| xid).collect();
        prepared.sort();
        Self { sums, columns, prepared }
    }
}

/// A recovered server. Killed and removed when dropped.
pub struct RecoveredServer {
    pub dir: PathBuf,
}

impl RecoveredServer {
    /// Returns a target for the next recovery.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Recovers; the recovery must succeed.
    pub async fn recover(&self, backstop: &Backstop, how: &str) -> Value {
        backstop.json(&format!("recover orders {how} --into {}", self.dir.display())).await
    }

    /// Returns one value from the server.
    pub async fn value(&self, sql: &str) -> String {
        let mut root = self.root().await;
        let value: Option<String> = root.one(sql).await.unwrap();
        root.close().await;
        value.unwrap_or_default()
    }

    /// Returns the server's `gtid_executed`.
    pub async fn held(&self) -> GtidSet {
        self.value("SELECT @@GLOBAL.gtid_executed").await.parse().unwrap()
    }

    /// Reads the server's state.
    pub async fn state(&self) -> ServerState {
        let mut root = self.root().await;
        let state = ServerState::of(&mut root).await;
        root.close().await;
        state
    }

    pub async fn root(&self) -> Connection {
        backstop_testbed::member::root(&self.socket()).await.unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("mysqld.sock")
    }

    pub fn datadir(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for RecoveredServer {
    fn drop(&mut self) {
        let _ = kill_on(&self.datadir());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Returns true if this folder has any entry.
pub fn touched(dir: &Path) -> bool {
    dir.exists()
}
