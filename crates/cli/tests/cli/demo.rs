//! The demo itself and, with the artefacts of `--keep`, every other command on a real shard.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use backstop_testkit::server_program::server_program;
use backstop_testkit::server_slots::ServerSlots;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{BACKSTOP, backstop, json, run, stderr, stdout};

/// Number of servers that run at the same time.
const SERVERS: usize = 5;

/// Returns a folder whose path is short enough for sockets.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bsd").tempdir_in("/tmp").unwrap()
}

async fn server() -> PathBuf {
    server_program().await.mysqld.clone()
}

fn demo(dir: &Path, server: &Path, more: &str) -> Command {
    let mut command = backstop(dir, &format!("demo {more} --dir"));
    command.arg(dir).arg("--mysql-server").arg(server);
    command
}

/// Returns the demos in a folder: nothing but the empty folder of this user may be left.
fn left(dir: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let parents = list(dir).filter(|path| path.to_string_lossy().contains("backstop-demo-"));
    parents.flat_map(|parent| list(&parent).collect::<Vec<_>>()).collect()
}

fn no_servers(dir: &Path) {
    assert_eq!(
        backstop_testbed::processes::servers_in(dir),
        Vec::<u32>::new(),
        "servers run in {}",
        dir.display()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_loses_nothing_and_its_shard_serves_every_command() {
    let _slots = ServerSlots::take(SERVERS).await;
    let (dir, server) = (folder(), server().await);
    let output = demo(dir.path(), &server, "--json --keep").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report = json(&output);
    let kept = &report["kept"];
    let undo = Undo(kept["remove"].as_str().unwrap().to_owned());

    the_report_is_complete(&report);
    progress_is_json(&output);
    let config = kept["config"].as_str().unwrap();
    every_command_answers(dir.path(), config, &report);

    drop(undo);
    assert_eq!(left(dir.path()), Vec::<PathBuf>::new());
    no_servers(dir.path());
}

/// Removes the kept artefacts, also if the test fails.
struct Undo(String);

impl Drop for Undo {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &self.0]).status();
    }
}

fn the_report_is_complete(report: &Value) {
    assert_eq!(
        (&report["ok"], &report["lost_commits"], &report["version"]),
        (&true.into(), &0.into(), &1.into())
    );
    assert!(report["acknowledged_commits"].as_u64().unwrap() > 1000, "{report}");
    assert_eq!(report["first_backup"]["parent"], Value::Null);
    assert_eq!(report["backup"]["parent"], report["first_backup"]["backup_id"]);
    let stored = |backup: &str| report[backup]["stored_bytes"].as_u64().unwrap();
    assert!(stored("backup") < stored("first_backup"), "an increment stores less");
    assert_eq!(report["recover"]["backup_id"], report["backup"]["backup_id"]);
    assert_eq!(report["recover"]["joined"], true);
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    for step in [
        "start a shard",
        "back up",
        "back up again",
        "purge binary logs",
        "lose the candidate",
        "rebuild it",
        "compare",
    ] {
        assert!(steps.contains(&step), "{steps:?}");
    }
    assert_eq!(report["longest_gaps_ms"].as_array().unwrap().len(), 2);
}

fn progress_is_json(output: &Output) {
    for line in stderr(output).lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["event"].is_string() || event["level"].is_string(), "{line}");
    }
}

