//! Which of the donor's settings a recovered server keeps.
//!
//! It is another server on another host: it keeps how it behaves and how its files are made, and drops who the
//! donor was, where it lay, what it replicated and what could act before an operator has looked. What was recorded is data of
//! the repository: only names that [`table`] knows become options, with values of their kinds.

mod kind;
mod table;

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::server::RecordedSettings;

pub use kind::Kind;
pub use table::{Rule, rule_of, rules};

/// The settings of a recovered server, and what was left out of the donor's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredSettings {
    /// Names and values for the option file. A name begins with `loose_`, so that a server that does not know it starts all the
    /// same, unless the data files depend on it.
    pub options: BTreeMap<String, String>,
    /// What is not carried, in the order of the names.
    pub left_out: Vec<LeftOut>,
}

/// A setting that is not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name, escaped and cut.
    pub name: String,
    /// Why, in words.
    pub reason: String,
    /// True if an operator may miss it.
    pub is_told: bool,
}

/// Decides which recorded settings a recovered server keeps.
pub fn recovered_settings(recorded: &RecordedSettings) -> RecoveredSettings {
    let mut settings = RecoveredSettings::default();
    for (name, value) in recorded {
        match rule_of(name) {
            Some(rule) => settings.follow(rule, name, value, recorded),
            None => settings.tell(name, "no server that is known has it"),
        }
    }
    settings
}

impl RecoveredSettings {
    /// What an operator may miss; `None` if that is nothing.
    pub fn finding(&self) -> Option<Finding> {
        let told = self.left_out.iter().filter(|left_out| left_out.is_told);
        let told: Vec<_> = told.map(|left_out| format!("{}: {}", left_out.name, left_out.reason)).collect();
        if told.is_empty() {
            return None;
        }
        Some(Finding::warning(
            "settings-not-carried",
            format!("settings of the server that was backed up are not carried: {}", told.join("; ")),
            "set what this server needs of them (docs/recovered-settings.md)",
        ))
    }

    fn follow(&mut self, rule: Rule, name: &str, value: &str, recorded: &RecordedSettings) {
        match rule {
            Rule::Format(kind) => self.carry(name, name.to_owned(), kind, value),
            Rule::Carried(kind) => self.carry(name, format!("loose_{name}"), kind, value),
            Rule::As(option, kind) => self.carry(name, format!("loose_{option}"), kind, value),
            Rule::Recreated => self.binary_logs(name, value, recorded),
            Rule::Secure if is_on(value) && has_certificates(recorded) => {
                self.tell(name, "the certificates that clients trust are not carried");
            }
            Rule::Secure => self.carry(name, format!("loose_{name}"), Kind::Switch, value),
            Rule::Statement(built_in) if value == built_in => {}
            Rule::Statement(_) if Kind::Word.fits(value) => {
                self.tell(name, format!("it is no option: `SET PERSIST {name} = {value}`"));
            }
            Rule::Statement(_) => self.misfit(name),
            Rule::Derived => {}
            Rule::Told(_) if value.is_empty() => {}
            Rule::Told(reason) => self.tell(name, reason),
            Rule::Decided(reason) => self.leave_out(name, reason.to_owned(), false),
        }
    }

    fn carry(&mut self, name: &str, option: String, kind: Kind, value: &str) {
        if kind.fits(value) {
            self.options.insert(option, value.to_owned());
        } else {
            self.misfit(name);
        }
    }

    fn misfit(&mut self, name: &str) {
        self.tell(name, "the recorded value is none that it can have");
    }

    fn tell(&mut self, name: &str, reason: impl Into<String>) {
        self.leave_out(name, reason.into(), true);
    }

    fn leave_out(&mut self, name: &str, reason: String, is_told: bool) {
        let name = name.escape_debug().take(LONGEST_NAME).collect();
        self.left_out.push(LeftOut { name, reason, is_told });
    }

    /// The donor's binary logs are found again under their base name, in the data directory. A donor that wrote none has a copy
    /// that writes none.
    fn binary_logs(&mut self, name: &str, value: &str, recorded: &RecordedSettings) {
        let writes = recorded.get("log_bin").is_some_and(|value| is_on(value));
        match name {
            "log_bin" if !writes => {
                self.options.insert("skip_log_bin".to_owned(), "1".to_owned());
            }
            "log_bin" => {
                let base = recorded.get("log_bin_basename").map_or("binlog", |path| file_name(path));
                let base = if Kind::File.fits(base) { base } else { "binlog" };
                self.options.insert("log_bin".to_owned(), base.to_owned());
            }
            _ if !writes => {}
            "log_bin_index" => {
                let base = recorded.get("log_bin_basename").map_or("binlog", |path| file_name(path));
                let index = file_name(value);
                if index != format!("{base}.index") {
                    self.carry(name, name.to_owned(), Kind::File, index);
                }
            }
            _ if !Kind::File.fits(file_name(value)) => self.misfit(name),
            _ => {}
        }
    }
}

/// The longest name of a variable.
const LONGEST_NAME: usize = 64;

