//! A server that `recover` made, as its user sees it.

use std::path::{Path, PathBuf};

use backstop_adapters::mysql::connection::{Connection, Connector, Login};
use backstop_testkit::{TestMember, TestShard};
use backstop_types::gtid::GtidSet;

/// Contents of a target directory. The server is killed, and the directory removed, when dropped.
pub struct RecoveredServer {
    /// The target directory.
    pub dir: PathBuf,
}

impl RecoveredServer {
    /// Returns a target for a recovery, which is empty as yet.
    pub fn into(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Opens a session of `root@localhost`, an account in the donor's tables.
    pub async fn root(&self) -> Connection {
        let login = Login { user: "root".into(), password: String::new().into() };
        let socket = self.dir.join("mysqld.sock");
        Connector::with_login(login, None)
            .connect(socket.as_path())
            .await
            .expect("log in to the rebuilt server")
    }

    /// Returns one value.
    pub async fn value(&self, sql: &str) -> String {
        let value: Option<String> =
            self.root().await.one(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        value.unwrap_or_default()
    }

    /// Returns `@@GLOBAL.gtid_executed`.
    pub async fn gtid_executed(&self) -> GtidSet {
        self.value("SELECT @@GLOBAL.gtid_executed").await.parse().expect("a GTID set")
    }

    /// Kills the server, as a power cut would.
    pub fn kill(&self) {
        backstop_testkit::member::kill_server_on(&self.datadir());
    }

    /// Returns the data directory.
    pub fn datadir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Checks that the server is a replica of this shard that has everything the primary has, and
    /// holds exactly the same.
    pub async fn equals(&self, shard: &TestShard) {
        let primary: &TestMember = shard.primary();
        let held = primary.gtid_executed().await;
        let behind = || async { held.subtract(&self.gtid_executed().await).count() };
        let begin = std::time::Instant::now();
        while behind().await > 0 {
            assert!(
                begin.elapsed() < std::time::Duration::from_secs(30),
                "it lacks {} transactions",
                behind().await
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(self.gtid_executed().await, held, "transactions of the rebuilt server and the primary");
        let sums = backstop_testbed::tables::checksums(&mut self.root().await).await.unwrap();
        assert_eq!(sums, backstop_testkit::tables::checksums(primary).await);
        for (sql, wanted) in [
            (
                "SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE SERVICE_STATE = 'ON'",
                "1",
            ),
            (
                "SELECT COUNT(*) FROM performance_schema.replication_connection_status WHERE SERVICE_STATE = 'ON'",
                "1",
            ),
            ("SELECT @@GLOBAL.super_read_only", "1"),
            ("SELECT COUNT(*) FROM mysql.user WHERE user = 'backstop_recovery'", "0"),
        ] {
            assert_eq!(self.value(sql).await, wanted, "{sql}");
        }
    }
}

impl Drop for RecoveredServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Checks that exactly one server runs in a folder, on this data directory.
pub fn only_server(dir: &Path) {
    assert_eq!(backstop_testbed::processes::servers_in(dir).len(), 1, "servers in {}", dir.display());
}
