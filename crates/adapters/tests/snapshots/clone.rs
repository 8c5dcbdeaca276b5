//! The `clone` provider.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstop_adapters::mysql::connection::{Connector, Login};
use backstop_adapters::mysql::mysqld::LocalMysqld;
use backstop_adapters::snapshots::clone::CloneProvider;
use backstop_adapters::snapshots::{LocalPlace, SnapshotSource};
use backstop_engine::ports::{MysqldControl, MysqldStart, SnapshotProvider};
use backstop_testkit::member::{free_port, kill_server_on};
use backstop_testkit::server_program::{QuietReporter, server_program, servers};
use backstop_testkit::server_slots::ServerSlots;
use backstop_testkit::snapshot_conformance::AtFailpoint;
use backstop_testkit::{
    ShardLayout, TestShard, TestVolume, datadir_template, snapshot_conformance, tables, temp_dir,
};
use backstop_types::error::ErrorKind;
use backstop_types::finding::Severity;
use backstop_types::freeze::FreezeRules;
use backstop_types::ids::Endpoint;
use backstop_types::topology::Role;

async fn provider(shard: &TestShard) -> CloneProvider {
    CloneProvider::new(
        snapshot_conformance::snapshot_source(shard, shard.primary(), &shard.base().join("work")).await,
    )
}

#[tokio::test]
async fn clone_provider_conforms_to_the_port() {
    let shard = TestShard::start(ShardLayout::single()).await;
    tables::fill(shard.primary(), 2, 20_000).await;
    let provider = provider(&shard).await;
    let taken = snapshot_conformance::assert_exact_under_load(&shard, shard.primary(), &provider).await;
    assert_eq!(taken.lineage.volume, "clone");
    snapshot_conformance::assert_exact_under_load(&shard, shard.primary(), &provider).await;
}

#[tokio::test]
async fn server_is_refused_if_clone_would_lose_data() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let provider = provider(&shard).await;
    shard.primary().run(&["CREATE DATABASE shop", "CREATE TABLE shop.old (id INT) ENGINE = MyISAM"]).await;
    snapshot_conformance::assert_refuses(&shard, &provider, "shop.old").await;
    shard.primary().run(&["DROP TABLE shop.old"]).await;

    let outside = shard.base().join("outside");
    std::fs::create_dir(&outside).unwrap();
    drop(provider);
    shard.primary().run(&["UNINSTALL PLUGIN clone"]).await;
    let provider = self::provider(&shard).await;
    let error = snapshot_conformance::assert_refuses(&shard, &provider, "clone plugin").await;
    assert!(error.hint.unwrap().contains("INSTALL PLUGIN clone"));
}

#[tokio::test]
async fn tablespace_outside_the_data_directory_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let option = format!("innodb_directories = {}", outside.path().display());
    let shard = TestShard::start(ShardLayout::single().option(&option)).await;
    let create = format!("CREATE TABLE shop.far (id INT) DATA DIRECTORY = '{}'", outside.path().display());
    shard.primary().run(&["CREATE DATABASE shop", &create]).await;
    snapshot_conformance::assert_refuses(&shard, &provider(&shard).await, "far.ibd").await;
}

