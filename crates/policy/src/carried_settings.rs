//! Chooses the settings of the donor that a recovered server keeps.
//!
//! The recovered server is another server on another host. It keeps settings of behaviour and of
//! file formats. It drops the donor's identity, paths and replication, and all that could act
//! before an operator has checked the server. The recorded settings are data of the repository:
//! only names that [`table`] knows become options, with values of their kinds.

mod data_paths;
mod value_kind;
mod variable_rules;

use std::collections::BTreeMap;

use backstop_config::extra_options::ExtraOptions;
use backstop_types::finding::Finding;
use backstop_types::server::RecordedSettings;

pub use data_paths::{DataFiles, DataFolder, data_folders};
pub use value_kind::ValueKind;
pub use variable_rules::{VariableRule, rule_of, rules};

/// The settings of a recovered server, and the donor's settings that were dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CarriedSettings {
    /// Names and values for the option file. A name begins with `loose_`, so that a server that
    /// does not know it still starts, unless the data files depend on it.
    pub options: BTreeMap<String, String>,
    /// The settings that are not carried, ordered by name.
    pub left_out: Vec<DroppedSetting>,
}

/// A setting that is not carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedSetting {
    /// Its name, escaped and truncated.
    pub name: String,
    /// The reason, in words.
    pub reason: String,
    /// The part that an operator may miss.
    pub missed: Missed,
}

/// The part of a dropped setting that an operator may miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Nothing: the recovery decides it, or it has no meaning on another server.
    Nothing,
    /// The setting itself.
    Setting,
    /// Certificates that clients trust.
    Certificate,
    /// The host name under which clients reach the server.
    Host,
}

/// Properties of a recovered server that do not depend on its donor.
#[derive(Debug, Clone, Copy)]
pub struct Overrides<'a> {
    /// Its certificates.
    pub certificates: Certificates,
    /// The options given by its operator.
    pub options: &'a ExtraOptions,
    /// Host under which clients reach it; `None`: unknown.
    pub host: Option<&'a str>,
    /// Place of the backup's data files.
    pub data_files: DataFiles,
}

/// The certificates of a recovered server: those that clients trust, or others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificates {
    /// The recovery gives it certificates that clients trust.
    Given,
    /// The server generates its certificates.
    OfItsOwn,
}

/// Decides which recorded settings a recovered server keeps.
pub fn carry_settings(recorded: &RecordedSettings, overrides: Overrides<'_>) -> CarriedSettings {
    let mut settings = CarriedSettings::default();
    for (name, value) in recorded.iter().filter(|(name, value)| !is_recovery_init_file(name, value)) {
        match rule_of(name) {
            // An operator who sets it does not miss it.
            Some(rule) if overrides.options.get(name).is_some() => settings.overridden(rule, name),
            Some(rule) => settings.follow(rule, (name, value), recorded, overrides),
            None => settings.tell(name, "no known server version has it"),
        }
    }
    settings
}

/// Returns true for the init file of a recovery's own server start: the recovery removes the file at
/// once, so that it is not a setting of the server.
pub fn is_recovery_init_file(name: &str, value: &str) -> bool {
    name == "init_file" && value.ends_with("/.backstop/init.sql")
}

/// Warns before a recovery if the recovered server will have certificates that no client trusts.
pub fn certificates_finding(donor: &RecordedSettings, certificates: Certificates) -> Option<Finding> {
    let options = &ExtraOptions::default();
    let overrides = Overrides { certificates, options, host: None, data_files: DataFiles::Restored };
    let settings = carry_settings(donor, overrides);
    let missed = settings.left_out.iter().filter(|left_out| left_out.missed == Missed::Certificate);
    let missed: Vec<_> = missed.map(|each| each.name.as_str()).collect();
    (!missed.is_empty()).then(|| {
        Finding::warning(
            "recovery-tls-missing",
            format!(
                "the source has certificates that clients may verify ({}): a recovered server generates its own and does not require TLS",
                missed.join(", ")
            ),
            "give the certificate of recovered servers as `[recovery.tls]` with cert, key and ca in the configuration",
        )
    })
}

