//! A server made from another server's files: its temporary administrator, and the join to its
//! shard.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstop_adapters::mysql::admin_session::MysqlAdminAccess;
use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_engine::ports::{AdminAccess, AdminSession, CheckDepth, MysqldControl, MysqldStart, ReadOnly};
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_testkit::member::{free_port, kill_server_on};
use backstop_testkit::server_program::{QuietReporter, server_program};
use backstop_testkit::snapshot_conformance::test_context;
use backstop_testkit::{ShardLayout, TestShard, tables, temp_dir};
use backstop_types::gtid::GtidSet;

const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Recovered server, killed when dropped.
struct RecoveredServer {
    start: MysqldStart,
    private: PathBuf,
    servers: LocalMysqld,
    access: MysqlAdminAccess,
}

impl Drop for RecoveredServer {
    fn drop(&mut self) {
        kill_server_on(&self.start.datadir);
    }
}

impl RecoveredServer {
    /// Copies a stopped member's files to `dir`, with a new server identity.
    async fn of(shard: &TestShard, donor: &Path, dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let datadir = dir.join("data");
        let cp =
            tokio::process::Command::new("cp").arg("-a").arg(donor).arg(&datadir).status().await.unwrap();
        assert!(cp.success());
        std::fs::remove_file(datadir.join("auto.cnf")).unwrap();
        let (socket, log) = (dir.join("s"), dir.join("mysqld.log"));
        let options = format!(
            "[mysqld]\ndatadir={}\nsocket={}\nlog_error={}\nport={}\nserver_id=999\nskip_replica_start=ON\n\
             super_read_only=ON\ngtid_mode=ON\nenforce_gtid_consistency=ON\nlog_bin=binlog\nmysqlx=OFF\n\
             secure_file_priv=NULL\ninnodb_buffer_pool_size=64M\nbind_address=127.0.0.1\nevent_scheduler=OFF\n\
             general_log=ON\ngeneral_log_file={}\n",
            datadir.display(),
            socket.display(),
            log.display(),
            free_port(),
            dir.join("general.log").display(),
        );
        let defaults_file = dir.join("my.cnf");
        std::fs::write(&defaults_file, options).unwrap();
        let start = MysqldStart { defaults_file, datadir, socket, log, user: None, args: Vec::new() };
        let servers = LocalMysqld::new(&server_program().await.mysqld, Arc::new(QuietReporter));
        let access =
            MysqlAdminAccess::new(Arc::new(SharedCredentials::of(shard.credentials(), test_context())));
        Self { start, private: dir.join("private"), servers, access }
    }

