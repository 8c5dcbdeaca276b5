//! Servers after the hand-over, as production runs them: as a separate user, on an address of the
//! host, stopped and started again.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use backstop_adapters::mysql::mysqld_process::{is_alive, server_on, signal};
use backstop_testkit::server_program::program_for_all_users;
use backstop_testkit::{ShardLayout, TestShard, temp_dir};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::Endpoint;
use rustix::process::Signal;

use crate::support::program::Backstop;
use crate::support::recovered_server::RecoveredServer;
use crate::support::stored_archive::{ARCHIVE, contents};

const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const NOBODY: u32 = 65534;
const SERVER: &str = "--server-user nobody";

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_another_user_restart_with_every_ending() {
    let base = temp_dir::for_all_users();
    let Some(program) = program_for_all_users(base.path()).await else { return };
    let mut shard = TestShard::start(ShardLayout {
        members: 2,
        program: Some(program.clone()),
        ..ShardLayout::default()
    })
    .await;
    shard.primary().run(&["CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)"]).await;
    let mut backstop = Backstop::of(&shard, "clone").await;
    backstop.servers_of_root = false;
    backstop.json("backup orders").await;
    shard.primary().run(&["INSERT INTO shop.t VALUES (1)"]).await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    refusals_leave_nothing(&backstop, base.path()).await;
    joined(&shard, &backstop, base.path()).await;
    copied(&backstop, base.path(), &program).await;
    let held = shard.primary().gtid_executed().await;
    backstop.json(&format!("{ARCHIVE} --until-caught-up")).await;
    let lost = shard.primary().endpoint();
    shard.members.clear();
    promoted(&backstop, base.path(), &lost, &held).await;
}

async fn refusals_leave_nothing(backstop: &Backstop, base: &Path) {
    let (above, file) = (base.join("above"), base.join("file"));
    std::fs::write(&file, "mine").unwrap();
    let into = format!("recover orders --to latest --standalone --into {}", above.join("r").display());
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let closed = base.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let tmpdir = format!("--server-option tmpdir={}", closed.display());
    for plan in ["", "--plan"] {
        backstop.run(&format!("{into} {plan}")).await.failed(2, &["--server-user mysql", "--run-as-root"]);
        let unknown = format!("{into} {plan} --server-user no-such-user");
        backstop.run(&unknown).await.failed(2, &["no-such-user", "--server-user"]);
        backstop
            .run(&format!("{into} {SERVER} {tmpdir} {plan}"))
            .await
            .failed(2, &["cannot write in", "tmpdir"]);
        let below =
            format!("recover orders --to latest --standalone --into {}/new {SERVER}", closed.display());
        backstop.run(&format!("{below} {plan}")).await.failed(20, &["has no access to", "chmod o+x"]);
        assert!(!above.exists() && !closed.join("new").exists(), "{plan}: nothing was touched");
        for (more, words) in [
            ("--listen 192.0.2.1".to_owned(), "cannot listen on 192.0.2.1"),
            ("--listen no-such-host.invalid".to_owned(), "cannot listen on no-such-host.invalid"),
            (format!("--port {port}"), "cannot use port"),
        ] {
            backstop.run(&format!("{into} {SERVER} {more} {plan}")).await.failed(20, &[words]);
            assert!(!above.exists(), "{more} {plan}: nothing was touched");
        }
        let onto = format!("recover orders --to latest --standalone {SERVER} {plan} --into");
        backstop
            .run(&format!("{onto} {}", file.display()))
            .await
            .failed(20, &["cannot read target directory"]);
        backstop.run(&format!("{onto} {}", backstop.repository.display())).await.failed(20, &["not empty"]);
    }
}

