//! The operator's own options for a recovered server, from an option file and from flags.
//!
//! They precede the options that the recovery sets. An option that the recovery would override, or
//! that needs a missing path, is refused by name before anything changes.

use std::path::PathBuf;

use crate::option_file::quoted;

/// Options in order: a later one overrides an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtraOptions {
    options: Vec<ExtraOption>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ExtraOption {
    /// The file and line, or the flag, that gave it, for messages.
    origin: String,
    /// Its group in the option file.
    group: String,
    /// Its name in the server's spelling: with `_`, without `loose_`.
    name: String,
    value: Option<String>,
    /// Its line in the option file.
    line: String,
}

/// A path that an option names and that must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredPath {
    /// The option, with the file and line, or the flag, that gave it.
    pub option: String,
    /// The path that must exist.
    pub path: PathBuf,
    /// True for a directory.
    pub is_folder: bool,
    /// True for a folder in which the server must be able to write to start.
    pub is_written: bool,
}

impl ExtraOptions {
    /// Adds the options of an option file that a server reads.
    ///
    /// # Errors
    /// Returns every line that cannot be used, with the reason.
    pub fn read_file(&mut self, text: &str, file: &str) -> Result<(), Vec<String>> {
        let (mut group, mut wrong) = (None, Vec::new());
        // Some editors begin a file with a byte order mark.
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let (line, origin) = (line.trim(), format!("{file}, line {}", number + 1));
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('!') {
                wrong.push(format!(
                    "{origin}: `{}` includes other files: copy their lines into this one",
                    shorten(line)
                ));
            } else if let Some(name) = line.strip_prefix('[') {
                let name = name.split_once(']').map(|(name, _)| name.trim());
                if name.is_none_or(str::is_empty) {
                    wrong.push(format!("{origin}: `{}` is not a group: write `[mysqld]`", shorten(line)));
                }
                group = Some(name.unwrap_or_default().to_owned());
            } else if group.is_none() {
                wrong
                    .push(format!("{origin}: `{}` is in no group: write `[mysqld]` above it", shorten(line)));
            } else if let Some(group) = group.as_ref().filter(|group| is_server_group(group)) {
                let (name, value) = split_option(line);
                let option = ExtraOption {
                    origin,
                    group: group.clone(),
                    name: canonical_name(name),
                    value,
                    line: line.to_owned(),
                };
                self.add(option, &mut wrong);
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Adds one option, `KEY=VALUE` or `KEY`.
    ///
    /// # Errors
    /// Returns the reason if the option cannot be used.
    pub fn give(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
            None => (text.trim(), None),
        };
        if !is_name(name) {
            return Err(format!("`{}` is not an option: write KEY=VALUE", shorten(text)));
        }
        let line = value.as_ref().map_or(name.to_owned(), |value| format!("{name} = {}", quoted(value)));
        let (origin, group) = ("--server-option".to_owned(), "mysqld".to_owned());
        let mut wrong = Vec::new();
        self.add(ExtraOption { origin, group, name: canonical_name(name), value, line }, &mut wrong);
        wrong.pop().map_or(Ok(()), Err)
    }

    /// Returns the value of an option, by its name in the server's spelling.
    pub fn get(&self, name: &str) -> Option<&str> {
        let given = self.options.iter().rev().find(|option| option.name == name);
        given.map(|option| option.value.as_deref().unwrap_or_default())
    }

    /// True if no options were given.
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// Returns the lines for an option file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut group = "";
        for option in &self.options {
            if option.group != group {
                group = &option.group;
                text.push_str(&format!("[{group}]\n"));
            }
            text.push_str(&option.line);
            text.push('\n');
        }
        text
    }

    /// Returns the paths that the options name and that must exist.
    pub fn places(&self) -> Vec<RequiredPath> {
        self.options.iter().flat_map(ExtraOption::places).collect()
    }

    fn add(&mut self, option: ExtraOption, wrong: &mut Vec<String>) {
        let name = option.name.as_str();
        let bare = OPTION_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let is_one = |names: &str| names.split_whitespace().any(|refused| refused == name || refused == bare);
        match REFUSED_OPTIONS.iter().find(|(_, names)| is_one(names)) {
            Some((why, _)) => wrong.push(format!("{}: `{}`: {why}", option.origin, shorten(name))),
            None => self.options.push(option),
        }
    }
}

