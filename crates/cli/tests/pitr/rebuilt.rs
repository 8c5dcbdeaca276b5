//! Recovered servers of the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_lab::processes::kill_on;
use backstop_model::gtid::GtidSet;
use serde_json::Value;

use crate::program::Backstop;

/// Checksums of all user tables.
pub type Sums = BTreeMap<String, Option<u64>>;

/// A recovered server. Killed and removed when dropped.
pub struct Rebuilt {
    pub dir: PathBuf,
}

impl Rebuilt {
    /// Where the next recovery goes.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Recovers; it must succeed.
    pub async fn recover(&self, backstop: &Backstop, how: &str) -> Value {
        backstop.json(&format!("recover orders {how} --into {}", self.dir.display())).await
    }

    /// One value of it.
    pub async fn value(&self, sql: &str) -> String {
        let mut root = self.root().await;
        let value: Option<String> = root.one(sql).await.unwrap();
        root.close().await;
        value.unwrap_or_default()
    }

    /// What it holds.
    pub async fn held(&self) -> GtidSet {
        self.value("SELECT @@GLOBAL.gtid_executed").await.parse().unwrap()
    }

    /// What is in its tables.
    pub async fn sums(&self) -> Sums {
        let mut root = self.root().await;
        let sums = backstop_lab::tables::checksums(&mut root).await.unwrap();
        root.close().await;
        sums
    }

    pub async fn root(&self) -> backstop_adapters::mysql::connect::Connection {
        backstop_lab::member::root(&self.socket()).await.unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("mysqld.sock")
    }

    pub fn datadir(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Rebuilt {
    fn drop(&mut self) {
        let _ = kill_on(&self.datadir());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// True if something is in this folder.
pub fn touched(dir: &Path) -> bool {
    dir.exists()
}