impl CarriedSettings {
    /// Returns findings about the settings that an operator may miss.
    pub fn findings(&self) -> Vec<Finding> {
        let named = |missed| self.left_out.iter().filter(move |left_out| left_out.missed == missed);
        let told: Vec<_> =
            named(Missed::Setting).map(|each| format!("{}: {}", each.name, each.reason)).collect();
        let certificates: Vec<_> = named(Missed::Certificate).map(|each| each.name.as_str()).collect();
        let mut findings = Vec::new();
        if !certificates.is_empty() {
            findings.push(Finding::problem(
                "tls-not-carried",
                format!(
                    "the server that was backed up had its own certificates ({}); this one generates new ones, which no client can verify, and \
                     does not require TLS",
                    certificates.join(", ")
                ),
                "give this host's files as `[recovery.tls]` with cert, key and ca in the configuration before a recovery; for this server \
                 set ssl_cert, ssl_key, ssl_ca and require_secure_transport in its my.cnf, and restart it",
            ));
        }
        if named(Missed::Host).next().is_some() {
            findings.push(Finding::warning(
                "report-host-not-set",
                "the server that was backed up had a report_host, this one has none: `SHOW REPLICAS` and orchestrator do not show its address",
                "recover with `--listen ADDRESS` or `--server-option report_host=HOST`, or set it in my.cnf and restart it",
            ));
        }
        if !told.is_empty() {
            findings.push(Finding::warning(
                "settings-not-carried",
                format!("settings of the server that was backed up are not carried: {}", told.join("; ")),
                "set what this server needs of them: `--server-option KEY=VALUE` (docs/recovered-settings.md)",
            ));
        }
        findings
    }

    fn follow(
        &mut self,
        rule: VariableRule,
        (name, value): (&str, &str),
        recorded: &RecordedSettings,
        overrides: Overrides<'_>,
    ) {
        match rule {
            VariableRule::Format(kind) => self.carry(name, name.to_owned(), kind, value),
            VariableRule::Carried(kind) => self.carry(name, format!("loose_{name}"), kind, value),
            VariableRule::As(option, _) if overrides.options.get(option).is_some() => {
                self.overridden(rule, name)
            }
            VariableRule::As(option, kind) => self.carry(name, format!("loose_{option}"), kind, value),
            VariableRule::Recreated if overrides.data_files == DataFiles::OnVolumes => {
                self.binary_logs_on_volume(name, value, recorded);
            }
            VariableRule::Recreated => self.binary_logs(name, value, recorded),
            VariableRule::DataFolders => match overrides.data_files {
                DataFiles::OnVolumes => self.carry_paths(name, name, value, recorded),
                DataFiles::Restored => self.leave_out(name, "its files are restored here", Missed::Nothing),
            },
            VariableRule::Secure
                if is_on(value)
                    && has_certificates(recorded)
                    && overrides.certificates == Certificates::OfItsOwn =>
            {
                self.leave_out(
                    name,
                    "the certificates that clients trust are not carried",
                    Missed::Certificate,
                );
            }
            VariableRule::Secure => self.carry(name, format!("loose_{name}"), ValueKind::Switch, value),
            VariableRule::Certificate if overrides.certificates == Certificates::Given => {
                self.leave_out(name, "the configuration replaces them", Missed::Nothing);
            }
            VariableRule::Host => match overrides.host {
                _ if value.is_empty() => {}
                Some(host) => _ = self.options.insert(format!("loose_{name}"), host.to_owned()),
                None => self.leave_out(name, "it is the donor's address", Missed::Host),
            },
            VariableRule::Statement(built_in) if value == built_in => {}
            VariableRule::Statement(_) if ValueKind::Word.fits(value) => {
                self.tell(name, format!("it is not an option: use `SET PERSIST {name} = {value}`"));
            }
            VariableRule::Statement(_) => self.misfit(name),
            VariableRule::Derived => {}
            VariableRule::Certificate | VariableRule::Told(_) if value.is_empty() => {}
            VariableRule::Certificate => {
                self.leave_out(name, "it is a file of the donor's host", Missed::Certificate)
            }
            VariableRule::ToldOn(_) if !is_on(value) => {}
            VariableRule::ToldOn(reason) | VariableRule::Told(reason) => self.tell(name, reason),
            VariableRule::Decided(reason) => self.leave_out(name, reason, Missed::Nothing),
        }
    }

    fn overridden(&mut self, rule: VariableRule, name: &str) {
        if rule != VariableRule::Derived {
            self.leave_out(name, "an option that you gave sets it", Missed::Nothing);
        }
    }

    fn carry(&mut self, name: &str, option: String, kind: ValueKind, value: &str) {
        if kind.fits(value) {
            self.options.insert(option, value.to_owned());
        } else {
            self.misfit(name);
        }
    }

