//! `schedule --systemd`: systemd accepts its output.

use std::path::Path;
use std::process::Command;

use crate::{json, run, stderr, stdout};

const CONFIGURATION: &str = r#"
[repository]
url = "file:///var/lib/backstop"

[shards.orders]
credentials = { file = "/etc/backstop/orders.toml" }
topology = { members = ["db1:3306"] }
schedule = "cron(55 23 * * ? *)"

[shards.often]
credentials = { file = "/etc/backstop/orders.toml" }
topology = { members = ["db1:3306"] }
schedule = "rate(6 hours)"

[shards.workdays]
credentials = { file = "/etc/backstop/orders.toml" }
topology = { members = ["db1:3306"] }
schedule = "cron(0/15 8-17 ? * MON-FRI *)"

[shards.month-end]
credentials = { file = "/etc/backstop/orders.toml" }
topology = { members = ["db1:3306"] }
schedule = "cron(30 2 LW * ? *)"

[shards.never]
credentials = { file = "/etc/backstop/orders.toml" }
topology = { members = ["db1:3306"] }
"#;

fn configured() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), CONFIGURATION).unwrap();
    dir
}

#[test]
fn systemd_accepts_service_and_timer() {
    let dir = configured();
    for shard in ["orders", "often", "workdays", "month-end"] {
        let output = run(dir.path(), &format!("schedule {shard} --systemd --json"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let units = json(&output);
        let mut files = Vec::new();
        for unit in [&units["service"], &units["timer"]] {
            let name = Path::new(unit["path"].as_str().unwrap()).file_name().unwrap();
            let file = dir.path().join(name);
            std::fs::write(&file, unit["content"].as_str().unwrap()).unwrap();
            files.push(file);
        }
        let config = dir.path().canonicalize().unwrap().join("backstop.toml");
        let service = units["service"]["content"].as_str().unwrap();
        let command =
            format!("{} --config {} backup {shard} --kind scheduled", crate::BACKSTOP, config.display());
        assert!(service.contains(&command), "{service}");
        assert!(units["timer"]["content"].as_str().unwrap().contains("Persistent=true"));
        assert!(
            units["install"]
                .as_array()
                .unwrap()
                .iter()
                .any(|line| line.as_str().unwrap().contains("enable --now"))
        );
        verify(&files);
    }
}

fn verify(files: &[std::path::PathBuf]) {
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).args(files).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("left out: there is no systemd-analyze");
        }
        read => {
            let read = read.unwrap();
            let said = String::from_utf8_lossy(&read.stderr);
            let about_ours: Vec<&str> =
                said.lines().filter(|line| line.contains("backstop-backup-")).collect();
            assert!(read.status.success() && about_ours.is_empty(), "{said}");
        }
    }
}

#[test]
fn schedule_prints_both_units_and_their_installation() {
    let dir = configured();
    let output = run(dir.path(), "schedule orders --systemd --set shards.orders.freeze.hold=3s");
    let text = stdout(&output);
    for part in [
        "# /etc/systemd/system/backstop-backup-orders.service\n[Unit]",
        "# /etc/systemd/system/backstop-backup-orders.timer\n[Unit]",
        "OnCalendar=*-*-* 23:55:00 UTC",
        "--set shards.orders.freeze.hold=3s backup orders",
        "systemctl enable --now backstop-backup-orders.timer",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn schedule_fails_with_a_hint_without_a_schedule() {
    let dir = configured();
    let output = run(dir.path(), "schedule never --systemd");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("shards.never.schedule"), "{}", stderr(&output));
}