/// Checks a joined server, also one that was restarted during its recovery.
async fn joined(shard: &TestShard, backstop: &Backstop, base: &Path) {
    let rebuilt = RecoveredServer::at(base.join("deep/er/j"));
    let how = format!("--to latest --join {SERVER} --listen 127.0.0.2 --systemd");
    let line = format!("recover orders {how} --into {}", rebuilt.dir.display());
    backstop.killed(&line, "after:catch_up").await;
    stop(&rebuilt);
    start(&rebuilt, &shard.program);
    assert_eq!(rebuilt.value(REPLICATING).await, "0", "not before it is handed over");
    assert_eq!(rebuilt.value("SELECT @@GLOBAL.event_scheduler").await, "OFF");
    let report = rebuilt.recover(backstop, &how).await;
    assert_eq!(report["server"]["host"], "127.0.0.2", "{report}");
    let another = line.replace("--join", "--standalone");
    for plan in ["", "--plan"] {
        backstop.run(&format!("{another} {plan}")).await.failed(20, &["begun with other arguments"]);
    }
    backstop.json(&format!("{line} --plan")).await;
    listens(&report);
    assert!(!report["next"].to_string().contains("bind_address"), "{report}");
    for path in ["deep", "deep/er"] {
        assert_eq!(std::fs::metadata(base.join(path)).unwrap().mode() & 0o777, 0o755, "{path}");
    }
    for path in [rebuilt.dir.clone(), rebuilt.dir.join("my.cnf"), rebuilt.datadir().join("ibdata1")] {
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o007), (NOBODY, 0), "{}", path.display());
    }
    follows(shard, &rebuilt, 2).await;
    stop(&rebuilt);
    let mut unit = start_by_unit(&rebuilt, report["server"]["port"].as_u64().unwrap());
    follows(shard, &rebuilt, 3).await;
    stop(&rebuilt);
    assert!(unit.wait().unwrap().success(), "systemd would start it again");
    start(&rebuilt, &shard.program);
    follows(shard, &rebuilt, 4).await;
}

/// Logs in to a copy, copies data from it, stops it and removes it by the commands in the report.
async fn copied(backstop: &Backstop, base: &Path, program: &Path) {
    let rebuilt = RecoveredServer::at(base.join("copy"));
    let report = rebuilt.recover(backstop, &format!("--to latest --standalone --copy-login {SERVER}")).await;
    let file = rebuilt.dir.join("client.cnf");
    assert_eq!(report["server"]["client_file"], file.display().to_string(), "{report}");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let options = std::fs::read_to_string(&file).unwrap();
    let password = options.lines().find_map(|line| line.strip_prefix("password = ")).unwrap();
    assert!(!report.to_string().contains(password.trim_matches('"')));
    let next = report["next"].to_string();
    let shell = |line: &str| {
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        Command::new("bash").arg("-c").arg(line).env("PATH", path).output().unwrap()
    };
    for (line, wanted) in [
        (format!("mysql --defaults-file={0} -N -e 'SELECT COUNT(*) FROM shop.t'", file.display()), "1"),
        (format!("mysqldump --defaults-file={0} shop t", file.display()), "INSERT INTO `t` VALUES (1)"),
    ] {
        let output = shell(&line);
        assert!(output.status.success() && said(&output).contains(wanted), "{line}: {}", said(&output));
        let command = line.split(" -N").next().unwrap().split(" shop").next().unwrap();
        assert!(next.contains(command), "{command}: {next}");
    }
    let denied = shell(&format!("mysql --defaults-file={} -e 'DELETE FROM shop.t'", file.display()));
    assert!(!denied.status.success(), "{}", said(&denied));
    let last = report["next"].as_array().unwrap().last().unwrap().as_str().unwrap();
    let remove = last.split('`').nth(1).unwrap();
    let output = shell(remove);
    assert!(output.status.success() && !rebuilt.dir.exists(), "{remove}: {}", said(&output));
    assert_eq!(server_on(&rebuilt.datadir()), None);
}

