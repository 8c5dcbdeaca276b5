//! Replaces the sample values of the pages by a shard's own values.

use backstop_engine::shell_quote;
use backstop_types::ids::Endpoint;

/// Members on the pages: the primary, the candidate, and a replica that represents every further
/// one.
const MEMBERS: [&str; 3] = ["db1", "db2", "db3"];

/// Sections with this in their heading are for a shard with semi-sync.
const SEMI_SYNC_ONLY: &str = "Only with `semi_sync = true`";

/// Replacements for the pages' samples. A sample without a value stays unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunbookValues {
    /// Pairs of sample and value.
    pairs: Vec<(String, String)>,
    /// The shard's members in the order of the pages, if they are known.
    members: Option<Vec<Endpoint>>,
    /// The shard is known to be without semi-sync.
    without_semi_sync: bool,
}

impl RunbookValues {
    /// Replaces `sample` by `value`, where the sample is a whole word.
    pub fn put(&mut self, sample: &str, value: &str) {
        self.pairs.retain(|(known, _)| known != sample);
        self.pairs.push((sample.to_owned(), value.to_owned()));
    }

    /// Replaces a host of the pages (`db1`) by a server, in every form in which a host and its port
    /// occur there.
    pub fn server(&mut self, sample: &str, server: &Endpoint) {
        let (host, port) = (shell_quote::shell_quote(&server.host), server.port);
        self.put(&format!("{sample}:3306"), &server.to_string());
        self.put(&format!("--host={sample} --port=3306"), &format!("--host={host} --port={port}"));
        let sql = |host: &str, port: u16| format!("SOURCE_HOST='{host}', SOURCE_PORT={port}");
        self.put(&sql(sample, 3306), &sql(&server.host, port));
        self.put(sample, &server.host);
    }

    /// Replaces a sample by a value that is quoted as one word of a shell.
    pub fn word(&mut self, sample: &str, value: &str) {
        self.put(sample, &shell_quote::shell_quote(value));
    }

    /// Replaces the members of the pages by the shard's, given in the same order. The commands for
    /// `db3` are repeated for each further replica; those for a server that the shard does not have
    /// become comments.
    pub fn members(&mut self, ordered: Vec<Endpoint>) {
        for (sample, member) in MEMBERS.iter().zip(&ordered) {
            self.server(sample, member);
        }
        let further: String = ordered.iter().skip(2).map(|member| format!(", \"{member}\"")).collect();
        self.put(&list_item("db3"), &further);
        for absent in MEMBERS.iter().skip(ordered.len()) {
            self.put(&list_item(absent), "");
            self.put(&candidate(absent), "");
        }
        self.members = Some(ordered);
    }

    /// Turns the commands that are for semi-sync alone into comments.
    pub fn without_semi_sync(&mut self) {
        self.without_semi_sync = true;
    }

    /// Returns true if no command keeps this sample.
    pub fn knows(&self, sample: &str) -> bool {
        let member = self.members.is_some() && MEMBERS.contains(&sample);
        member || self.pairs.iter().any(|(known, _)| known == sample)
    }

    /// Returns a page with the values filled in.
    pub fn fill(&self, text: &str) -> String {
        let (mut filled, mut heading, mut commands) = (String::with_capacity(text.len()), "", false);
        let mut lines = text.split_inclusive('\n');
        while let Some(line) = lines.next() {
            if line.starts_with("```") {
                commands = line.trim_end() == "```sh";
            } else if commands {
                filled.push_str(&self.command(&whole_command(line, &mut lines), heading));
                continue;
            } else if let Some(title) = line.strip_prefix("## ") {
                heading = title;
            }
            filled.push_str(&self.words(line));
        }
        filled
    }