fn is_on(value: &str) -> bool {
    value == "ON" || value == "1"
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// True if somebody gave the donor certificates; else it had made its own, as the recovered server does.
fn has_certificates(recorded: &RecordedSettings) -> bool {
    ["ssl_ca", "ssl_capath", "ssl_cert", "ssl_key"]
        .iter()
        .any(|name| recorded.get(*name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn recorded(pairs: &[(&str, &str)]) -> RecordedSettings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn told(pairs: &[(&str, &str)]) -> String {
        recovered_settings(&recorded(pairs)).finding().map(|finding| finding.what).unwrap_or_default()
    }

    #[test]
    fn keeps_behaviour_and_format_drops_identity_and_places() {
        let settings = recovered_settings(&recorded(&[
            ("innodb_page_size", "8192"),
            ("sql_mode", "ANSI"),
            ("time_zone", "+02:00"),
            ("max_connections", "300"),
            ("server_id", "7"),
            ("port", "3306"),
            ("tmpdir", "/mnt/tmp"),
            ("ssl_ca", "/etc/mysql/ca.pem"),
            ("event_scheduler", "ON"),
            ("foreign_key_checks", "ON"),
            ("character_set_client", "latin1"),
            ("innodb_force_recovery", "1"),
            ("sql_safe_updates", "ON"),
            ("init_file", ""),
        ]));
        let options: Vec<_> =
            settings.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let kept = [
            "innodb_page_size=8192",
            "loose_default_time_zone=+02:00",
            "loose_max_connections=300",
            "loose_sql_mode=ANSI",
        ];
        assert_eq!(options, kept);
        let is_told = |told| {
            settings
                .left_out
                .iter()
                .filter(|l| l.is_told == told)
                .map(|l| l.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(is_told(true), ["innodb_force_recovery", "sql_safe_updates", "ssl_ca"]);
        assert_eq!(is_told(false), ["event_scheduler", "port", "server_id", "tmpdir"]);
        assert!(settings.finding().unwrap().what.contains("`SET PERSIST sql_safe_updates = ON`"));
    }

    #[test]
    fn names_of_no_variable_and_misfits_are_told() {
        for name in [
            "plugin-dir",
            "loose_plugin_dir",
            "Plugin_dir",
            "maximum_x",
            "a b",
            "x\n[mysqld]",
            "",
            "max_connections ",
        ] {
            let settings = recovered_settings(&recorded(&[(name, "1")]));
            assert!(settings.options.is_empty() && settings.left_out[0].is_told, "{name:?}");
        }
        assert!(told(&[("x\n[mysqld]", "")]).contains("x\\n[mysqld]: no server"));
        for (name, value) in
            [("max_connections", "1\nplugin_load=x"), ("sql_mode", "ANSI\""), ("innodb_page_size", "")]
        {
            let settings = recovered_settings(&recorded(&[(name, value)]));
            assert!(settings.options.is_empty(), "{name}");
            assert!(told(&[(name, value)]).contains("none that it can have"), "{name}");
        }
        assert_eq!(
            recovered_settings(&recorded(&[("init_connect", "a\nb=\"")])).options["loose_init_connect"],
            "a\nb=\""
        );
        let long = "x".repeat(500);
        assert_eq!(recovered_settings(&recorded(&[(&long, "1")])).left_out[0].name.len(), LONGEST_NAME);
    }

    #[test]
    fn certificates_of_the_donor_are_not_required_without_them() {
        let of = |pairs: &[(&str, &str)]| recovered_settings(&recorded(pairs));
        let own = of(&[("require_secure_transport", "ON"), ("ssl_cert", "/c.pem")]);
        assert!(own.options.is_empty() && own.left_out.len() == 2);
        assert_eq!(of(&[("require_secure_transport", "ON")]).options["loose_require_secure_transport"], "ON");
    }

    #[test]
    fn binary_logs_keep_their_base_name() {
        let kept = |pairs: &[(&str, &str)]| recovered_settings(&recorded(pairs)).options;
        assert_eq!(kept(&[("log_bin", "OFF"), ("log_bin_index", "x")]), recorded(&[("skip_log_bin", "1")]));
        assert_eq!(kept(&[("log_bin", "ON")]), recorded(&[("log_bin", "binlog")]));
        let elsewhere = [
            ("log_bin", "ON"),
            ("log_bin_basename", "/logs/mysql-bin"),
            ("log_bin_index", "/logs/mysql-bin.index"),
        ];
        assert_eq!(kept(&elsewhere), recorded(&[("log_bin", "mysql-bin")]));
        let odd = [("log_bin", "1"), ("log_bin_basename", "/d/b"), ("log_bin_index", "/d/list.txt")];
        assert_eq!(kept(&odd), recorded(&[("log_bin", "b"), ("log_bin_index", "list.txt")]));
        let hostile = [("log_bin", "1"), ("log_bin_basename", "a\nb"), ("log_bin_index", "/..")];
        assert_eq!(kept(&hostile), recorded(&[("log_bin", "binlog")]));
    }
}
