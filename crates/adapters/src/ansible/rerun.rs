//! Tests of repeated runs of a playbook, with a script in the place of Ansible.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_config::credentials::Credentials;
use backstop_engine::context::RunContext;
use backstop_engine::ports::{Playbook, Reporter};
use backstop_testkit::snapshot_conformance::test_context;
use backstop_types::error::{ErrorKind, Result};
use backstop_types::progress::Progress;
use tokio::sync::watch;

use super::frozen::inputs;
use super::{Ansible, MAX_RUNS};

const UNREACHABLE: &str = r#"echo 'fatal: [db]: UNREACHABLE! => {"changed": false, "msg": "Failed to connect: s3cret", "unreachable": true}'"#;

/// Keeps what is reported. If it has a sender, a notice requests a stop.
struct StoppingReporter {
    lines: Mutex<Vec<String>>,
    asks: Option<watch::Sender<bool>>,
}

impl Reporter for StoppingReporter {
    fn step(&self, _: &'static str) {}
    fn progress(&self, _: Progress) {}
    fn notice(&self, text: &str) {
        self.lines.lock().unwrap().push(text.to_owned());
        self.asks.iter().for_each(|asks| asks.send(true).unwrap());
    }
}

/// Runs a script in the place of Ansible. Returns the number of its runs, what was reported, and
/// the result.
async fn run(folder: &Path, script: &str) -> (usize, Vec<String>, Result<()>) {
    run_with(folder, script, test_context().stop, None, Duration::from_millis(1)).await
}

async fn run_with(
    folder: &Path,
    script: &str,
    stop: watch::Receiver<bool>,
    asks: Option<watch::Sender<bool>>,
    pause: Duration,
) -> (usize, Vec<String>, Result<()>) {
    let program = folder.join("ansible");
    let script = format!("#!/bin/sh\necho run >>{}/runs\n{script}\n", folder.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let told = Arc::new(StoppingReporter { lines: Mutex::default(), asks });
    let ctx = RunContext { reporter: told.clone(), stop, ..test_context() };
    let credentials = Credentials::parse("user = 'u'\npassword = 's3cret'\n", "file").unwrap();
    let playbook = folder.join("recover.yml");
    let ansible = Ansible { program, pause, ..Ansible::new(playbook, credentials, ctx) };
    let result = ansible.run(&inputs(folder.to_owned())).await;
    let runs = std::fs::read_to_string(folder.join("runs")).unwrap_or_default().lines().count();
    let lines = told.lines.lock().unwrap().clone();
    (runs, lines, result.map(drop))
}

#[tokio::test]
async fn playbook_is_run_again_after_the_instance_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("[ $(wc -l <{}/runs) = 2 ] || {{ {UNREACHABLE}; exit 4; }}", dir.path().display());
    let (runs, told, result) = run(dir.path(), &script).await;
    result.unwrap();
    assert_eq!(runs, 2);
    assert_eq!(
        told,
        ["Ansible lost the instance: Failed to connect: …; running the playbook again in 1ms (run 2 of 3)"]
    );
    assert!(!dir.path().join("secrets.yml").exists());
}

#[tokio::test]
async fn number_of_runs_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (runs, told, result) = run(dir.path(), &format!("{UNREACHABLE}; exit 4")).await;
    let error = result.unwrap_err().to_string();
    assert_eq!((runs, told.len()), (MAX_RUNS as usize, MAX_RUNS as usize - 1));
    assert!(error.contains("Failed to connect") && error.contains("after 3 runs"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn other_failures_are_not_repeated() {
    // 4 is also the status for a playbook that Ansible cannot parse.
    let failures = [
        r#"echo 'fatal: [db]: FAILED! => {"msg": "no such volume"}'; exit 2"#,
        "echo 'ERROR! the playbook is not valid'; exit 4",
    ];
    for script in failures {
        let dir = tempfile::tempdir().unwrap();
        let (runs, _, result) = run(dir.path(), script).await;
        assert_eq!((runs, result.unwrap_err().kind), (1, ErrorKind::Failed), "{script}");
    }
}

#[tokio::test]
async fn stop_request_ends_the_pause() {
    let dir = tempfile::tempdir().unwrap();
    let (asks, stop) = watch::channel(false);
    let script = format!("{UNREACHABLE}; exit 4");
    let hour = Duration::from_secs(3600);
    let (runs, told, result) = run_with(dir.path(), &script, stop, Some(asks), hour).await;
    assert_eq!(result.unwrap_err().kind, ErrorKind::Interrupted);
    assert_eq!((runs, told.len()), (1, 1));
}

#[tokio::test]
async fn progress_is_reported_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo 'TASK [backstop.mysql.mysql : Join] ****'; echo 'PROGRESS: 7 transactions, s3cret'";
    let (_, told, result) = run(dir.path(), script).await;
    result.unwrap();
    assert_eq!(told, ["backstop.mysql.mysql : Join", "7 transactions, …"]);
}