    /// Returns a command with the values filled in.
    fn command(&self, command: &str, heading: &str) -> String {
        if self.without_semi_sync && heading.contains(SEMI_SYNC_ONLY) {
            return left_out(&self.words(command), "the shard does not use semi-sync");
        }
        let Some(members) = &self.members else { return self.words(command) };
        if command.contains("--host=db3 ") && members.len() > MEMBERS.len() {
            let for_each = members.iter().skip(2).map(|member| {
                let mut values = self.clone();
                values.server("db3", member);
                values.words(command)
            });
            return for_each.collect();
        }
        match MEMBERS.iter().skip(members.len()).find(|absent| names(command, absent)) {
            Some(&"db3") => left_out(&self.words(command), "the shard has no further replica"),
            Some(_) => left_out(&self.words(command), "the shard has no replica"),
            None => self.words(command),
        }
    }

    /// Returns a text with the values filled in.
    fn words(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = None;
        while let Some(next) = rest.chars().next() {
            let inside = before.is_some_and(is_of_a_word) && is_of_a_word(next);
            match self.pair_at(rest).filter(|_| !inside) {
                Some((sample, value)) => {
                    filled.push_str(value);
                    rest = &rest[sample.len()..];
                    before = sample.chars().last();
                }
                None => {
                    filled.push(next);
                    rest = &rest[next.len_utf8()..];
                    before = Some(next);
                }
            }
        }
        filled
    }

    /// Returns the longest sample at the beginning of this text.
    fn pair_at(&self, text: &str) -> Option<&(String, String)> {
        let stands = |sample: &str| {
            text.strip_prefix(sample).is_some_and(|rest| !rest.chars().next().is_some_and(is_of_a_word))
        };
        let standing = self.pairs.iter().filter(|(sample, _)| stands(sample));
        standing.max_by_key(|(sample, _)| sample.len())
    }
}

/// Returns a line with its here-document, if it begins one.
fn whole_command<'a>(line: &'a str, following: &mut impl Iterator<Item = &'a str>) -> String {
    let mut command = line.to_owned();
    if line.contains("<<'END'") {
        for line in following {
            command.push_str(line);
            if line.trim_end() == "END" {
                break;
            }
        }
    }
    command
}

/// Returns a member as written in a list after another member.
fn list_item(sample: &str) -> String {
    format!(", \"{sample}:3306\"")
}

/// Returns a member as written for the candidate of a configuration.
fn candidate(sample: &str) -> String {
    format!(", candidate = \"{sample}:3306\"")
}

/// Returns true if a command names this member elsewhere than in a list, from which it can be left
/// out.
fn names(command: &str, sample: &str) -> bool {
    stands(&command.replace(&list_item(sample), "").replace(&candidate(sample), ""), sample)
}

/// Returns true if a text contains this sample as a whole word.
pub fn stands(text: &str, sample: &str) -> bool {
    text.match_indices(sample).any(|(at, _)| {
        let (before, behind) = (text[..at].chars().last(), text[at + sample.len()..].chars().next());
        let joined = |neighbour: Option<char>, own: Option<char>| {
            neighbour.is_some_and(is_of_a_word) && own.is_some_and(is_of_a_word)
        };
        !joined(before, sample.chars().next()) && !joined(behind, sample.chars().last())
    })
}