impl ExtraOption {
    fn places(&self) -> Vec<RequiredPath> {
        let Some(value) = self.value.as_deref().filter(|value| !["", "NULL", "null"].contains(value)) else {
            return Vec::new();
        };
        let is_one = |names: &str| names.split_whitespace().any(|name| name == self.name);
        let place = |path: PathBuf, is_folder| RequiredPath {
            option: format!("{}: `{}`", self.origin, self.name),
            path,
            is_folder,
            is_written: self.name.ends_with("tmpdir"),
        };
        if is_one(FOLDER_OPTIONS) {
            value.split(':').filter(|path| !path.is_empty()).map(|path| place(path.into(), true)).collect()
        } else if is_one(FILE_OPTIONS) {
            vec![place(value.into(), false)]
        } else if is_one(LOG_FILE_OPTIONS) {
            // A log without a directory is written to the data directory.
            let folder = PathBuf::from(value).parent().map(PathBuf::from).filter(|path| path.is_absolute());
            folder.map(|path| place(path, true)).into_iter().collect()
        } else {
            Vec::new()
        }
    }
}

/// The prefixes that mysqld accepts before the name of an option.
const OPTION_PREFIXES: [&str; 4] = ["skip_", "disable_", "enable_", "maximum_"];

/// Options that name directories used by the server.
const FOLDER_OPTIONS: &str = "basedir character_sets_dir innodb_tmpdir lc_messages_dir plugin_dir replica_load_tmpdir secure_file_priv slave_load_tmpdir tmpdir";

/// Options that name files read by the server.
const FILE_OPTIONS: &str = "admin_ssl_ca admin_ssl_cert admin_ssl_crl admin_ssl_key ft_stopword_file mysqlx_ssl_ca mysqlx_ssl_cert mysqlx_ssl_key \
                     validate_password.dictionary_file validate_password_dictionary_file";

/// Options that name files written by the server.
const LOG_FILE_OPTIONS: &str = "general_log_file slow_query_log_file";

/// Refused options, each with the alternative.
const REFUSED_OPTIONS: &[(&str, &str)] = &[
    (
        "the recovery sets the paths of the server in the directory of `--into`: remove it",
        "chroot datadir log_error pid_file socket",
    ),
    ("use `--port` instead", "port"),
    ("use `--listen` instead", "bind_address networking"),
    ("use `--server-user` instead", "user"),
    (
        "name the files in `[recovery.tls]` of the configuration instead",
        "ssl ssl_ca ssl_capath ssl_cert ssl_crl ssl_crlpath ssl_key",
    ),
    (
        "the recovery puts the files into the data directory, as in the backup: remove it, and move them afterwards",
        "innodb_checksum_algorithm innodb_data_file_path innodb_data_home_dir innodb_directories innodb_doublewrite_dir \
         innodb_log_group_home_dir innodb_page_size innodb_redo_log_archive_dirs innodb_temp_data_file_path innodb_temp_tablespaces_dir \
         innodb_undo_directory innodb_undo_tablespaces log_bin log_bin_index lower_case_table_names relay_log relay_log_index \
         relay_log_info_file",
    ),
    (
        "the recovery and the hand-over set it: remove it, and set it afterwards",
        "console daemonize enforce_gtid_consistency event_scheduler grant_tables group_replication_start_on_boot gtid_mode help init_file \
         initialize initialize_insecure innodb_buffer_pool_load_at_startup innodb_force_recovery innodb_read_only offline_mode read_only \
         replica_start rpl_semi_sync_master_enabled rpl_semi_sync_replica_enabled rpl_semi_sync_slave_enabled \
         rpl_semi_sync_source_enabled server_id slave_start super_read_only validate_config verbose version",
    ),
];

/// Converts a name to the server's spelling.
fn canonical_name(name: &str) -> String {
    let name = name.replace('-', "_");
    let mut name = name.as_str();
    while let Some(rest) = name.strip_prefix("loose_") {
        name = rest;
    }
    name.to_owned()
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(plain)
}

/// True if mysqld reads the group. This includes `[mysqld-9.7]`, which applies to that version
/// only.
fn is_server_group(group: &str) -> bool {
    group == "mysqld" || group == "server" || group.starts_with("mysqld-")
}