/// A schema behind a symbolic link, undo logs elsewhere, a table without rows after a restart; and
/// a table that the source cannot read.
#[tokio::test]
async fn clone_follows_links_and_records_broken_tables() {
    let outside = tempfile::tempdir().unwrap();
    let option = format!("innodb_directories = {}", outside.path().display());
    let shard = TestShard::start(ShardLayout::single().option(&option)).await;
    let undo = format!("CREATE UNDO TABLESPACE more ADD DATAFILE '{}/more.ibu'", outside.path().display());
    let source = shard.primary();
    source
        .run(&[
            &undo,
            "CREATE DATABASE shop",
            "CREATE TABLE shop.`a b-c` (id INT PRIMARY KEY)",
            "INSERT INTO shop.`a b-c` VALUES (7)",
            "CREATE TABLE shop.imp (id INT PRIMARY KEY)",
            "CREATE TABLE shop.gone (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2",
            "CREATE TABLE shop.mem (id INT) ENGINE = MEMORY",
            "CREATE TABLE shop.hole (id INT) ENGINE = BLACKHOLE",
            "INSERT INTO shop.mem VALUES (1)",
        ])
        .await;
    source.stop().await;
    let linked = outside.path().join("shop");
    std::fs::rename(source.datadir().join("shop"), &linked).unwrap();
    std::os::unix::fs::symlink(&linked, source.datadir().join("shop")).unwrap();
    std::fs::remove_file(linked.join("gone#p#p1.ibd")).unwrap();
    source.start().await;
    source.run(&["ALTER TABLE shop.imp DISCARD TABLESPACE"]).await;

    let provider = provider(&shard).await;
    let found = provider.check().await.unwrap();
    assert!(found.iter().all(|finding| finding.severity != Severity::Problem), "{found:?}");
    let told =
        |code: &str| found.iter().find(|finding| finding.code == code).map(|finding| finding.what.clone());
    let broken = told("tables-broken").unwrap();
    assert!(
        broken.contains("shop.gone (") && broken.contains("shop.imp (its tablespace is discarded)"),
        "{broken}"
    );
    let emptied = told("table-without-rows").unwrap();
    assert!(emptied.contains("shop.mem") && emptied.contains("shop.hole"), "{emptied}");

    let taken = provider.take(&snapshot_conformance::new_run_id()).await.unwrap();
    let names: Vec<_> = taken.broken_tables.iter().map(|broken| broken.table.as_str()).collect();
    assert_eq!(names, ["shop.gone", "shop.imp"]);
    let opened = provider.open(&taken.snapshot).await.unwrap().tree().unwrap();
    let server = snapshot_conformance::start_recovered(&opened, shard.base().join("r")).await;
    assert_eq!(server.value("SELECT id FROM shop.`a b-c`").await, "7");
    assert_eq!(server.value("SELECT COUNT(*) FROM shop.mem").await, "0");
    let undo = "SELECT PATH FROM information_schema.INNODB_DATAFILES WHERE PATH LIKE '%more.ibu'";
    assert_eq!(server.value(undo).await, "./more.ibu");
}

/// A copy that lacks a table of the source is not a backup.
#[tokio::test]
async fn copy_lacking_a_file_is_refused() {
    let shard = TestShard::start(ShardLayout::single()).await;
    tables::fill(shard.primary(), 2, 100).await;
    // A file that the redo log still names keeps the copy from starting.
    shard.primary().stop().await;
    shard.primary().start().await;
    let mut site =
        snapshot_conformance::snapshot_source(&shard, shard.primary(), &shard.base().join("work")).await;
    let work = site.place.work_dir.clone();
    site.ctx.failpoints = Arc::new(AtFailpoint::new("after:clone", move || {
        let run = std::fs::read_dir(&work).unwrap().next().unwrap().unwrap().path();
        let mut files = std::fs::read_dir(run.join("data/shop")).unwrap();
        std::fs::remove_file(files.next().unwrap().unwrap().path()).unwrap();
    }));
    let error = CloneProvider::new(site).take(&snapshot_conformance::new_run_id()).await.unwrap_err();
    assert!(error.message.contains("CLONE did not copy") && error.message.contains("shop."), "{error}");
}

#[tokio::test]
async fn leftovers_of_a_killed_run_are_cleared_by_the_next() {
    let shard = TestShard::start(ShardLayout::single()).await;
    tables::fill(shard.primary(), 2, 20_000).await;
    let provider = provider(&shard).await;
    let site =
        snapshot_conformance::snapshot_source(&shard, shard.primary(), &shard.base().join("work")).await;
    for after in [20, 60, 100, 150, 250, 500, 1000, 2000] {
        snapshot_conformance::assert_cancel_safe(&shard, &site, &provider, Duration::from_millis(after))
            .await;
    }
    assert_eq!(provider.list().await.unwrap(), []);
    snapshot_conformance::assert_exact_under_load(&shard, shard.primary(), &provider).await;
}

