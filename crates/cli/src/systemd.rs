//! A shard's schedule as a systemd service and timer, and the state of that timer on this host.

mod archiver;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use backstop_config::schedule::{Schedule, SystemdTimer};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::finding::Finding;
use backstop_types::ids::ShardName;
use serde::Serialize;

pub use archiver::{ArchiverUnit, archiver_unit};

/// Directory for administrators' units.
const UNIT_DIR: &str = "/etc/systemd/system";
/// Limit for `systemctl`: it answers immediately, or its manager hangs.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(5);

/// Output of `schedule --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleUnits {
    /// The shard.
    pub shard: ShardName,
    /// Schedule of the shard, as configured.
    pub schedule: String,
    /// Service that runs the backup.
    pub service: UnitFile,
    /// Timer that starts the service.
    pub timer: UnitFile,
    /// Commands that activate the schedule, once the two files are in place.
    pub install: Vec<String>,
}

/// A unit file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Content of the file.
    pub content: String,
}

/// Arguments of a service and its timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRun<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// Schedule of the shard.
    pub schedule: &'a Schedule,
    /// Absolute path of this program.
    pub program: &'a Path,
    /// Absolute path of the configuration.
    pub config: &'a Path,
    /// Further options of the command line: `--set`, `shards.orders.freeze.hold=3s`.
    pub options: &'a [String],
    /// Folders that the service writes to: the work directory, a repository in a directory.
    pub writes: &'a [PathBuf],
}

/// Returns the service and timer of a schedule.
///
/// # Errors
/// Returns [`ErrorKind::Usage`] if a timer cannot express the schedule.
pub fn units(run: &ScheduledRun<'_>) -> Result<ScheduleUnits> {
    let timer = run.schedule.to_systemd().map_err(|error| {
        let failure = Error::new(ErrorKind::Usage, format!("cannot schedule shard {}: {error}", run.shard));
        failure.hint("write the schedule another way, or run `backstop backup` from another scheduler")
    })?;
    let name = unit_name(run.shard);
    let unit =
        |kind: &str, content| UnitFile { path: Path::new(UNIT_DIR).join(format!("{name}.{kind}")), content };
    Ok(ScheduleUnits {
        shard: run.shard.clone(),
        schedule: run.schedule.to_string(),
        service: unit("service", service(run)),
        timer: unit("timer", timer_unit(run, &timer)),
        install: vec!["systemctl daemon-reload".to_owned(), format!("systemctl enable --now {name}.timer")],
    })
}

/// Returns true if the timer of a configured schedule is active on this host; `None` if the shard
/// has no schedule.
pub async fn active_schedule(shard: &ShardName, schedule: Option<&Schedule>) -> Option<Finding> {
    let schedule = schedule?;
    if !Path::new("/run/systemd/system").is_dir() {
        let what =
            format!("this host has no systemd: Backstop cannot tell if the schedule of shard {shard} runs");
        let todo =
            format!("run `backstop backup {shard} --kind scheduled` from another scheduler at {schedule}");
        return Some(Finding::warning("schedule-no-systemd", what, todo));
    }
    let timer = format!("{}.timer", unit_name(shard));
    let (enabled, active) = (systemctl("is-enabled", &timer).await, systemctl("is-active", &timer).await);
    Some(judged(shard, &timer, enabled.as_deref(), active.as_deref()))
}

fn judged(
    shard: &ShardName,
    timer: &str,
    enabled: std::result::Result<&str, &Error>,
    active: std::result::Result<&str, &Error>,
) -> Finding {
    let todo = format!("install the units that `backstop schedule {shard} --systemd` prints");
    match (enabled, active) {
        (Ok("enabled" | "static" | "alias"), Ok("active")) => {
            Finding::ok("schedule-active", format!("{timer} runs the schedule of shard {shard}"))
        }
        (Err(error), _) | (_, Err(error)) => {
            let what = format!("cannot determine if the schedule of shard {shard} is active: {error}");
            Finding::warning("schedule-unknown", what, format!("run `systemctl status {timer}`"))
        }
        (Ok(enabled), Ok(active)) => {
            let state = format!(
                "{timer} is {} and {active}",
                if enabled.is_empty() { "not installed" } else { enabled }
            );
            let what = format!("the schedule of shard {shard} is not active on this host: {state}");
            Finding::warning("schedule-not-active", what, todo)
        }
    }
}

