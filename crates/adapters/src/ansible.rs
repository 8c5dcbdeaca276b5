//! Configures a recovered server with an Ansible playbook.

#[cfg(test)]
mod frozen;
#[cfg(test)]
mod rerun;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use backstop_config::credentials::Credentials;
use backstop_engine::context::RunContext;
use backstop_engine::ports::{Playbook, PlaybookInputs};
use backstop_types::error::{Error, Result, ResultExt};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::command::last_lines;
use crate::subprocess::{Subprocess, write_private};

/// Limit for all runs of the playbook, which may wait for a long crash recovery and for the server
/// to catch up.
const PLAYBOOK_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// Number of runs of the playbook if Ansible loses the instance.
const MAX_RUNS: u32 = 3;
/// File of the recovery's folder that the playbook writes what the instance reported to.
const REPORT_FILE: &str = "report.json";
/// Pause before the playbook is run again: time for the instance to boot.
const PAUSE: Duration = Duration::from_secs(60);
/// Exit status of Ansible if a host was unreachable, and also for a playbook that it cannot parse.
const UNREACHABLE_STATUS: i32 = 4;

/// A playbook, run by `ansible-playbook`.
///
/// The playbook receives the inventory of the one host, and these variables: `backstop_shard` and
/// others from the inventory; `backstop_backup_id`, `backstop_gtid_executed` (the whole set),
/// `backstop_server_version`, `backstop_recorded_settings` and `backstop_options` (maps of
/// strings), `backstop_server_id`, `backstop_primary_host`, `backstop_primary_port`; and from a
/// file that only its owner can read, and that is removed afterwards: `backstop_mysql_user`,
/// `backstop_mysql_password`, `backstop_replication_user`, `backstop_replication_password`.
pub struct Ansible {
    program: PathBuf,
    playbook: PathBuf,
    credentials: Credentials,
    pause: Duration,
    ctx: RunContext,
}

/// Result of one run of the playbook.
enum RunEnd {
    Done,
    /// The instance could not be reached, for this reason.
    Unreachable(String),
    Failed(String),
}

impl Ansible {
    /// Creates an adapter that runs this playbook, which logs in to MySQL with these credentials.
    pub fn new(playbook: PathBuf, credentials: Credentials, ctx: RunContext) -> Self {
        Self { program: "ansible-playbook".into(), playbook, credentials, pause: PAUSE, ctx }
    }

    fn secrets(&self) -> Value {
        let replication = self.credentials.replication_account();
        json!({
            "backstop_mysql_user": self.credentials.user,
            "backstop_mysql_password": self.credentials.password.expose_secret(),
            "backstop_replication_user": replication.user,
            "backstop_replication_password": replication.password.expose_secret(),
        })
    }

    /// Removes secrets from output of the playbook before it is reported.
    fn redacted(&self, text: &str) -> String {
        let replication = self.credentials.replication_account();
        let hidden = [self.credentials.password.expose_secret(), replication.password.expose_secret()];
        hidden
            .iter()
            .filter(|secret| !secret.is_empty())
            .fold(text.to_owned(), |text, secret| text.replace(*secret, "…"))
    }

    fn subprocess(&self, site: &PlaybookInputs, files: &PlaybookFiles, deadline: Duration) -> Subprocess<'_> {
        let folder = self.playbook.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut args: Vec<OsString> = vec!["-i".into(), files.inventory.clone().into()];
        for file in [&files.variables, &files.secrets] {
            let mut argument = OsString::from("@");
            argument.push(file);
            args.extend(["-e".into(), argument]);
        }
        args.push(self.playbook.clone().into());
        Subprocess {
            doing: "configure the server with Ansible".to_owned(),
            program: self.program.clone(),
            args,
            environment: vec![
                ("ANSIBLE_NOCOLOR", "1".into()),
                ("ANSIBLE_FORCE_COLOR", "0".into()),
                ("ANSIBLE_NOCOWS", "1".into()),
                ("ANSIBLE_RETRY_FILES_ENABLED", "0".into()),
                ("PYTHONUNBUFFERED", "1".into()),
            ],
            // The playbook's ansible.cfg and collections are in its folder.
            directory: folder.unwrap_or(&site.folder).to_owned(),
            log: site.folder.join("ansible.log"),
            lock: site.folder.join("ansible.running"),
            deadline,
            ctx: &self.ctx,
        }
    }
}

impl Ansible {
    /// Runs the playbook once, and reports its tasks and its progress.
    async fn run_once(&self, subprocess: Subprocess<'_>) -> Result<RunEnd> {
        let mut failures: Vec<String> = Vec::new();
        let mut unreachable = false;
        let ended = subprocess.run(|line| {
            if let Some(task) = line.strip_prefix("TASK [").and_then(|rest| rest.split_once(']')) {
                self.ctx.reporter.remark(task.0);
            } else if let Some(progress) = line.strip_prefix("PROGRESS: ") {
                self.ctx.reporter.remark(&self.redacted(progress));
            } else if ["fatal:", "failed:", "ERROR", "[ERROR]"].iter().any(|word| line.starts_with(word)) {
                unreachable |= line.contains("]: UNREACHABLE!");
                let why = self.redacted(&failure_message(line));
                // Ansible names a failure in the task's line and again as an error.
                if !failures.iter().any(|told| told.contains(&why)) {
                    failures.push(why);
                }
            }
        });
        let ended = ended.await?;
        if ended.status.success() {
            return Ok(RunEnd::Done);
        }
        let why = if failures.is_empty() {
            self.redacted(&last_lines(&ended.said, 8))
        } else {
            failures.join("; ")
        };
        let is_retried = unreachable && ended.status.code() == Some(UNREACHABLE_STATUS);
        Ok(if is_retried { RunEnd::Unreachable(why) } else { RunEnd::Failed(why) })
    }
}

