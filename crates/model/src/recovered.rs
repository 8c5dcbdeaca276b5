//! Which of the donor's settings a recovered server keeps.
//!
//! It is another server on another host: it keeps how it behaves and how its files are made, and drops who the
//! donor was, where it lay, what it replicated and what could act before an operator has looked.

use std::collections::BTreeMap;

use crate::server::RecordedSettings;

/// The settings of a recovered server, and what was left out of the donor's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredSettings {
    /// Option name and value, for the option file.
    pub kept: BTreeMap<String, String>,
    /// What is not kept, in the order of the names.
    pub dropped: Vec<Dropped>,
}

/// A setting that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Its name.
    pub name: String,
    /// Why, in words.
    pub reason: &'static str,
}

/// Decides which recorded settings a recovered server keeps. Names are kept as recorded, except `log_bin`,
/// whose value becomes the base name of the donor's binary logs (they are looked for in the data
/// directory), or `skip_log_bin` if the donor wrote none.
pub fn recovered_settings(recorded: &RecordedSettings) -> RecoveredSettings {
    let mut settings = RecoveredSettings::default();
    for (name, value) in recorded {
        if BINLOG_NAMES.contains(&name.as_str()) {
            continue;
        }
        match reason_to_drop(name, value) {
            Some(reason) => settings.dropped.push(Dropped { name: name.clone(), reason }),
            None => {
                settings.kept.insert(name.clone(), value.clone());
            }
        }
    }
    settings.kept.extend(binlog_options(recorded));
    settings
}

/// How an option is written so that a server that does not know it starts all the same: with the prefix
/// `loose_`, except what the data files depend on, where starting without it would be worse.
pub fn option_name(name: &str) -> String {
    if FORMAT.contains(&name) { name.to_owned() } else { format!("loose_{name}") }
}

/// What the data files depend on.
const FORMAT: [&str; 6] = [
    "innodb_checksum_algorithm",
    "innodb_data_file_path",
    "innodb_page_size",
    "log_bin",
    "lower_case_table_names",
    "skip_log_bin",
];

/// Handled together by [`binlog_options`].
const BINLOG_NAMES: [&str; 3] = ["log_bin", "log_bin_basename", "log_bin_index"];

const IDENTITY: &str = "it is the donor's identity; a recovered server has its own";
const PLACE: &str = "it is a place on the donor's host";
const NETWORK: &str = "recovery decides where the server listens";
const REPLICATION: &str = "it belongs to the donor's replication";
const SEMI_SYNC: &str = "semi-synchronous replication stays off until the server has joined";
const ACTS: &str = "it is decided when the server is handed over";
const HOST: &str = "it depends on the donor's host";
const PLUGINS: &str = "its libraries may be missing here; load what is needed with your own option file";
const UNSAFE: &str = "it is not safe on a server that is being recovered";
const ODD: &str = "it is no name of a system variable, or no value of one";
const STATE: &str = "it is a state, not a setting";

/// Names that are dropped.
const DROPPED: &[(&str, &[&str])] = &[
    (IDENTITY, &["server_id", "server_uuid", "report_host", "report_port", "report_user", "report_password"]),
    (
        PLACE,
        &[
            "basedir",
            "character_sets_dir",
            "chroot",
            "datadir",
            "general_log_file",
            "innodb_data_home_dir",
            "innodb_directories",
            "innodb_doublewrite_dir",
            "innodb_log_group_home_dir",
            "innodb_redo_log_archive_dirs",
            "innodb_temp_tablespaces_dir",
            "innodb_tmpdir",
            "innodb_undo_directory",
            "lc_messages_dir",
            "log_error",
            "pid_file",
            "plugin_dir",
            "secure_file_priv",
            "slow_query_log_file",
            "tmpdir",
        ],
    ),
    (
        NETWORK,
        &[
            "admin_address",
            "admin_port",
            "bind_address",
            "create_admin_listener_thread",
            "port",
            "skip_networking",
            "socket",
        ],
    ),
    (
        REPLICATION,
        &[
            "init_replica",
            "init_slave",
            "master_info_repository",
            "relay_log_info_file",
            "relay_log_info_repository",
            "replica_load_tmpdir",
            "skip_replica_start",
            "skip_slave_start",
            "slave_load_tmpdir",
        ],
    ),
    (ACTS, &["event_scheduler", "offline_mode", "read_only", "super_read_only"]),
    (HOST, &["large_pages", "locked_in_memory", "memlock", "super_large_pages", "system_time_zone", "user"]),
    (PLUGINS, &["early_plugin_load", "plugin_load", "plugin_load_add"]),
    (
        UNSAFE,
        &[
            "init_file",
            "innodb_force_load_corrupted",
            "innodb_force_recovery",
            "innodb_read_only",
            "log_error_services",
            // What is replayed and replicated must be applied, or end with an error.
            "replica_exec_mode",
            "replica_skip_errors",
            "skip_grant_tables",
            "slave_exec_mode",
            "slave_skip_errors",
        ],
    ),
    (
        STATE,
        &["gtid_executed", "gtid_owned", "gtid_purged", "hostname", "license", "version", "version_comment"],
    ),
];

/// Prefixes of names that are dropped.
const DROPPED_PREFIXES: [(&str, &str); 7] = [
    ("group_replication_", REPLICATION),
    ("have_", STATE),
    ("loose_", UNSAFE),
    ("mysqlx_", NETWORK),
    ("relay_log_basename", REPLICATION),
    ("relay_log_index", REPLICATION),
    ("rpl_semi_sync_", SEMI_SYNC),
];