/// Returns the first line of the output of `systemctl VERB UNIT`, even if it fails.
async fn systemctl(verb: &str, unit: &str) -> Result<String> {
    let doing = format!("systemctl {verb} {unit}");
    let mut command = tokio::process::Command::new("systemctl");
    command.args([verb, unit]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let late = |_| Error::failed(format!("{doing}: no answer within {SYSTEMCTL_TIMEOUT:?}"));
    let output =
        tokio::time::timeout(SYSTEMCTL_TIMEOUT, command.output()).await.map_err(late)?.failed(&doing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn unit_name(shard: &ShardName) -> String {
    format!("backstop-backup-{shard}")
}

fn service(run: &ScheduledRun<'_>) -> String {
    let mut command: Vec<String> = vec![path(run.program), "--config".to_owned(), path(run.config)];
    command.extend(run.options.iter().cloned());
    command.extend(["backup", run.shard.as_str(), "--kind", "scheduled"].map(str::to_owned));
    let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    format!(
        "[Unit]\n\
         Description=Backstop: back up MySQL shard {shard}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={command}\n\
         {hardening}",
        shard = run.shard,
        command = command.join(" "),
        hardening = hardening(run.writes),
    )
}

/// Returns directives that remove every right that a backup never needs. The service runs as root,
/// since it starts a copy as the server's user.
fn hardening(writes: &[PathBuf]) -> String {
    let below = |folder: &str| writes.iter().any(|path| path.starts_with(folder));
    let home = if below("/home") || below("/root") { "no" } else { "read-only" };
    let private_tmp = if below("/tmp") || below("/var/tmp") { "no" } else { "yes" };
    let system = if below("/usr") || below("/etc") || below("/boot") { "no" } else { "full" };
    format!(
        "UMask=0077\n\
         Nice=10\n\
         NoNewPrivileges=yes\n\
         ProtectSystem={system}\n\
         ProtectHome={home}\n\
         PrivateTmp={private_tmp}\n\
         ProtectClock=yes\n\
         ProtectHostname=yes\n\
         ProtectKernelLogs=yes\n\
         ProtectKernelModules=yes\n\
         ProtectKernelTunables=yes\n\
         ProtectControlGroups=yes\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
         RestrictNamespaces=yes\n\
         RestrictRealtime=yes\n\
         LockPersonality=yes\n\
         SystemCallArchitectures=native\n"
    )
}

fn timer_unit(run: &ScheduledRun<'_>, timer: &SystemdTimer) -> String {
    format!(
        "[Unit]\n\
         Description=Backstop: schedule of MySQL shard {shard}: {schedule}\n\
         \n\
         [Timer]\n\
         {lines}\n\
         AccuracySec=1s\n\
         RandomizedDelaySec=0\n\
         Persistent=true\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n",
        shard = run.shard,
        schedule = run.schedule.to_string().replace('%', "%%"),
        lines = timer.lines().join("\n"),
    )
}

/// Returns a unit that runs a recovered server.
pub fn server_unit(shard: &ShardName, program: &Path, options: &Path, user: Option<&str>) -> String {
    let command =
        [path(program), format!("--defaults-file={}", path(options))].map(|word| quoted(&word)).join(" ");
    let user = user.map(|user| format!("User={user}\n")).unwrap_or_default();
    let dir = quoted(&path(options.parent().unwrap_or(Path::new("/"))));
    format!(
        "[Unit]\n\
         Description=MySQL server of shard {shard}, recovered by Backstop\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         RequiresMountsFor={dir}\n\
         \n\
         [Service]\n\
         Type=exec\n\
         {user}\
         ExecStart={command}\n\
         Restart=on-failure\n\
         TimeoutStopSec=600\n\
         LimitNOFILE=65535\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Quotes a word of a command line for systemd.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    if !word.is_empty() && word.chars().all(plain) { escaped } else { format!("\"{escaped}\"") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::finding::Severity;

    use super::*;

    fn made(schedule: &str, writes: &[PathBuf]) -> Result<ScheduleUnits> {
        let (shard, schedule) = ("orders".parse().unwrap(), schedule.parse().unwrap());
        units(&ScheduledRun {
            shard: &shard,
            schedule: &schedule,
            program: Path::new("/usr/bin/backstop"),
            config: Path::new("/etc/my backup/b.toml"),
            options: &["--set".to_owned(), "mysql.server=my%sqld".to_owned()],
            writes,
        })
    }

    #[test]
    fn a_schedule_becomes_a_service_and_a_timer() {
        let units = made("cron(55 23 * * ? *)", &[]).unwrap();
        let command = "ExecStart=/usr/bin/backstop --config \"/etc/my backup/b.toml\" --set \"mysql.server=my%%sqld\" backup orders --kind scheduled\n";
        assert!(units.service.content.contains(command), "{}", units.service.content);
        assert!(units.service.content.contains("ProtectHome=read-only\nPrivateTmp=yes\n"));
        assert!(units.timer.content.contains("OnCalendar=*-*-* 23:55:00 UTC\n"), "{}", units.timer.content);
        assert!(
            units.timer.content.contains("Persistent=true\n")
                && units.timer.content.contains("RandomizedDelaySec=0\n")
        );
        assert_eq!(units.timer.path, Path::new("/etc/systemd/system/backstop-backup-orders.timer"));
        let refused = made("cron(0 1 30W * ? *)", &[]).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Usage);
    }

    #[test]
    fn unit_leaves_folders_it_writes_to_unprotected() {
        let units = made("rate(6 hours)", &["/home/backup/repo".into(), "/tmp/work".into()]).unwrap();
        assert!(units.service.content.contains("ProtectHome=no\nPrivateTmp=no\n"));
    }

    #[test]
    fn only_an_enabled_and_active_timer_is_active() {
        let shard = "orders".parse().unwrap();
        let judge = |enabled: &str, active: &str| judged(&shard, "t.timer", Ok(enabled), Ok(active));
        assert_eq!(judge("enabled", "active").severity, Severity::Ok);
        for (enabled, active) in
            [("disabled", "active"), ("enabled", "inactive"), ("", "inactive"), ("masked", "failed")]
        {
            assert_eq!(judge(enabled, active).code, "schedule-not-active", "{enabled} {active}");
        }
        let error = Error::failed("no answer");
        assert_eq!(judged(&shard, "t.timer", Err(&error), Ok("active")).code, "schedule-unknown");
    }
}