#[tokio::test]
async fn unusual_servers_and_tablespaces_are_copied() {
    let made_with = vec!["--innodb-page-size=8k", "--lower-case-table-names=1"];
    let shard = TestShard::start(ShardLayout { made_with, members: 2, ..ShardLayout::default() }).await;
    shard
        .primary()
        .run(&[
            "CREATE DATABASE shop",
            "CREATE TABLESPACE space ADD DATAFILE 'space.ibd'",
            "CREATE TABLE shop.general (id INT PRIMARY KEY) TABLESPACE space",
            "CREATE TABLE shop.parts (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3",
            "CREATE TABLE shop.words (id INT PRIMARY KEY, t TEXT, FULLTEXT (t))",
            "CREATE UNDO TABLESPACE more ADD DATAFILE 'more.ibu'",
            "INSERT INTO shop.general VALUES (1)",
            "INSERT INTO shop.parts VALUES (1), (2), (3)",
            "INSERT INTO shop.words VALUES (1, 'some words')",
        ])
        .await;
    let replica = shard.candidate();
    let mut site = snapshot_conformance::snapshot_source(&shard, replica, &shard.base().join("work")).await;
    site.role = Role::Candidate;
    let provider = CloneProvider::new(site);
    let taken = provider.take(&snapshot_conformance::new_run_id()).await.unwrap();
    let opened = provider.open(&taken.snapshot).await.unwrap().tree().unwrap();
    let dir = shard.base().join("r");
    snapshot_conformance::restore(&opened, &dir);
    let options = ["innodb_page_size = 8k".to_owned(), "lower_case_table_names = 1".to_owned()];
    let server = backstop_testkit::TestMember::start_on(&dir, 900, &options).await;
    assert_eq!(server.gtid_executed().await, taken.position.gtid_executed);
    assert_eq!(tables::checksums(&server).await, tables::checksums(shard.primary()).await);
}

#[tokio::test]
async fn copy_names_tables_hidden_from_the_account() {
    let shard = TestShard::start(ShardLayout::single()).await;
    shard
        .primary()
        .run(&[
            "CREATE DATABASE hidden",
            "CREATE TABLE hidden.old (id INT) ENGINE = MyISAM",
            "CREATE USER blind@'%' IDENTIFIED BY 'pw-Blind-1'",
            "GRANT REPLICATION CLIENT, PROCESS, BACKUP_ADMIN ON *.* TO blind@'%'",
            "GRANT SELECT ON performance_schema.* TO blind@'%'",
        ])
        .await;
    let mut site =
        snapshot_conformance::snapshot_source(&shard, shard.primary(), &shard.base().join("work")).await;
    let login = Login { user: "blind".into(), password: "pw-Blind-1".to_owned().into() };
    site.connector = Connector::with_login(login, None);
    let provider = CloneProvider::new(site);
    let error = provider.take(&snapshot_conformance::new_run_id()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Refused && error.message.contains("hidden.old (MyISAM)"), "{error}");
    snapshot_conformance::assert_unharmed(&shard, &provider).await;
}

#[tokio::test]
async fn full_work_directory_is_refused_or_fails_without_harm() {
    let Some(volume) = TestVolume::ext4(600) else { return };
    let shard = TestShard::start(ShardLayout::single()).await;
    let mut site =
        snapshot_conformance::snapshot_source(&shard, shard.primary(), &volume.path.join("work")).await;
    let filler = volume.path.join("filler");
    let full = filler.clone();
    let fill = move || drop(std::fs::write(&full, vec![1; 700 << 20]));
    site.ctx.failpoints = Arc::new(AtFailpoint::new("before:clone", fill));
    let provider = CloneProvider::new(site);
    let error = provider.take(&snapshot_conformance::new_run_id()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Failed && error.message.contains("clone the source"), "{error}");
    assert!(
        error.hint.as_deref().is_some_and(|hint| hint.contains("free space")),
        "{error} {:?}",
        error.hint
    );
    snapshot_conformance::assert_unharmed(&shard, &provider).await;
    let error = snapshot_conformance::assert_refuses(&shard, &provider, "are free").await;
    assert!(error.hint.is_some_and(|hint| hint.contains("free space")));
    std::fs::remove_file(filler).unwrap();
}

#[tokio::test]
async fn death_of_the_source_is_reported() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let mut site =
        snapshot_conformance::snapshot_source(&shard, shard.primary(), &shard.base().join("work")).await;
    let datadir = shard.primary().datadir().to_owned();
    site.ctx.failpoints = Arc::new(AtFailpoint::new("before:clone", move || kill_server_on(&datadir)));
    let provider = CloneProvider::new(site);
    let error = provider.take(&snapshot_conformance::new_run_id()).await.unwrap_err();
    assert!(error.message.contains("clone the source"), "{error}");
    // Everything can be removed without a source, too.
    for left in provider.list().await.unwrap() {
        provider.release(&left).await.unwrap();
    }
    assert_eq!(provider.list().await.unwrap(), []);
}