/// Checks a new primary at the very address of the lost one: killed after it has begun a line, it
/// continues that line, also to a moment that is named, whose own line is abandoned then.
async fn promoted(backstop: &Backstop, base: &Path, lost: &Endpoint, held: &GtidSet) {
    let (rebuilt, port) = (RecoveredServer::at(base.join("p")), lost.port);
    let text = std::fs::read_to_string(&backstop.config).unwrap();
    std::fs::write(&backstop.config, text.replace(&lost.to_string(), &format!("127.0.0.3:{port}"))).unwrap();
    let all = held.to_string();
    assert!(!all.contains(','), "the last transaction of one server is the last of all: {all}");
    let (uuid, last) = (all.split_once(':').unwrap().0, all.rsplit(['-', ':']).next().unwrap());
    let to = |moment: &str| {
        format!("--to {moment} --as-primary {SERVER} --listen 127.0.0.3,127.0.0.4 --port {port}")
    };
    let how = to(&format!("after:{uuid}:{last}"));
    let line = format!("recover orders {how} --into {}", rebuilt.dir.display());
    backstop.killed(&line, "after:begin_line").await;
    let elsewhere = format!("recover orders {} --into {}", to("latest"), base.join("elsewhere").display());
    stop(&rebuilt);
    let ran = backstop.spawn(&elsewhere, Some("kill@before:materialise")).end().await;
    assert!(ran.err.contains("timeline 2 of the archive began"), "{ran}");
    let report = rebuilt.recover(backstop, &how).await;
    assert_eq!((&report["ending"], &report["server"]["host"]), (&"as-primary".into(), &"127.0.0.3".into()));
    listens(&report);
    assert_eq!(rebuilt.held().await, *held);
    assert_eq!(contents(backstop).await.timelines.len(), 2, "one line was begun");
    rebuilt.root().await.run("INSERT INTO shop.t VALUES (100)").await.unwrap();
    let program = base.join("mysql/bin/mysqld");
    stop(&rebuilt);
    start(&rebuilt, if program.exists() { &program } else { Path::new("mysqld") });
    until_answers(&rebuilt).await;
    rebuilt.root().await.run("INSERT INTO shop.t VALUES (101)").await.unwrap();
    assert_eq!(contents(backstop).await.timelines.len(), 2);
}

const REPLICATING: &str = "SELECT (SELECT COUNT(*) FROM performance_schema.replication_connection_status WHERE SERVICE_STATE = 'ON') \
                           + (SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE SERVICE_STATE = 'ON')";

/// Checks that the server runs as another user, refuses writes, and receives the row that the
/// primary gets now.
async fn follows(shard: &TestShard, rebuilt: &RecoveredServer, row: u32) {
    until_answers(rebuilt).await;
    shard.primary().run(&[&format!("INSERT INTO shop.t VALUES ({row})")]).await;
    let begin = Instant::now();
    let row = format!("SELECT COUNT(*) FROM shop.t WHERE id = {row}");
    while rebuilt.value(&row).await != "1" {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "it does not replicate");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rebuilt.value(REPLICATING).await, "2");
    assert_eq!(rebuilt.value("SELECT @@GLOBAL.super_read_only").await, "1");
    let pid = server_on(&rebuilt.datadir()).unwrap();
    assert_eq!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), NOBODY);
}

async fn until_answers(rebuilt: &RecoveredServer) {
    let begin = Instant::now();
    while backstop_testbed::member::root(&rebuilt.dir.join("mysqld.sock")).await.is_err() {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "it does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn listens(report: &serde_json::Value) {
    let server = &report["server"];
    let at = (server["host"].as_str().unwrap(), server["port"].as_u64().unwrap() as u16);
    std::net::TcpStream::connect(at).unwrap_or_else(|error| panic!("{at:?}: {error}"));
}

/// Stops the server as systemd does.
fn stop(rebuilt: &RecoveredServer) {
    let pid = server_on(&rebuilt.datadir()).expect("a server");
    signal(pid, Signal::TERM).unwrap();
    let begin = Instant::now();
    while is_alive(pid) {
        assert!(begin.elapsed() < WAIT_TIMEOUT, "it does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts the server as root would by hand.
fn start(rebuilt: &RecoveredServer, program: &Path) {
    let options = format!("--defaults-file={}", rebuilt.dir.join("my.cnf").display());
    let output = Command::new(program).args([&options, "--daemonize"]).current_dir("/").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Starts the server as systemd does: the unit's command, as the unit's user.
fn start_by_unit(rebuilt: &RecoveredServer, port: u64) -> Child {
    let unit = rebuilt.dir.join(format!("mysqld-orders-{port}.service"));
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("\nUser=nobody\n"), "{text}");
    // systemd warns about the user `nobody`, since other services run as that user too.
    let other = rebuilt.dir.join("verified.service");
    std::fs::write(&other, text.replace("User=nobody", "User=daemon")).unwrap();
    if let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&other).output() {
        assert_eq!(said(&verified), "", "{text}");
    }
    let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = command.split(' ').collect();
    Command::new(words[0]).args(&words[1..]).uid(NOBODY).gid(NOBODY).current_dir("/").spawn().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