#[async_trait]
impl Playbook for Ansible {
    async fn run(&self, site: &PlaybookInputs) -> Result<Option<String>> {
        let report = site.on_host.as_ref().map(|_| site.folder.join(REPORT_FILE));
        if let Some(report) = &report {
            remove_old(report)?;
        }
        let files = PlaybookFiles::in_folder(&site.folder);
        write_private(&files.inventory, &site.inventory)?;
        write_private(&files.variables, &yaml_literal(&variables(site)))?;
        write_private(&files.secrets, &yaml_literal(&self.secrets()))?;
        let _removed = RemoveOnDrop(&files.secrets);
        let failed = |why: String| {
            let log = site.folder.join("ansible.log");
            Error::failed(format!("cannot configure the server with Ansible: {why}"))
                .hint(format!("see Ansible's output in {}", log.display()))
        };
        let clock = &self.ctx.host.clock;
        let deadline = clock.monotonic() + PLAYBOOK_TIMEOUT;
        let mut run = 1;
        loop {
            let remaining = deadline.saturating_sub(clock.monotonic());
            let why = match self.run_once(self.subprocess(site, &files, remaining)).await? {
                RunEnd::Done => return report.as_deref().map(read_report).transpose(),
                RunEnd::Failed(why) => return Err(failed(why)),
                RunEnd::Unreachable(why) => why,
            };
            if run == MAX_RUNS || clock.monotonic() + self.pause >= deadline {
                return Err(failed(format!("{why} (after {run} runs of the playbook)")));
            }
            run += 1;
            self.ctx.reporter.notice(&format!(
                "Ansible lost the instance: {why}; running the playbook again in {:?} (run {run} of {MAX_RUNS})",
                self.pause
            ));
            let paused = async {
                clock.sleep(self.pause).await;
                Ok(())
            };
            self.ctx.unless_stopped(paused).await?;
        }
    }
}

/// Removes the report of an earlier run.
fn remove_old(report: &Path) -> Result<()> {
    match std::fs::remove_file(report) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).failed(format!("cannot remove {}", report.display()))
        }
        _ => Ok(()),
    }
}

fn read_report(report: &Path) -> Result<String> {
    std::fs::read_to_string(report)
        .failed(format!("cannot read the report of the recovery on the instance, {}", report.display()))
}

/// Files that one run of the playbook reads.
struct PlaybookFiles {
    inventory: PathBuf,
    variables: PathBuf,
    secrets: PathBuf,
}

impl PlaybookFiles {
    fn in_folder(folder: &Path) -> Self {
        Self {
            inventory: folder.join("inventory.yml"),
            variables: folder.join("variables.yml"),
            secrets: folder.join("secrets.yml"),
        }
    }
}

/// File that is removed when the value is dropped.
struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // If the removal fails, the next run overwrites and removes the file. Only its owner can
        // enter the folder.
        let _ = std::fs::remove_file(self.0);
    }
}

fn variables(site: &PlaybookInputs) -> Value {
    let common = json!({
        "backstop_backup_id": site.backup_id,
        "backstop_gtid_executed": site.gtid_executed.to_string(),
        "backstop_server_version": site.server_version.to_string(),
        "backstop_recorded_settings": site.recorded,
        "backstop_options": site.options,
        "backstop_server_id": site.server_id,
    });
    let primary = site
        .primary
        .as_ref()
        .map(|primary| json!({"backstop_primary_host": primary.host, "backstop_primary_port": primary.port}));
    let on_host = site.on_host.as_ref().map(|on_host| {
        json!({
            "backstop_recover": on_host.arguments,
            "backstop_configuration": on_host.configuration,
            "backstop_report": site.folder.join(REPORT_FILE),
        })
    });
    let parts = [Some(common), primary, on_host].into_iter().flatten();
    Value::Object(parts.filter_map(|part| part.as_object().cloned()).flatten().collect())
}

/// Writes YAML in which no string is a template: a password may contain `{{`, and text from a
/// repository must not be executed.
///
/// Ansible takes the value after `!unsafe` for a plain scalar, however it is quoted: `!unsafe "ON"`
/// is true and `!unsafe "1"` is a number. Only a string that may be a template is marked, and a
/// string that contains a brace stays a string.
fn yaml_literal(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('{') => format!("!unsafe {value}"),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), yaml_literal(value))
            };
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(yaml_literal).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Returns the `msg` of a line `fatal: [host]: FAILED! => {"msg": "…"}`.
fn failure_message(line: &str) -> String {
    let told = line.split_once("=> ").and_then(|(_, object)| serde_json::from_str::<Value>(object).ok());
    let msg = told.as_ref().and_then(|told| told["msg"].as_str());
    msg.map_or_else(|| line.to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_not_expanded_as_templates() {
        let value = json!({"deep": {"on": "1"}, "mode": "ON", "password": "a\"{{ b }}", "port": 3306});
        assert_eq!(
            yaml_literal(&value),
            r#"{"deep": {"on": "1"}, "mode": "ON", "password": !unsafe "a\"{{ b }}", "port": 3306}"#
        );
    }

    #[test]
    fn failed_task_is_reported_with_ansibles_message() {
        assert_eq!(
            failure_message(r#"fatal: [db]: FAILED! => {"changed": false, "msg": "no such volume"}"#),
            "no such volume"
        );
        assert_eq!(
            failure_message("ERROR! the playbook could not be found"),
            "ERROR! the playbook could not be found"
        );
    }
}