/// Runs every command and checks its field names, which are a contract.
fn every_command_answers(dir: &Path, config: &str, report: &Value) {
    let ask = |command: &str| {
        let output = run(dir, &format!("--json --config {config} {command}"));
        (output.status.code().unwrap(), json(&output))
    };
    let (code, status) = ask("status");
    assert_eq!((code, &status["ok"]), (0, &true.into()), "{status}");
    let shard = &status["shards"][0];
    assert_eq!(shard["last_backup"]["backup_id"], report["backup"]["backup_id"]);
    assert!(
        shard["rpo_seconds"].is_number() && shard["rto_seconds"].is_null() && shard["findings"].is_array()
    );
    assert_eq!(shard["coverage"]["windows"].as_array().unwrap().len(), 2);

    let (code, backups) = ask("backups shop --latest");
    assert_eq!((code, &backups["backups"][0]["backup_id"]), (0, &report["backup"]["backup_id"]));
    for field in [
        "shard",
        "kind",
        "source",
        "source_reason",
        "gtid_executed",
        "freeze",
        "data_bytes",
        "changed_bytes",
        "stored_bytes",
        "seconds",
        "state",
    ] {
        assert!(!backups["backups"][0][field].is_null(), "{field}");
    }

    let (code, check) = ask("check shop");
    assert_eq!((code, &check["ok"]), (0, &true.into()), "{check}");
    let findings = check["shards"][0]["findings"].as_array().unwrap();
    let schedule =
        |finding: &Value| finding["code"].as_str().is_some_and(|code| code.starts_with("schedule-"));
    assert!(findings.iter().any(schedule), "a configured schedule is checked: {check}");

    let (code, plan) = ask("plan shop --to latest");
    assert_eq!((code, &plan["backup_id"]), (0, &report["backup"]["backup_id"]));
    let (code, refused) = ask("plan shop --to 2020-01-01T00:00:00Z");
    assert_eq!((code, refused["error"].as_str()), (21, Some("not_recoverable")));
    assert!(refused["hint"].as_str().unwrap().contains("nearest"), "{refused}");

    let (code, prune) = ask("prune shop");
    assert_eq!((code, &prune["shards"][0]["applied"]), (0, &false.into()));
    assert_eq!(prune["shards"][0]["backups"].as_array().unwrap().len(), 2);
    let (code, verify) = ask("verify --content");
    assert_eq!((code, &verify["ok"]), (0, &true.into()), "{verify}");

    let (code, backup) = ask("backup shop --kind scheduled");
    assert_eq!((code, backup["kind"].as_str()), (0, Some("scheduled")), "{backup}");
    assert!(
        backup["source_reason"].as_str().unwrap().contains("candidate"),
        "says why not the candidate: {backup}"
    );

    let as_root = if rustix::process::geteuid().is_root() { " --run-as-root" } else { "" };
    let (code, recover) =
        ask(&format!("recover shop --to latest --into copy --standalone --check full --systemd{as_root}"));
    assert_eq!((code, &recover["joined"]), (0, &false.into()), "{recover}");
    assert_eq!(recover["backup_id"], backup["backup_id"]);
    assert!(recover["server"]["port"].is_u64() && recover["seconds"]["total"].is_number());
    let unit = format!("copy/mysqld-shop-{}.service", recover["server"]["port"]);
    assert!(dir.join(unit).exists(), "the unit is written");
    backstop_testbed::processes::kill_all(&dir.join("copy")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_cleans_up_after_ctrl_c_and_after_a_killed_run() {
    let _slots = ServerSlots::take(SERVERS).await;
    let (dir, server) = (folder(), server().await);
    for step in ["start a shard", "write", "back up", "rebuild it"] {
        let child = started(dir.path(), &server, step);
        end(child, Signal::INT, Some(130));
        assert_eq!(left(dir.path()), Vec::<PathBuf>::new(), "interrupted in `{step}`");
        no_servers(dir.path());
    }
    end(started(dir.path(), &server, "back up"), Signal::KILL, None);
    let killed = left(dir.path());
    assert_eq!(killed.len(), 1, "a killed demonstration cannot clean up");
    end(started(dir.path(), &server, "start a shard"), Signal::TERM, Some(130));
    assert!(!killed[0].exists(), "the next one does");
    assert_eq!(left(dir.path()), Vec::<PathBuf>::new());
    no_servers(dir.path());
}

/// Starts a demo and waits until it has begun a step.
fn started(dir: &Path, server: &Path, step: &str) -> Child {
    let mut child = demo(dir, server, "--json").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    for line in lines {
        let line = line.unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["event"] == "step" && event["step"] == step {
            return child;
        }
        seen.push(line);
    }
    let ended = child.wait();
    panic!("the demonstration ended before `{step}` ({ended:?}): {seen:#?}");
}

/// Sends a signal and waits for the end.
fn end(mut child: Child, signal: Signal, code: Option<i32>) {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), code);
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(150), "it does not end after {signal:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_runs_as_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: the other tests are run by an ordinary user already");
        return;
    }
    let _slots = ServerSlots::take(SERVERS).await;
    let dir = folder();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let program = dir.path().join("backstop");
    std::fs::copy(BACKSTOP, &program).unwrap();
    let server = reachable(&server().await, dir.path());
    for path in [dir.path(), &home] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let output = Command::new("setpriv")
        .args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "env", "-i"])
        .arg(format!("PATH={}", std::env::var("PATH").unwrap_or_default()))
        .arg(format!("HOME={}", home.display()))
        .arg(&program)
        .args(["demo", "--json", "--dir"])
        .arg(dir.path())
        .arg("--mysql-server")
        .arg(&server)
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report = json(&output);
    assert_eq!(report["ok"], true);
    the_archive_brought_everything_back(&report);
    assert_eq!(left(dir.path()), Vec::<PathBuf>::new());
    no_servers(dir.path());
}

/// Checks the recoveries of a table that was dropped, and of the shard after the loss of all
/// servers.
fn the_archive_brought_everything_back(report: &Value) {
    let dropped = &report["dropped"];
    assert_eq!(dropped["same"], true, "{report}");
    assert_eq!(dropped["found"]["kind"], "ddl");
    assert!(dropped["found"]["statement"].as_str().unwrap().starts_with("DROP TABLE"), "{dropped}");
    let to = dropped["found"]["to"].as_str().unwrap();
    assert_eq!((&dropped["recover"]["target"], &to[..7]), (&to.into(), "before:"));
    assert!(dropped["recover"]["transactions_replayed"].as_u64().unwrap() > 100, "{dropped}");
    let loss = &report["total_loss"];
    assert_eq!((&loss["lost_commits"], &loss["recover"]["ending"]), (&0.into(), &"as-primary".into()));
    assert!(loss["acknowledged_commits"].as_u64().unwrap() > 300, "{loss}");
    assert!(loss["rto_seconds"].as_f64().unwrap() > 0.0, "{loss}");
    let steps: Vec<&Value> = report["steps"].as_array().unwrap().iter().map(|step| &step["name"]).collect();
    for step in
        ["archive", "drop a table by mistake", "find it", "recover to just before it", "lose everything"]
    {
        assert!(steps.iter().any(|name| *name == step), "{steps:?}");
    }
}

const NOBODY: u32 = 65534;

/// Returns a server program that every user may run: the existing one, or a copy of it. A
/// downloaded program has its path in its start scripts.
fn reachable(server: &Path, dir: &Path) -> PathBuf {
    let runs = Command::new("setpriv")
        .args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"])
        .arg(server)
        .arg("--version")
        .output();
    if runs.is_ok_and(|output| output.status.success()) {
        return server.to_owned();
    }
    let home = server.parent().and_then(Path::parent).expect("a fetched server");
    let copy = dir.join("server");
    let script = format!(
        "cp -a --reflink=auto '{home}' '{copy}' && sed -i 's|{home}|{copy}|g' '{copy}'/bin/* && chmod -R a+rX '{copy}'",
        home = home.display(),
        copy = copy.display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    copy.join("bin/mysqld")
}
