//! The shard: its hosts, its servers, its accounts, and Backstop configured for it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backstop_adapters::mysql::connection::Connection;
use backstop_adapters::mysql::mysqld_process;
use backstop_testkit::member::kill_server_on;
use backstop_testkit::server_slots::ServerSlots;
use backstop_testkit::{TestNetwork, accounts, datadir_template, server_wrapper};
use backstop_types::gtid::GtidSet;
use rustix::process::Signal;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;

use crate::support::certificates::Certificates;
use crate::support::program::{Backstop, S3, until};

/// Limit for a server to start, or for a replica to advance.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
/// User that the servers run as.
pub const USER: &str = "nobody";
/// Hosts of the servers, of the archiver, and of the application.
const HOSTS: [&str; 6] = ["db1", "db2", "db3", "db4", "archive", "app"];

/// The shard and everything around it. Killed and removed when dropped.
pub struct Production {
    pub network: TestNetwork,
    pub certificates: Certificates,
    pub backstop: Backstop,
    pub program: PathBuf,
    base: PathBuf,
    password: String,
    _slots: ServerSlots,
}

/// A server's folder, which `recover` lays out in the same way.
#[derive(Debug, Clone)]
pub struct Server {
    pub host: &'static str,
    pub dir: PathBuf,
}

impl Production {
    /// Starts db1, the primary, with its replicas db2 and db3. Returns `None`, with a message on
    /// standard error, where that is impossible.
    pub async fn start() -> Option<Self> {
        let s3 = S3::of_the_tests()?;
        let network = TestNetwork::of(&HOSTS)?;
        let slots = ServerSlots::take(5).await;
        let base = std::env::temp_dir().join(format!(
            "bst-{}-{:08x}",
            std::process::id(),
            accounts::unique_number() as u32
        ));
        std::fs::create_dir_all(&base).unwrap();
        let program = server_wrapper::for_all_users(&base.join("mysql")).await;
        let certificates = Certificates::of(&base.join("tls"), &HOSTS, USER);
        let backstop = Backstop::within(base.join("b"));
        let password = accounts::password();
        let this = Self { network, certificates, backstop, program, base, password, _slots: slots };
        let this = this.configured(&s3);
        let [db1, db2, db3] = ["db1", "db2", "db3"].map(|host| this.server(host));
        for (number, server) in [&db1, &db2, &db3].into_iter().enumerate() {
            this.make(server, number).await;
        }
        this.fill(&db1).await;
        for replica in [&db2, &db3] {
            this.follow(replica, "db1").await;
            replica.wait_for(&db1.held().await).await;
        }
        Some(this)
    }

    /// Returns the folder of a host's first server, which may not exist yet.
    pub fn server(&self, host: &'static str) -> Server {
        Server { host, dir: self.base.join(host) }
    }

    /// Makes Backstop's next commands run on this host.
    pub fn on(&mut self, host: &str) -> &Backstop {
        self.backstop.prefix = self.network.prefix(host);
        &self.backstop
    }

    /// Returns the option file with the application's login.
    pub fn login(&self) -> PathBuf {
        self.base.join("app.cnf")
    }