    fn misfit(&mut self, name: &str) {
        self.tell(name, "the recorded value is not valid for it");
    }

    fn tell(&mut self, name: &str, reason: impl Into<String>) {
        self.leave_out(name, reason, Missed::Setting);
    }

    fn leave_out(&mut self, name: &str, reason: impl Into<String>, missed: Missed) {
        let name = name.escape_debug().take(MAX_VARIABLE_NAME_CHARS).collect();
        self.left_out.push(DroppedSetting { name, reason: reason.into(), missed });
    }

    /// Carries paths of data files on volumes of the backup.
    fn carry_paths(&mut self, name: &str, option: &str, value: &str, recorded: &RecordedSettings) {
        match data_paths::value_on_volume(recorded, value) {
            Some(here) => _ = self.options.insert(option.to_owned(), here),
            None => self.misfit(name),
        }
    }

    /// Carries the paths of the binary logs on volumes of the backup: the server's crash recovery
    /// needs the newest.
    fn binary_logs_on_volume(&mut self, name: &str, value: &str, recorded: &RecordedSettings) {
        let writes = recorded.get("log_bin").is_some_and(|value| is_on(value));
        match (name, recorded.get("log_bin_basename")) {
            ("log_bin", Some(base)) if writes => self.carry_paths(name, name, base, recorded),
            ("log_bin_index", _) if writes => self.carry_paths(name, name, value, recorded),
            ("log_bin", _) => self.binary_logs(name, value, recorded),
            _ => {}
        }
    }

    /// Carries the names of the binary logs: the base name is kept, the directory becomes the data
    /// directory. If the donor wrote no binary logs, the recovered server writes none.
    fn binary_logs(&mut self, name: &str, value: &str, recorded: &RecordedSettings) {
        let writes = recorded.get("log_bin").is_some_and(|value| is_on(value));
        match name {
            "log_bin" if !writes => {
                self.options.insert("skip_log_bin".to_owned(), "1".to_owned());
            }
            "log_bin" => {
                let base = recorded.get("log_bin_basename").map_or("binlog", |path| file_name(path));
                let base = if ValueKind::File.fits(base) { base } else { "binlog" };
                self.options.insert("log_bin".to_owned(), base.to_owned());
            }
            _ if !writes => {}
            "log_bin_index" => {
                let base = recorded.get("log_bin_basename").map_or("binlog", |path| file_name(path));
                let index = file_name(value);
                if index != format!("{base}.index") {
                    self.carry(name, name.to_owned(), ValueKind::File, index);
                }
            }
            _ if !ValueKind::File.fits(file_name(value)) => self.misfit(name),
            _ => {}
        }
    }
}

/// Longest accepted name of a variable, in characters.
const MAX_VARIABLE_NAME_CHARS: usize = 64;