/// Root backs up a server that runs as another user, in a work directory that root owns.
#[tokio::test]
async fn server_of_another_user_is_cloned() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: starting a server as another user needs root");
    }
    let _slots = ServerSlots::take(2).await;
    let base = temp_dir::for_all_users();
    let dir = base.path().join("m");
    datadir_template::copy(&[], &dir.join("data")).await;
    let port = free_port();
    let path = |name: &str| dir.join(name);
    let options = format!(
        "[mysqld]\nport = {port}\nsocket = {}\nlog_error = {}\npid_file = {}\nbind_address = 127.0.0.1\nmysqlx = OFF\n\
         gtid_mode = ON\nenforce_gtid_consistency = ON\nsecure_file_priv = NULL\ninnodb_buffer_pool_size = 64M\n\
         plugin_load_add = mysql_clone.so\n",
        path("s").display(),
        path("log").display(),
        path("pid").display()
    );
    std::fs::write(path("my.cnf"), options).unwrap();
    let servers = reachable_program(&dir).await;
    servers.chown(&dir, "nobody").await.unwrap();
    let start = MysqldStart {
        defaults_file: path("my.cnf"),
        datadir: path("data"),
        socket: path("s"),
        log: path("log"),
        user: Some("nobody".to_owned()),
        args: Vec::new(),
    };
    let pid = servers.start(&start).await.unwrap();
    servers.wait_ready(&start, pid, Duration::from_secs(60)).await.unwrap();
    let login =
        |user: &str, password: &str| Login { user: user.into(), password: password.to_owned().into() };
    let mut root = Connector::with_login(login("root", ""), None).connect(path("s").as_path()).await.unwrap();
    root.run("CREATE USER b@'%' IDENTIFIED BY 'pw-B-1'").await.unwrap();
    root.run("GRANT ALL ON *.* TO b@'%'").await.unwrap();
    let mut site = SnapshotSource {
        connector: Connector::with_login(login("b", "pw-B-1"), None),
        endpoint: Endpoint::new("127.0.0.1", port),
        role: Role::Primary,
        freeze: FreezeRules::default(),
        ctx: snapshot_conformance::test_context(),
        place: LocalPlace { work_dir: base.path().join("work"), servers: Arc::new(servers.clone()) },
    };
    let provider = CloneProvider::new(site.clone());
    let taken = provider
        .take(&snapshot_conformance::new_run_id())
        .await
        .unwrap_or_else(|error| panic!("{error} {:?}", error.hint));
    assert!(taken.position.gtid_executed.count() > 1);
    provider.release(&taken.snapshot).await.unwrap();
    assert_eq!(provider.list().await.unwrap(), []);

    let closed = base.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    chmod(&closed, 0o700);
    site.place.work_dir = closed.join("work");
    let error = CloneProvider::new(site).take(&snapshot_conformance::new_run_id()).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::Refused
            && error.hint.as_deref().is_some_and(|hint| hint.contains("chmod o+x")),
        "{error}"
    );
    kill_server_on(&path("data"));
}

/// Copies the server program to a reachable folder. The server that was downloaded for the tests
/// may be in a folder that only root can enter, so that others cannot load its plugins: the plugins
/// are copied, and the start script uses the copies.
async fn reachable_program(dir: &Path) -> LocalMysqld {
    let program = &server_program().await.mysqld;
    let Ok(script) = std::fs::read_to_string(program) else { return servers().await };
    let (_, rest) = script.split_once("--plugin-dir=").expect("a script that names the plugins' folder");
    let plugins: String = rest
        .trim_start_matches('\'')
        .chars()
        .take_while(|c| !c.is_whitespace() && !"'\"".contains(*c))
        .collect();
    let copied = dir.join("plugins");
    std::fs::create_dir(&copied).unwrap();
    std::fs::copy(Path::new(&plugins).join("mysql_clone.so"), copied.join("mysql_clone.so")).unwrap();
    let reachable = dir.join("mysqld");
    std::fs::write(&reachable, script.replace(&plugins, &copied.to_string_lossy())).unwrap();
    chmod(&reachable, 0o755);
    LocalMysqld::new(reachable, Arc::new(QuietReporter))
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