/// A name that is no system variable's: mysqld takes `-` for `_` and options under these prefixes, so that one of the dropped names could
/// come back by another spelling, and a stored name is data of the repository.
fn is_odd(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    let prefixed = ["loose_", "enable_", "disable_", "maximum_", "skip_"].iter().any(|p| name.starts_with(p));
    !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.chars().all(plain)
        || (prefixed && !SKIPS.contains(&name))
}

/// The system variables whose names begin so.
const SKIPS: [&str; 5] = [
    "skip_external_locking",
    "skip_name_resolve",
    "skip_networking",
    "skip_replica_start",
    "skip_show_database",
];

fn reason_to_drop(name: &str, value: &str) -> Option<&'static str> {
    if is_odd(name) || value.contains('\0') {
        return Some(ODD);
    }
    let listed = DROPPED.iter().find(|(_, names)| names.contains(&name)).map(|(reason, _)| *reason);
    let prefix = || DROPPED_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, r)| *r);
    let relay_log = || (name == "relay_log").then_some(REPLICATION);
    let path = || value.starts_with('/').then_some(PLACE);
    listed.or_else(prefix).or_else(relay_log).or_else(path)
}

/// The donor's binary logs are found again under their base name, in the data directory.
fn binlog_options(recorded: &RecordedSettings) -> Vec<(String, String)> {
    let on = |value: &String| value == "ON" || value == "1";
    match recorded.get("log_bin") {
        Some(value) if on(value) => {
            let base = recorded.get("log_bin_basename").map_or("binlog", |path| file_name(path));
            let index = recorded.get("log_bin_index").map(|path| file_name(path));
            let index = index.filter(|index| *index != format!("{base}.index"));
            let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let mut options = vec![option("log_bin", base)];
            options.extend(index.map(|index| option("log_bin_index", index)));
            options
        }
        Some(_) => vec![("skip_log_bin".to_owned(), "1".to_owned())],
        None => Vec::new(),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn recorded(pairs: &[(&str, &str)]) -> RecordedSettings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn keeps_behaviour_and_format_drops_identity_and_places() {
        let settings = recovered_settings(&recorded(&[
            ("innodb_page_size", "8192"),
            ("sql_mode", "ANSI"),
            ("max_connections", "300"),
            ("server_id", "7"),
            ("port", "3306"),
            ("ssl_ca", "/etc/mysql/ca.pem"),
            ("ssl_cert", "server-cert.pem"),
            ("event_scheduler", "ON"),
            ("rpl_semi_sync_replica_enabled", "ON"),
            ("relay_log", "relay"),
            ("innodb_force_recovery", "1"),
            ("replica_skip_errors", "all"),
            ("slave_exec_mode", "IDEMPOTENT"),
        ]));
        let kept: Vec<&str> = settings.kept.keys().map(String::as_str).collect();
        assert_eq!(kept, ["innodb_page_size", "max_connections", "sql_mode", "ssl_cert"]);
        let reason = |name: &str| settings.dropped.iter().find(|d| d.name == name).unwrap().reason;
        assert_eq!(reason("server_id"), IDENTITY);
        assert_eq!(reason("ssl_ca"), PLACE);
        assert_eq!(reason("rpl_semi_sync_replica_enabled"), SEMI_SYNC);
        assert_eq!((reason("event_scheduler"), reason("relay_log")), (ACTS, REPLICATION));
        assert_eq!((reason("replica_skip_errors"), reason("slave_exec_mode")), (UNSAFE, UNSAFE));
        assert_eq!(settings.kept.len() + settings.dropped.len(), 13);
    }

    #[test]
    fn other_spellings_of_dropped_names_stay_out() {
        for name in [
            "plugin-dir",
            "loose_plugin_dir",
            "Plugin_dir",
            "skip_grant_tables",
            "maximum_x",
            "a b",
            "x\n[mysqld]",
            "",
        ] {
            let settings = recovered_settings(&recorded(&[(name, "x")]));
            assert!(settings.kept.is_empty() && settings.dropped[0].reason == ODD, "{name:?}");
        }
        let settings =
            recovered_settings(&recorded(&[("validate_password.length", "12"), ("skip_name_resolve", "ON")]));
        assert_eq!(settings.kept.len(), 2);
    }

    #[test]
    fn binary_logs_keep_their_base_name() {
        let kept = |pairs: &[(&str, &str)]| recovered_settings(&recorded(pairs)).kept;
        assert_eq!(kept(&[("log_bin", "OFF")]), recorded(&[("skip_log_bin", "1")]));
        assert_eq!(kept(&[("log_bin", "ON")]), recorded(&[("log_bin", "binlog")]));
        let elsewhere = [
            ("log_bin", "ON"),
            ("log_bin_basename", "/logs/mysql-bin"),
            ("log_bin_index", "/logs/mysql-bin.index"),
        ];
        assert_eq!(kept(&elsewhere), recorded(&[("log_bin", "mysql-bin")]));
        let odd = [("log_bin", "1"), ("log_bin_basename", "/d/b"), ("log_bin_index", "/d/list.txt")];
        assert_eq!(kept(&odd), recorded(&[("log_bin", "b"), ("log_bin_index", "list.txt")]));
    }

    #[test]
    fn only_what_the_files_depend_on_must_be_known() {
        assert_eq!(option_name("innodb_page_size"), "innodb_page_size");
        assert_eq!(option_name("sql_mode"), "loose_sql_mode");
    }
}