/// Splits a line into name and value. A value ends at `#` unless it is in quotes.
fn split_option(line: &str) -> (&str, Option<String>) {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    let has_value = line.contains('=');
    let name = name.split('#').next().unwrap_or_default().trim();
    let value = value.trim();
    let quote = value.chars().next().filter(|c| ['"', '\''].contains(c));
    let value = match quote {
        Some(quote) => value[1..].split(quote).next().unwrap_or_default(),
        None => value.split('#').next().unwrap_or_default().trim(),
    };
    (name, has_value.then(|| value.to_owned()))
}

/// Returns the beginning of a user's text, for a message.
fn shorten(text: &str) -> String {
    text.escape_debug().take(80).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(text: &str) -> Result<ExtraOptions, String> {
        let mut options = ExtraOptions::default();
        options.read_file(text, "my.cnf").map(|()| options).map_err(|wrong| wrong.join("\n"))
    }

    #[test]
    fn server_options_are_kept_in_order() {
        let mut options = file(
            "# mine\n[client]\nport = 1\n[mysqld]\nmax-connections = 7 # few\nskip-name-resolve\n[mysqld-9.7]\ninit_connect=\"a # b\"\n",
        )
        .unwrap();
        options.give("report-host=db9").unwrap();
        options.give("max_connections = 8").unwrap();
        assert_eq!(
            options.text(),
            "[mysqld]\nmax-connections = 7 # few\nskip-name-resolve\n[mysqld-9.7]\ninit_connect=\"a # b\"\n\
             [mysqld]\nreport-host = db9\nmax_connections = 8\n"
        );
        assert_eq!((options.get("max_connections"), options.get("init_connect")), (Some("8"), Some("a # b")));
        assert_eq!((options.get("skip_name_resolve"), options.get("port")), (Some(""), None));
    }

    #[test]
    fn options_set_by_recovery_are_refused_by_name() {
        let wrong = file("[mysqld]\ndatadir=/d\nmax_connections=3\nloose-innodb-undo-directory = /u\n!includedir /etc/x\nskip-log-bin").unwrap_err();
        let lines: Vec<&str> = wrong.lines().collect();
        assert_eq!(lines.len(), 4, "{wrong}");
        assert!(
            lines[0].starts_with("my.cnf, line 2: `datadir`") && lines[1].contains("`innodb_undo_directory`")
        );
        assert!(lines[2].contains("!includedir") && lines[3].contains("`skip_log_bin`"));
        for given in
            ["port=3306", "ssl-ca=/x", "skip_replica_start", "server_id=1", "user=root", "skip-grant-tables"]
        {
            ExtraOptions::default().give(given).unwrap_err();
        }
        for given in ["", "=1", "a b=1", "x\ny=1", "[mysqld]"] {
            assert!(ExtraOptions::default().give(given).unwrap_err().contains("is not an option"), "{given}");
        }
    }

    #[test]
    fn unreadable_lines_are_reported() {
        let read = file("\u{feff}[mysqld]\r\nmax_connections = 7\r\n[client]\r\nport=1\r\n").unwrap();
        assert_eq!(read.text(), "[mysqld]\nmax_connections = 7\n");
        let wrong = file("# mine\nmax_connections=7\n[mysqld\nport_open_timeout=1\n[]").unwrap_err();
        let lines: Vec<&str> = wrong.lines().collect();
        assert_eq!(lines.len(), 3, "{wrong}");
        for (line, words) in lines.iter().zip([
            "line 2: `max_connections=7` is in no group",
            "line 3: `[mysqld` is not a group",
            "line 5: `[]`",
        ]) {
            assert!(line.contains(words), "{line}");
        }
    }

    #[test]
    fn required_paths_are_listed() {
        let text = "[mysqld]\ntmpdir='/a b:/c'\nsecure_file_priv=NULL\nslow_query_log_file=slow.log\ngeneral_log_file=/l/g.log\nadmin_ssl_ca=/x.pem";
        let places = file(text).unwrap().places();
        let places: Vec<_> =
            places.iter().map(|place| (place.path.to_str().unwrap(), place.is_folder)).collect();
        assert_eq!(places, [("/a b", true), ("/c", true), ("/l", true), ("/x.pem", false)]);
    }

    #[test]
    fn value_with_line_break_stays_on_one_line() {
        let mut options = ExtraOptions::default();
        options.give("init_connect=a\nplugin_load=x").unwrap();
        assert_eq!(options.text().lines().count(), 2);
    }
}
