//! One server on loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_adapters::mysql::connection::{Connection, Connector, Login};
use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_adapters::mysql::mysqld_process;
use backstop_engine::ports::{Clock, MysqldControl, MysqldStart};
use backstop_host::SystemClock;
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::Endpoint;

use crate::processes;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Server on loopback with GTIDs and a binary log. Killed and removed when dropped, except after
/// [`LocalServer::keep`].
pub struct LocalServer {
    /// Folder of all its files.
    pub dir: PathBuf,
    /// Its `@@server_id`.
    pub server_id: u32,
    servers: LocalMysqld,
    start: MysqldStart,
    port: u16,
    kept: bool,
}

impl LocalServer {
    /// Starts a server on `dir/data`, which must hold a data directory. `options` are further lines
    /// of its option file.
    ///
    /// # Errors
    /// Returns an error with the end of the server's log if it does not start.
    pub async fn start_on(
        servers: &LocalMysqld,
        dir: &Path,
        server_id: u32,
        options: &[String],
    ) -> Result<Self> {
        let start = MysqldStart {
            defaults_file: dir.join("my.cnf"),
            datadir: dir.join("data"),
            socket: dir.join("mysqld.sock"),
            log: dir.join("mysqld.log"),
            user: None,
            args: Vec::new(),
        };
        let servers = servers.clone();
        let member = Self { dir: dir.to_owned(), server_id, servers, start, port: free_port()?, kept: false };
        let file = &member.start.defaults_file;
        std::fs::write(file, member.option_file(options))
            .failed(format!("cannot write {}", file.display()))?;
        member.start().await?;
        Ok(member)
    }

    /// Starts it again after [`LocalServer::stop`] or [`LocalServer::kill`].
    ///
    /// # Errors
    /// Returns the errors of [`LocalServer::start_on`].
    pub async fn start(&self) -> Result<()> {
        let pid = self.servers.start(&self.start).await?;
        self.servers.wait_ready(&self.start, pid, START_TIMEOUT).await
    }

    /// Shuts it down.
    ///
    /// # Errors
    /// Returns an error if it does not go away.
    pub async fn stop(&self) -> Result<()> {
        self.servers.stop(self.datadir(), STATEMENT_TIMEOUT).await
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// Returns an error if it does not go away.
    pub fn kill(&self) -> Result<()> {
        processes::kill_on(self.datadir())
    }

    /// Lets the server and its files outlive this value.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// Returns its pid, if it runs.
    pub fn pid(&self) -> Option<u32> {
        mysqld_process::server_on(self.datadir())
    }

    /// Returns its endpoint.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new("127.0.0.1", self.port)
    }

    /// Returns its data directory.
    pub fn datadir(&self) -> &Path {
        &self.start.datadir
    }

    /// Returns its socket.
    pub fn socket(&self) -> &Path {
        &self.start.socket
    }

    /// Returns its error log.
    pub fn log(&self) -> &Path {
        &self.start.log
    }

    /// Returns its start options.
    pub fn server_start(&self) -> &MysqldStart {
        &self.start
    }

    /// Opens a session of `root@localhost`.
    ///
    /// # Errors
    /// Returns an error if it does not answer.
    pub async fn root(&self) -> Result<Connection> {
        root(self.socket()).await
    }

    /// Runs statements as `root@localhost`, each to its end, within a minute each.
    ///
    /// # Errors
    /// Returns an error if one fails.
    pub async fn run<T: AsRef<str>>(&self, statements: &[T]) -> Result<()> {
        let mut root = self.root().await?;
        for sql in statements {
            root.run_within(sql.as_ref(), STATEMENT_TIMEOUT).await?;
        }
        root.close().await;
        Ok(())
    }

    /// Returns one value as text; empty if it is NULL.
    ///
    /// # Errors
    /// Returns an error if the statement fails.
    pub async fn value(&self, sql: &str) -> Result<String> {
        let mut root = self.root().await?;
        let value: Option<String> = root.one(sql).await?;
        root.close().await;
        Ok(value.unwrap_or_default())
    }

    /// Returns `@@GLOBAL.gtid_executed`.
    ///
    /// # Errors
    /// Returns an error if it does not answer.
    pub async fn gtid_executed(&self) -> Result<GtidSet> {
        let doing = format!("cannot read gtid_executed of {}", self.endpoint());
        self.value("SELECT @@GLOBAL.gtid_executed").await?.parse().failed(doing)
    }

    /// Waits until it holds these transactions.
    ///
    /// # Errors
    /// Returns an error if it lacks some after two minutes.
    pub async fn wait_for(&self, set: &GtidSet) -> Result<()> {
        let clock = SystemClock::new();
        loop {
            let missing = set.subtract(&self.gtid_executed().await?);
            if missing.is_empty() {
                return Ok(());
            }
            if clock.monotonic() > START_TIMEOUT {
                let lacks =
                    format!("cannot sync {}: it lacks {missing} after {START_TIMEOUT:?}", self.endpoint());
                return Err(Error::failed(lacks));
            }
            clock.sleep(Duration::from_millis(50)).await;
        }
    }

    fn option_file(&self, options: &[String]) -> String {
        let path = |path: &Path| path.display().to_string();
        let mut text = format!(
            "[mysqld]\ndatadir = {}\nsocket = {}\nlog_error = {}\npid_file = {}\nport = {port}\nreport_port = {port}\nserver_id = {}\n",
            path(self.datadir()),
            path(self.socket()),
            path(self.log()),
            path(&self.dir.join("mysqld.pid")),
            self.server_id,
            port = self.port,
        );
        text.push_str(
            "bind_address = 127.0.0.1\nreport_host = 127.0.0.1\nskip_name_resolve = ON\nmysqlx = OFF\n\
             secure_file_priv = NULL\ngtid_mode = ON\nenforce_gtid_consistency = ON\nlog_bin = binlog\n\
             relay_log = relay\nrelay_log_recovery = ON\nskip_replica_start = ON\n\
             innodb_buffer_pool_size = 64M\ninnodb_redo_log_capacity = 16M\n\
             plugin_load_add = mysql_clone.so\nevent_scheduler = OFF\n",
        );
        for line in options {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        if !self.kept {
            // The next sweep finds files that cannot be removed now.
            let _ = self.kill();
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Opens a session of `root@localhost`, who has no password in the testbed.
///
/// # Errors
/// Returns an error if no server answers on the socket.
pub async fn root(socket: &Path) -> Result<Connection> {
    let login = Login { user: "root".into(), password: String::new().into() };
    Ok(Connector::with_login(login, None).connect(socket).await?)
}

/// Returns a free TCP port of loopback, below the range that the system uses for outgoing
/// connections.
///
/// # Errors
/// Returns an error if none is found.
pub fn free_port() -> Result<u16> {
    let random = || 15_000 + (crate::unique_number() % 17_000) as u16;
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(random)
        .take(200)
        .find(free)
        .ok_or_else(|| Error::failed("cannot find a free port on loopback"))
}