fn is_on(value: &str) -> bool {
    value == "ON" || value == "1"
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// True if an operator configured the donor's certificates; otherwise the donor generated them, as
/// the recovered server does.
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

    fn with(
        pairs: &[(&str, &str)],
        certificates: Certificates,
        own: &str,
        host: Option<&str>,
    ) -> CarriedSettings {
        let mut options = ExtraOptions::default();
        options.read_file(&format!("[mysqld]\n{own}"), "my.cnf").unwrap();
        let data_files = DataFiles::Restored;
        carry_settings(&recorded(pairs), Overrides { certificates, options: &options, host, data_files })
    }

    fn of(pairs: &[(&str, &str)]) -> CarriedSettings {
        with(pairs, Certificates::OfItsOwn, "", None)
    }

    fn codes(settings: &CarriedSettings) -> Vec<String> {
        settings.findings().iter().map(|finding| finding.code.to_string()).collect()
    }

    fn told(pairs: &[(&str, &str)]) -> String {
        of(pairs).findings().iter().map(|finding| finding.what.clone()).collect()
    }

    #[test]
    fn behaviour_is_carried_and_identity_and_paths_are_dropped() {
        let settings = of(&[
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
            ("transaction_read_only", "ON"),
            ("init_file", ""),
        ]);
        let options: Vec<_> =
            settings.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let kept = [
            "innodb_page_size=8192",
            "loose_default_time_zone=+02:00",
            "loose_max_connections=300",
            "loose_sql_mode=ANSI",
        ];
        assert_eq!(options, kept);
        let named =
            |missed| settings.left_out.iter().filter(move |l| l.missed == missed).map(|l| l.name.as_str());
        assert_eq!(
            named(Missed::Setting).collect::<Vec<_>>(),
            ["innodb_force_recovery", "sql_safe_updates", "transaction_read_only"]
        );
        assert_eq!(
            named(Missed::Nothing).collect::<Vec<_>>(),
            ["event_scheduler", "port", "server_id", "tmpdir"]
        );
        assert_eq!(codes(&settings), ["tls-not-carried", "settings-not-carried"]);
        assert!(settings.findings()[1].what.contains("`SET PERSIST sql_safe_updates = ON`"));
    }

    #[test]
    fn operator_options_are_not_reported_as_missing() {
        let donor =
            [("report_host", "db1"), ("time_zone", "SYSTEM"), ("admin_port", "33062"), ("sql_mode", "ANSI")];
        assert_eq!(codes(&of(&donor)), ["report-host-not-set", "settings-not-carried"]);
        let own = "loose-admin-port = 1\nreport_host = db9\ndefault_time_zone = '+01:00'\nsql_mode = ''";
        let settings = with(&donor, Certificates::OfItsOwn, own, Some("db8"));
        assert_eq!((codes(&settings).len(), settings.options.len()), (0, 0));
        assert_eq!(with(&donor, Certificates::OfItsOwn, "", Some("db8")).options["loose_report_host"], "db8");
    }

    #[test]
    fn init_file_is_reported_only_if_set_by_operator() {
        assert!(told(&[("init_file", "/etc/mysql/init.sql")]).contains("init_file"));
        assert_eq!(of(&[("init_file", "/srv/copy/.backstop/init.sql")]), CarriedSettings::default());
    }

    #[test]
    fn unknown_names_and_unfit_values_are_reported() {
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
            let settings = of(&[(name, "1")]);
            assert!(
                settings.options.is_empty() && settings.left_out[0].missed == Missed::Setting,
                "{name:?}"
            );
        }
        assert!(told(&[("x\n[mysqld]", "")]).contains("x\\n[mysqld]: no known server version"));
        for (name, value) in
            [("max_connections", "1\nplugin_load=x"), ("sql_mode", "ANSI\""), ("innodb_page_size", "")]
        {
            let settings = of(&[(name, value)]);
            assert!(settings.options.is_empty(), "{name}");
            assert!(told(&[(name, value)]).contains("not valid for it"), "{name}");
        }
        assert_eq!(of(&[("init_connect", "a\nb=\"")]).options["loose_init_connect"], "a\nb=\"");
        let long = "x".repeat(500);
        assert_eq!(of(&[(&long, "1")]).left_out[0].name.len(), MAX_VARIABLE_NAME_CHARS);
    }

    #[test]
    fn tls_is_not_required_without_the_donors_certificates() {
        let donor = [("require_secure_transport", "ON"), ("ssl_cert", "/c.pem")];
        let own = of(&donor);
        assert!(own.options.is_empty() && codes(&own) == ["tls-not-carried"], "{own:?}");
        let overrides = with(&donor, Certificates::Given, "", None);
        assert!(overrides.options["loose_require_secure_transport"] == "ON" && codes(&overrides).is_empty());
        assert_eq!(of(&[("require_secure_transport", "ON")]).options["loose_require_secure_transport"], "ON");
    }

    #[test]
    fn binlog_keeps_its_base_name() {
        let kept = |pairs: &[(&str, &str)]| of(pairs).options;
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

    #[test]
    fn paths_of_data_files_are_kept_on_volumes() {
        let donor = recorded(&[
            ("datadir", "/srv/mysql/"),
            ("innodb_log_group_home_dir", "/redo/mysql"),
            ("innodb_undo_directory", "/srv/mysql/undo"),
            ("log_bin", "ON"),
            ("log_bin_basename", "/logs/mysql-bin"),
            ("log_bin_index", "/logs/mysql-bin.index"),
        ]);
        let kept = |data_files| {
            let options = &ExtraOptions::default();
            let overrides =
                Overrides { certificates: Certificates::OfItsOwn, options, host: None, data_files };
            carry_settings(&donor, overrides).options
        };
        assert_eq!(kept(DataFiles::Restored), recorded(&[("log_bin", "mysql-bin")]));
        let on_volumes = [
            ("innodb_log_group_home_dir", "/redo/mysql"),
            ("innodb_undo_directory", "undo"),
            ("log_bin", "/logs/mysql-bin"),
            ("log_bin_index", "/logs/mysql-bin.index"),
        ];
        assert_eq!(kept(DataFiles::OnVolumes), recorded(&on_volumes));
    }
}