    async fn open(&mut self) -> Box<dyn AdminSession> {
        self.start.args = self.access.prepare(&self.private).await.unwrap();
        let pid = self.servers.start(&self.start).await.unwrap();
        self.servers.wait_ready(&self.start, pid, READY_TIMEOUT).await.unwrap();
        assert_eq!(self.servers.running_on(&self.start.datadir).await.unwrap(), Some(pid));
        self.access.session(&self.start, &self.private).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovered_server_joins_its_shard() {
    let shard = TestShard::start(ShardLayout { members: 2, ..ShardLayout::default() }).await;
    tables::fill(shard.primary(), 2, 300).await;
    // The password of the donor's root is unknown, as on every recovered server.
    let donor = &shard.members[1];
    shard.settle().await;
    donor.stop().await;
    let mut recovered = RecoveredServer::of(&shard, donor.datadir(), &shard.base().join("r")).await;
    shard
        .primary()
        .run(&["CREATE TABLE shop.later (id INT PRIMARY KEY)", "INSERT INTO shop.later VALUES (1)"])
        .await;

    let mut session = recovered.open().await;
    let held = session.gtid_executed().await.unwrap();
    assert!(!held.is_empty());
    session.set_super_read_only(ReadOnly::Off).await.unwrap();
    session.forget_replication().await.unwrap();
    session.set_super_read_only(ReadOnly::Super).await.unwrap();
    assert_eq!(session.replication().await.unwrap(), None);
    let tables = session.check_tables(CheckDepth::Quick, &QuietReporter).await.unwrap();
    assert_eq!((tables.checked, tables.broken), (2, vec![]));

    // If a run is killed between the two statements of a reset, the server's own set is empty: the
    // journal's set must be used.
    session.set_super_read_only(ReadOnly::Off).await.unwrap();
    session.reset_gtids().await.unwrap();
    kill_server_on(&recovered.start.datadir);
    let mut session = recovered.open().await;
    assert_eq!(session.gtid_executed().await.unwrap(), GtidSet::new());
    session.set_super_read_only(ReadOnly::Off).await.unwrap();
    session.set_gtid_purged(&held).await.unwrap();
    assert_eq!(session.gtid_executed().await.unwrap(), held);
    assert_eq!(session.gtid_purged().await.unwrap(), held);

    session.follow(&shard.primary().endpoint()).await.unwrap();
    session.enable_semi_sync_replica().await.unwrap();
    session.set_super_read_only(ReadOnly::Super).await.unwrap();
    let wanted = shard.primary().gtid_executed().await;
    let begin = Instant::now();
    while !wanted.is_subset_of(&session.gtid_executed().await.unwrap()) {
        assert!(begin.elapsed() < READY_TIMEOUT, "{:?}", session.replication().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let channel = session.replication().await.unwrap().expect("it replicates");
    assert!(channel.io_running && channel.sql_running && channel.auto_position, "{channel:?}");

    // Nothing of the recovery is left: no account, no secret, no transaction.
    session.hand_over().await.unwrap();
    drop(session);
    assert!(recovered.access.session(&recovered.start, &recovered.private).await.is_err());
    assert!(std::fs::read_dir(&recovered.private).unwrap().next().is_none());
    let login =
        backstop_adapters::mysql::connection::Login { user: "root".into(), password: String::new().into() };
    let connector = backstop_adapters::mysql::connection::Connector::with_login(login, None);
    let mut root = connector.connect(recovered.start.socket.as_path()).await.unwrap();
    let (accounts, super_read_only, semi_sync): (u64, u8, u8) = root
        .one(
            "SELECT (SELECT COUNT(*) FROM mysql.user WHERE user LIKE 'backstop\\_recovery'), \
             @@GLOBAL.super_read_only, @@GLOBAL.rpl_semi_sync_replica_enabled",
        )
        .await
        .unwrap();
    assert_eq!((accounts, super_read_only, semi_sync), (0, 1, 1));
    let executed: String = root.one("SELECT @@GLOBAL.gtid_executed").await.unwrap();
    assert_eq!(executed.parse::<GtidSet>().unwrap(), wanted, "an errant transaction");

    let general =
        std::fs::read_to_string(recovered.start.datadir.parent().unwrap().join("general.log")).unwrap();
    assert!(general.contains("CHANGE REPLICATION SOURCE") && !general.contains(shard.password()));
    assert!(!general.contains("Bs1-"), "the administrator's password is in the general log");
    let log = std::fs::read_to_string(&recovered.start.log).unwrap();
    assert!(!log.contains(shard.password()) && !log.contains("Bs1-"));
    recovered.servers.stop(&recovered.start.datadir, READY_TIMEOUT).await.unwrap();
    assert_eq!(recovered.servers.running_on(&recovered.start.datadir).await.unwrap(), None);
}

/// Returns true if root runs this and user `nobody` can run the server program.
fn nobody_can_run(program: &Path) -> bool {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(program);
    command.arg("--version").uid(65534).gid(65534);
    rustix::process::geteuid().is_root() && command.output().is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovered_server_runs_as_another_user() {
    if !nobody_can_run(&server_program().await.mysqld) {
        return; // needs root, and a server program outside of root's home
    }
    let shard = TestShard::start(ShardLayout::single()).await;
    let donor = shard.primary();
    donor.stop().await;
    let base = temp_dir::for_all_users();
    let dir = base.path().join("r");
    let mut recovered = RecoveredServer::of(&shard, donor.datadir(), &dir).await;
    std::fs::create_dir(&recovered.private).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("link")).unwrap();
    recovered.servers.chown(&dir, "nobody").await.unwrap();
    recovered.start.user = Some("nobody".into());
    let mut session = recovered.open().await;
    session.hand_over().await.unwrap();
    let pid = recovered.servers.running_on(&recovered.start.datadir).await.unwrap().unwrap();
    assert_eq!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 65534);
    assert_eq!(std::fs::metadata("/etc/passwd").unwrap().uid(), 0, "a link was followed");
    let unknown = recovered.servers.chown(&dir, "no-such-user").await.unwrap_err();
    assert!(unknown.message.contains("no-such-user"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_start_reports_its_cause() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let donor = shard.primary();
    donor.stop().await;
    let recovered = RecoveredServer::of(&shard, donor.datadir(), &shard.base().join("r")).await;
    let mut options = std::fs::read_to_string(&recovered.start.defaults_file).unwrap();
    options.push_str("innodb_page_size=8k\n");
    std::fs::write(&recovered.start.defaults_file, options).unwrap();
    let pid = recovered.servers.start(&recovered.start).await.unwrap();
    let error = recovered.servers.wait_ready(&recovered.start, pid, READY_TIMEOUT).await.unwrap_err();
    assert!(error.message.contains("it exited") && error.message.contains("page"), "{error}");
}
