//! One server of a test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_adapters::mysql::connect::{Connection, Connector, Login};
use backstop_adapters::mysql::process;
use backstop_engine::ports::{ServerPrograms, ServerStart};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::Endpoint;

use crate::program::servers;

const START: Duration = Duration::from_secs(120);

/// A running server on loopback. Killed and removed when dropped.
pub struct Member {
    /// Folder of everything that is its own.
    pub dir: PathBuf,
    /// Its `@@server_id`.
    pub server_id: u32,
    start: ServerStart,
    port: u16,
}

impl Member {
    /// Starts a server on `dir/data`, which must hold a data directory. `options` are lines of its option file.
    pub async fn start_on(dir: &Path, server_id: u32, options: &[String]) -> Self {
        let port = free_port();
        let start = ServerStart {
            defaults_file: dir.join("my.cnf"),
            datadir: dir.join("data"),
            socket: dir.join("mysqld.sock"),
            log: dir.join("mysqld.log"),
            user: None,
            args: Vec::new(),
        };
        let member = Self { dir: dir.to_owned(), server_id, start, port };
        std::fs::write(&member.start.defaults_file, member.option_file(options)).expect("write my.cnf");
        member.start().await;
        member
    }

    /// Starts it again after [`Member::stop`] or [`Member::kill`].
    pub async fn start(&self) {
        let servers = servers().await;
        let pid = servers.start(&self.start).await.expect("start a server");
        servers.wait_ready(&self.start, pid, START).await.expect("a started server");
    }

    /// Stops it in an orderly way.
    pub async fn stop(&self) {
        servers().await.stop(self.datadir(), Duration::from_secs(60)).await.expect("stop a server");
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&self) {
        kill_server_on(self.datadir());
    }

    /// Its pid, if it runs.
    pub fn pid(&self) -> Option<u32> {
        process::server_on(self.datadir())
    }

    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new("127.0.0.1", self.port)
    }

    /// Its data directory.
    pub fn datadir(&self) -> &Path {
        &self.start.datadir
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.start.socket
    }

    /// Its error log.
    pub fn log(&self) -> &Path {
        &self.start.log
    }

    /// How it is started.
    pub fn server_start(&self) -> &ServerStart {
        &self.start
    }

    /// A session of `root@localhost`.
    pub async fn root(&self) -> Connection {
        let login = Login { user: "root".into(), password: String::new().into() };
        Connector::with_login(login, None).connect(self.socket()).await.expect("log in as root")
    }

    /// Runs statements as `root@localhost`, each to its end, within a minute each.
    pub async fn run(&self, statements: &[&str]) {
        let mut root = self.root().await;
        for sql in statements {
            root.run_within(sql, Duration::from_secs(60))
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        root.close().await;
    }

    /// One value.
    pub async fn value(&self, sql: &str) -> String {
        let mut root = self.root().await;
        let value: Option<String> = root.one(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        root.close().await;
        value.unwrap_or_default()
    }

    /// `@@GLOBAL.gtid_executed`.
    pub async fn gtid_executed(&self) -> GtidSet {
        self.value("SELECT @@GLOBAL.gtid_executed").await.parse().expect("a GTID set")
    }

    /// Waits until it holds these transactions.
    pub async fn wait_for(&self, set: &GtidSet) {
        let begin = std::time::Instant::now();
        loop {
            let missing = set.subtract(&self.gtid_executed().await);
            if missing.is_empty() {
                return;
            }
            assert!(begin.elapsed() < START, "{} lacks {missing} after {START:?}", self.endpoint());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn option_file(&self, options: &[String]) -> String {
        let path = |path: &Path| path.display().to_string();
        let mut text = format!(
            "[mysqld]\ndatadir = {}\nsocket = {}\nlog_error = {}\npid_file = {}\nport = {}\nserver_id = {}\n",
            path(self.datadir()),
            path(self.socket()),
            path(self.log()),
            path(&self.dir.join("mysqld.pid")),
            self.port,
            self.server_id,
        );
        text.push_str(
            "bind_address = 127.0.0.1\nreport_host = 127.0.0.1\nskip_name_resolve = ON\nmysqlx = OFF\n\
             secure_file_priv = NULL\ngtid_mode = ON\nenforce_gtid_consistency = ON\nlog_bin = binlog\n\
             relay_log = relay\nrelay_log_recovery = ON\nskip_replica_start = ON\n\
             innodb_buffer_pool_size = 64M\ninnodb_redo_log_capacity = 16M\n\
             plugin_load_add = mysql_clone.so\nevent_scheduler = OFF\n",
        );
        text.push_str(&format!("report_port = {}\n", self.port));
        for line in options {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Kills the server on a data directory, if one runs, and waits until it is gone.
pub fn kill_server_on(datadir: &Path) {
    let begin = std::time::Instant::now();
    while let Some(pid) = process::server_on(datadir) {
        let _ = process::signal(pid, rustix::process::Signal::KILL);
        if begin.elapsed() > Duration::from_secs(30) {
            return; // a panic here, while another one unwinds, would hide why the test failed
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A TCP port of loopback that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
