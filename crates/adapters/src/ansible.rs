//! Configures a recovered server with an Ansible playbook.

#[cfg(test)]
mod frozen;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::context::RunContext;
use backstop_engine::ports::{Playbook, PlaybookInputs};
use backstop_model::credentials::Credentials;
use backstop_model::error::{Error, Result};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::command::last_lines;
use crate::subprocess::{Subprocess, write_private};

/// How long one run may take: a server may have a long crash recovery, and a long way to catch up.
const PLAYBOOK_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// A playbook, run by `ansible-playbook`.
///
/// It is given the inventory of the one host, and these variables: `backstop_shard` and others from the inventory;
/// `backstop_backup_id`, `backstop_gtid_executed` (the whole set), `backstop_server_version`, `backstop_recorded_settings`
/// and `backstop_options` (maps of texts), `backstop_server_id`, `backstop_primary_host`, `backstop_primary_port`; and from a file
/// that only its owner can read, and that is removed afterwards: `backstop_mysql_user`, `backstop_mysql_password`,
/// `backstop_replication_user`, `backstop_replication_password`.
pub struct Ansible {
    playbook: PathBuf,
    credentials: Credentials,
    ctx: RunContext,
}

impl Ansible {
    /// Runs this playbook, which logs in to MySQL with these credentials.
    pub fn new(playbook: PathBuf, credentials: Credentials, ctx: RunContext) -> Self {
        Self { playbook, credentials, ctx }
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

    /// A playbook that tells what it must not is not repeated.
    fn redacted(&self, text: &str) -> String {
        let replication = self.credentials.replication_account();
        let hidden = [self.credentials.password.expose_secret(), replication.password.expose_secret()];
        hidden
            .iter()
            .filter(|secret| !secret.is_empty())
            .fold(text.to_owned(), |text, secret| text.replace(*secret, "…"))
    }

    fn subprocess(&self, site: &PlaybookInputs, files: &PlaybookFiles) -> Subprocess<'_> {
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
            program: PathBuf::from("ansible-playbook"),
            args,
            environment: vec![
                ("ANSIBLE_NOCOLOR", "1".into()),
                ("ANSIBLE_FORCE_COLOR", "0".into()),
                ("ANSIBLE_NOCOWS", "1".into()),
                ("ANSIBLE_RETRY_FILES_ENABLED", "0".into()),
                ("PYTHONUNBUFFERED", "1".into()),
            ],
            // Its ansible.cfg and collections lie beside it.
            directory: folder.unwrap_or(&site.folder).to_owned(),
            log: site.folder.join("ansible.log"),
            lock: site.folder.join("ansible.running"),
            deadline: PLAYBOOK_TIMEOUT,
            ctx: &self.ctx,
        }
    }
}

#[async_trait]
impl Playbook for Ansible {
    async fn run(&self, site: &PlaybookInputs) -> Result<()> {
        let files = PlaybookFiles::in_folder(&site.folder);
        write_private(&files.inventory, &site.inventory)?;
        write_private(&files.variables, &yaml_literal(&variables(site)))?;
        write_private(&files.secrets, &yaml_literal(&self.secrets()))?;
        let _removed = RemoveOnDrop(&files.secrets);
        let mut failures = Vec::new();
        let ended = self.subprocess(site, &files).run(|line| {
            if let Some(task) = line.strip_prefix("TASK [").and_then(|rest| rest.split_once(']')) {
                self.ctx.reporter.remark(task.0);
            } else if ["fatal:", "failed:", "ERROR", "[ERROR]"].iter().any(|word| line.starts_with(word)) {
                failures.push(self.redacted(&failure_message(line)));
            }
        });
        let ended = ended.await?;
        if ended.status.success() {
            return Ok(());
        }
        let why = if failures.is_empty() {
            self.redacted(&last_lines(&ended.said, 8))
        } else {
            failures.join("; ")
        };
        let log = site.folder.join("ansible.log");
        Err(Error::failed(format!("configure the server with Ansible: {why}"))
            .hint(format!("all that Ansible said is in {}", log.display())))
    }
}

/// What a run of the playbook reads.
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

/// A file that is removed when this is dropped.
struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // The next run writes it anew and removes it then; its folder is its owner's alone.
        let _ = std::fs::remove_file(self.0);
    }
}

fn variables(site: &PlaybookInputs) -> Value {
    json!({
        "backstop_backup_id": site.backup_id,
        "backstop_gtid_executed": site.gtid_executed.to_string(),
        "backstop_server_version": site.server_version.to_string(),
        "backstop_recorded_settings": site.recorded,
        "backstop_options": site.options,
        "backstop_server_id": site.server_id,
        "backstop_primary_host": site.primary.host,
        "backstop_primary_port": site.primary.port,
    })
}

/// YAML in which no text is a template: a password may hold `{{`, and what a repository says is nothing to be carried out.
///
/// Ansible takes what is behind `!unsafe` for a plain scalar, however it is quoted: `!unsafe "ON"` is true and `!unsafe "1"`
/// a number. Only a text that may be a template is marked, and a text with a brace in it stays one.
fn yaml_literal(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('{') => format!("!unsafe {value}"),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), yaml_literal(value))
            };
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// `fatal: [host]: FAILED! => {"msg": "…"}` in the words of its `msg`.
fn failure_message(line: &str) -> String {
    let told = line.split_once("=> ").and_then(|(_, object)| serde_json::from_str::<Value>(object).ok());
    let msg = told.as_ref().and_then(|told| told["msg"].as_str());
    msg.map_or_else(|| line.to_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_no_templates() {
        let value = json!({"deep": {"on": "1"}, "mode": "ON", "password": "a\"{{ b }}", "port": 3306});
        assert_eq!(
            yaml_literal(&value),
            r#"{"deep": {"on": "1"}, "mode": "ON", "password": !unsafe "a\"{{ b }}", "port": 3306}"#
        );
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
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
