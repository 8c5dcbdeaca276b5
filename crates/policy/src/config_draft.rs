//! First configuration for an existing shard: complete, commented, and meant to be edited.

use std::path::Path;

use backstop_types::freeze::OnPrimary;
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::topology::{Locking, Member, Role, SourceRules};

use crate::topology::{choose_source, current_primary};

/// Input of a first configuration.
pub struct ConfigDraft<'a> {
    /// The shard's name.
    pub shard: &'a ShardName,
    /// The repository for its backups.
    pub repository: &'a str,
    /// The file of its credentials.
    pub credentials: &'a Path,
    /// The servers found.
    pub members: &'a [Member],
    /// Facts that could not be determined, in sentences.
    pub unknown: &'a [String],
}

impl ConfigDraft<'_> {
    /// Returns the members: the primary first, the others by name.
    pub fn order(&self) -> Vec<&Endpoint> {
        let primary = current_primary(self.members).ok().map(|(endpoint, _)| endpoint);
        let mut rest: Vec<&Endpoint> = self.members.iter().map(|member| &member.endpoint).collect();
        rest.sort_by_key(|endpoint| (Some(*endpoint) != primary, *endpoint));
        rest
    }

    /// Returns the replica that a backup would use now. `None`: no replica is fit.
    pub fn candidate(&self) -> Option<Endpoint> {
        let rules = SourceRules::default();
        let choice = choose_source(self.members, &rules, OnPrimary::Lock, Locking::Never).ok()?;
        (choice.role != Role::Primary).then_some(choice.endpoint)
    }

    /// Returns the text of the file.
    pub fn text(&self) -> String {
        let members = self.order().into_iter().map(|member| toml_string(&member.to_string()));
        let members = members.collect::<Vec<_>>().join(", ");
        let candidate = match self.candidate() {
            Some(candidate) => format!(", candidate = {}", toml_string(&candidate.to_string())),
            None => String::new(),
        };
        let no_candidate = match candidate.is_empty() {
            true => {
                "# No replica can be backed up now: `backstop check` says why. Without a replica the primary is backed up.\n"
            }
            false => "",
        };
        let unknown: String =
            self.unknown.iter().map(|text| format!("# Unknown: {}\n", one_line(text))).collect();
        format!(
            "{FILE_HEADER}
[repository]
# A directory (file:///absolute/path) or a bucket (s3://bucket/prefix).
url = {repository}
# Encrypts everything that is stored. A lost key is a lost repository: keep a copy elsewhere.
#   (umask 077 && openssl rand -hex 32 > /etc/backstop/repository.key)
# encryption_key = {{ file = \"/etc/backstop/repository.key\" }}
# `backstop init` prints the id; with it, Backstop accepts no other repository at this address.
# id = \"…\"

[shards.{shard}]
# TOML with user and password, mode 0600.
credentials = {{ file = {credentials} }}
# The primary first; the candidate is backed up, and becomes the primary at a failover.
{no_candidate}{unknown}topology = {{ members = [{members}]{candidate} }}
# When backups are due, in UTC. `backstop schedule {shard} --systemd` prints the timer.
schedule = \"cron(55 23 * * ? *)\"
# The backups that `backstop prune --apply` keeps.
retention = {{ keep_all = \"2d\", daily = 14, weekly = 8, monthly = 12 }}
# Any moment can be recovered once an archiver runs: `backstop archive {shard} --systemd` prints its service.
# archive = {{ from = \"primary\" }}
",
            repository = toml_string(self.repository),
            shard = self.shard,
            credentials = toml_string(&self.credentials.to_string_lossy()),
        )
    }
}

const FILE_HEADER: &str = "\
# Written by `backstop init --from`. Every key is explained in docs/commands.md; `backstop check` says what is wrong.
";

/// Returns the text as a TOML string.
fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Replaces line breaks: a server's message may contain any, and a comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_config::settings;
    use backstop_config::settings::TopologySettings;

    use super::*;

    fn draft(unknown: &[String]) -> String {
        let shard = "orders".parse().unwrap();
        let credentials = Path::new("/etc/it's \"here\".toml");
        ConfigDraft { shard: &shard, repository: "s3://bucket/prefix", credentials, members: &[], unknown }
            .text()
    }

    #[test]
    fn draft_is_a_valid_configuration() {
        let unknown = ["the replicas are not known:\n[repository]\rurl = \"file:///x\"".to_owned()];
        let text = draft(&unknown);
        // Without members the configuration is incomplete; this is its only error.
        let errors = settings::parse(&text, "draft").unwrap_err();
        assert!(errors.to_string().contains("members"), "{errors}");
        let text = text.replace("members = []", "members = [\"db1:3306\", \"[::1]:3307\"]");
        let settings = settings::parse(&text, "draft").unwrap();
        let shard = &settings.shards[&"orders".parse().unwrap()];
        let members = ["db1:3306", "[::1]:3307"].map(|member| member.parse().unwrap()).to_vec();
        assert_eq!(shard.topology, TopologySettings::Members { members, candidate: None });
        assert!(text.contains("No replica can be backed up"), "{text}");
        assert!(shard.schedule.is_some() && shard.retention.is_some());
    }
}