/// Returns a command as comments, with the reason above it.
fn left_out(command: &str, reason: &str) -> String {
    let lines = command.lines().map(|line| format!("# {line}\n"));
    std::iter::once(format!("# Left out: {reason}.\n")).chain(lines).collect()
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_replace_whole_samples_only() {
        let mut values = RunbookValues::default();
        values.put("orders", "billing");
        values.word("/srv/copy", "/data/my copy");
        values.put(" --port 1", "");
        values.server("db1", &"10.0.0.1:3307".parse().unwrap());
        let page = "backstop find orders reorders orders_2 (orders)\nmysql --host=db1 --port=3306 db1:3306 db12\n\
                    SOURCE_HOST='db1', SOURCE_PORT=3306 rm -rf /srv/copy --port 1 --port 12";
        let filled = "backstop find billing reorders orders_2 (billing)\nmysql --host=10.0.0.1 --port=3307 10.0.0.1:3307 db12\n\
                      SOURCE_HOST='10.0.0.1', SOURCE_PORT=3307 rm -rf '/data/my copy' --port 12";
        assert_eq!(values.fill(page), filled);
        assert_eq!(RunbookValues::default().fill(page), page);
    }

    /// Returns the page of this name for members `m1:1`, `m2:1` and so on.
    fn filled(name: &str, members: usize) -> String {
        let mut values = RunbookValues::default();
        let member = |number| Endpoint::new(format!("m{number}").as_str(), 1);
        values.members((1..=members).map(member).collect());
        values.fill(crate::runbooks::find(name).unwrap().text)
    }

    /// Returns the lines that repoint a replica.
    fn repointed(page: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = page.lines().collect();
        lines.retain(|line| line.contains("SOURCE_HOST="));
        lines
    }

    #[test]
    fn commands_for_another_replica_are_repeated_for_each() {
        for (count, members) in [
            (2, r#"members = ["m2:1"] }"#),
            (3, r#"members = ["m2:1", "m3:1"], candidate = "m3:1" }"#),
            (4, r#"members = ["m2:1", "m3:1", "m4:1"], candidate = "m3:1" }"#),
            (5, r#"members = ["m2:1", "m3:1", "m4:1", "m5:1"], candidate = "m3:1" }"#),
        ] {
            let page = filled("primary-dead", count);
            let line = page.lines().find(|line| line.starts_with("sed ")).unwrap();
            assert!(line.contains(members), "{count}: {line}");
            let done: Vec<_> = repointed(&page).into_iter().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(done.len(), count - 2, "{done:?}");
            for (at, line) in done.iter().enumerate() {
                assert!(line.contains(&format!("--host=m{} --port=1", at + 3)), "{line}");
                assert!(line.contains("SOURCE_HOST='m2', SOURCE_PORT=1"), "{line}");
            }
        }
        let page = filled("rotate-passwords", 4);
        assert_eq!(page.matches("CHANGE REPLICATION SOURCE").count(), 3);
        assert!(page.contains("mysql --host=m4 --port=1 <<'END'\nSTOP REPLICA;"), "{page}");
    }

    #[test]
    fn commands_for_missing_servers_become_comments() {
        let page = filled("rotate-passwords", 2);
        assert!(page.contains("# Left out: the shard has no further replica.\n# mysql --host=db3"), "{page}");
        assert_eq!(page.lines().filter(|line| line.starts_with("STOP REPLICA")).count(), 1);
        let page = filled("primary-dead", 1);
        assert!(!page.lines().any(|line| line.starts_with("mysql ") || line.starts_with("sed ")), "{page}");
        let page = filled("config-lost", 1);
        assert!(page.contains("topology = { members = [\"m1:1\"] }\n"), "{page}");
        let page = filled("config-lost", 2);
        assert!(page.contains("{ members = [\"m1:1\", \"m2:1\"], candidate = \"m2:1\" }"), "{page}");
    }

    #[test]
    fn semi_sync_commands_are_left_out_without_semi_sync() {
        let page = crate::runbooks::find("primary-dead").unwrap().text;
        assert!(page.contains("\nmysql --host=db2 --port=3306 --execute=\"INSTALL PLUGIN"));
        let mut values = RunbookValues::default();
        values.without_semi_sync();
        let filled = values.fill(page);
        assert!(
            filled.contains("# Left out: the shard does not use semi-sync.\n# mysql --host=db2"),
            "{filled}"
        );
    }

    #[test]
    fn filled_in_value_is_not_replaced_again() {
        let mut values = RunbookValues::default();
        values.put("orders", "db1");
        values.put("db1", "orders");
        assert_eq!(values.fill("orders db1"), "db1 orders");
        values.word("x", "$(reboot)'");
        assert_eq!(values.fill("x"), "'$(reboot)'\\'''");
    }
}