    /// Replaces a text of Backstop's configuration.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.backstop.config).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(&self.backstop.config, text.replace(from, to)).unwrap();
    }

    /// Starts a server as its unit would: all settings are in the option file.
    pub async fn run(&self, server: &Server) {
        let prefix = self.network.prefix(server.host);
        let mut command = tokio::process::Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg(&self.program);
        command.arg(format!("--defaults-file={}", server.dir.join("my.cnf").display()));
        command
            .arg(format!("--user={USER}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut server_process = command.current_dir("/").spawn().unwrap();
        server.ready(&mut server_process).await;
    }

    /// Returns one value, queried by the user that the server runs as, whose login needs no
    /// password.
    pub fn as_the_server_user(&self, server: &Server, sql: &str) -> String {
        let become_user = [&format!("--reuid={USER}"), "--regid=nogroup", "--clear-groups"];
        let mut command = Command::new("setpriv");
        command.args(become_user).arg(self.program.with_file_name("mysql")).args([
            "--no-defaults",
            "-N",
            "-B",
        ]);
        command.arg(format!("--user={USER}")).arg(format!("--socket={}/mysqld.sock", server.dir.display()));
        let ran = command.args(["-e", sql]).output().unwrap();
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }

    /// Makes a server a replica of another by hand, with TLS and verification, and read only.
    pub async fn follow(&self, replica: &Server, source: &str) {
        let change = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{source}', SOURCE_PORT=3306, SOURCE_USER='backstop_replication', \
             SOURCE_PASSWORD='{}', SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, SOURCE_SSL_CA='{}', \
             SOURCE_SSL_VERIFY_SERVER_CERT=1, SOURCE_CONNECT_RETRY=1",
            self.password,
            self.certificates.ca().display()
        );
        replica.execute(&["STOP REPLICA", &change, "SET GLOBAL super_read_only = ON", "START REPLICA"]).await;
    }

    fn configured(mut self, s3: &S3) -> Self {
        let members = ["db1", "db2", "db3"].map(|host| format!("{host}:3306"));
        self.backstop.configure(&self.program, &members, "clone");
        self.backstop.encrypt_repository();
        let store = wire(&self.network, &s3.endpoint);
        let prefix = self.base.file_name().unwrap().to_string_lossy().into_owned();
        self.backstop.in_bucket(s3, &prefix, &store);
        self.reconfigure("snapshot =", "archive = { from = 'primary', semi_sync = true }\nsnapshot =");
        let (password, ca) = (&self.password, self.certificates.ca());
        self.backstop.write_credentials(&format!(
            "user = 'backstop'\npassword = '{password}'\nreplication_user = 'backstop_replication'\n\
             replication_password = '{password}'\ntls = {{ mode = 'verify-identity', ca = '{}' }}\n",
            ca.display()
        ));
        let login = format!(
            "[client]\nuser = app\npassword = {password}\nssl_mode = VERIFY_IDENTITY\nssl_ca = {}\n",
            ca.display()
        );
        std::fs::write(self.login(), login).unwrap();
        self
    }

    /// Creates a server's directories and starts it.
    async fn make(&self, server: &Server, number: usize) {
        let path = |name: &str| server.dir.join(name);
        datadir_template::copy(&[], &path("data")).await;
        for name in ["logs", "redo", "tmp", "undo"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::rename(path("data/#innodb_redo"), path("redo/#innodb_redo")).unwrap();
        for name in ["undo_001", "undo_002"] {
            std::fs::rename(path("data").join(name), path("undo").join(name)).unwrap();
        }
        std::fs::write(path("my.cnf"), self.option_file(server, number)).unwrap();
        self.give(server);
        self.run(server).await;
    }

    /// Changes the owner of a server's files to the user that it runs as.
    pub fn give(&self, server: &Server) {
        let given = Command::new("chown").arg("-R").arg(USER).arg(&server.dir).status();
        assert!(given.unwrap().success());
    }

    /// Returns the lines of a server's option file that depend on its host.
    fn of_the_host(&self, host: &str) -> String {
        let tls = &self.certificates;
        format!(
            "bind_address = {}\nreport_host = {host}\nssl_ca = {}\nssl_cert = {}\nssl_key = {}\n",
            self.network.address(host),
            tls.ca().display(),
            tls.certificate(host).display(),
            tls.key(host).display(),
        )
    }

    fn option_file(&self, server: &Server, number: usize) -> String {
        let dir = server.dir.display();
        format!(
            "[mysqld]\ndatadir = {dir}/data\nsocket = {dir}/mysqld.sock\nlog_error = {dir}/mysqld.log\n\
             pid_file = {dir}/mysqld.pid\ntmpdir = {dir}/tmp\ninnodb_log_group_home_dir = {dir}/redo\n\
             innodb_undo_directory = {dir}/undo\n\
             log_bin = {dir}/logs/mysql-bin\nrelay_log = {dir}/logs/relay-bin\nserver_id = {id}\nport = 3306\n\
             skip_name_resolve = ON\nmysqlx = OFF\nsecure_file_priv = NULL\nrequire_secure_transport = ON\n\
             gtid_mode = ON\nenforce_gtid_consistency = ON\nevent_scheduler = ON\n{own}\
             plugin_load_add = auth_socket.so\nplugin_load_add = mysql_clone.so\n\
             plugin_load_add = semisync_source.so\n\
             rpl_semi_sync_source_timeout = 4294967295\n{SETTINGS}",
            id = 101 + number,
            own = self.of_the_host(server.host),
        )
    }

    /// Returns the statements of blocks of `docs/grants.md`, for accounts that are bound to the
    /// shard's network.
    pub fn grants(&self, blocks: &[&str]) -> Vec<String> {
        let statements = blocks.iter().flat_map(|block| accounts::statements(block, &self.password));
        statements.map(|sql| sql.replace("@'%'", "@'10.7.%'")).collect()
    }

    /// Creates the accounts, bound to the shard's network, and the application's tables.
    async fn fill(&self, primary: &Server) {
        primary.execute(&self.grants(&["base", "clone", "replication"])).await;
        primary
            .execute(&[
                "CREATE DATABASE shop",
                "CREATE TABLE shop.orders (id BIGINT UNSIGNED PRIMARY KEY, booked_at DATETIME NOT NULL)",
                &format!("CREATE USER app@'10.7.%' IDENTIFIED BY '{}'", self.password),
                "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO app@'10.7.%'",
                "CREATE USER nobody@localhost IDENTIFIED WITH auth_socket",
                "CREATE EVENT shop.night ON SCHEDULE EVERY 1 DAY STARTS NOW() + INTERVAL 1 DAY DO DELETE FROM shop.orders WHERE id = 0",
                "CREATE EVENT shop.never ON SCHEDULE EVERY 1 DAY STARTS NOW() + INTERVAL 1 DAY DISABLE DO DELETE FROM shop.orders",
            ])
            .await;
    }
}

/// Settings that this shard's administrators chose.
const SETTINGS: &str = "default_time_zone = '+02:00'\nsql_mode = 'ANSI_QUOTES,STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'\nmax_connections = 217\n\
     innodb_buffer_pool_size = 96M\ninnodb_redo_log_capacity = 24M\ncharacter_set_server = latin1\n\
     collation_server = latin1_german1_ci\nlong_query_time = 1.5\nbinlog_expire_logs_seconds = 604800\n\
     init_connect = \"SET @who = 'an application'\"\nsort_buffer_size = 300K\n";

impl Drop for Production {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.base).into_iter().flatten().flatten() {
            kill_server_on(&entry.path().join("data"));
        }
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

impl Server {
    /// Returns the data directory.
    fn datadir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Kills the server and removes its disk at the same moment.
    pub fn lose(&self) {
        kill_server_on(&self.datadir());
        std::fs::remove_dir_all(&self.dir).unwrap();
    }

    /// Stops the server as its unit would.
    pub async fn stop(&self) {
        let datadir = self.datadir();
        mysqld_process::signal(mysqld_process::server_on(&datadir).unwrap(), Signal::TERM).unwrap();
        until(WAIT_TIMEOUT, || self.log(), || mysqld_process::server_on(&datadir).is_none()).await;
    }

    /// Opens a session of `root@localhost` over the socket.
    pub async fn root(&self) -> Connection {
        let session = backstop_testbed::member::root(&self.dir.join("mysqld.sock")).await;
        session.unwrap_or_else(|error| panic!("{error}; {}", self.log()))
    }

    /// Runs statements as `root@localhost`.
    pub async fn execute<T: AsRef<str>>(&self, statements: &[T]) {
        let mut root = self.root().await;
        for sql in statements {
            let ran = root.run_within(sql.as_ref(), WAIT_TIMEOUT).await;
            ran.unwrap_or_else(|error| panic!("{}: {error}", sql.as_ref()));
        }
        root.close().await;
    }

    /// Returns one value as text.
    pub async fn value(&self, sql: &str) -> String {
        let mut root = self.root().await;
        let value: Option<String> = root.one(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        root.close().await;
        value.unwrap_or_default()
    }

    /// Returns `@@GLOBAL.gtid_executed`.
    pub async fn held(&self) -> GtidSet {
        self.value("SELECT @@GLOBAL.gtid_executed").await.parse().unwrap()
    }

    /// Waits until the server holds these transactions.
    pub async fn wait_for(&self, set: &GtidSet) {
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', {})", WAIT_TIMEOUT.as_secs());
        let mut root = self.root().await;
        let late: Vec<Option<u8>> = root.query_within(&wait, WAIT_TIMEOUT * 2).await.unwrap();
        assert_eq!(late, [Some(0)], "{} lacks transactions", self.host);
    }

    /// Waits until the server accepts connections.
    async fn ready(&self, process: &mut Child) {
        let socket = self.dir.join("mysqld.sock");
        let begin = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < WAIT_TIMEOUT, "{ended:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the end of the server's log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("mysqld.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        format!("the log of {} ends: {}", self.host, lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

/// Makes a store that listens on the tests' loopback reachable on every host's loopback. Returns
/// its address there.
fn wire(network: &TestNetwork, store: &str) -> String {
    let store = store.trim_start_matches("http://").to_owned();
    let listeners = network.listen_on_loopbacks();
    let endpoint = format!("http://{}", listeners[0].local_addr().unwrap());
    for listener in listeners {
        listener.set_nonblocking(true).unwrap();
        let (listener, store) = (TcpListener::from_std(listener).unwrap(), store.clone());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(&store).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut there).await;
                });
            }
        });
    }
    endpoint
}
