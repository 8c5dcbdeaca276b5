//! Decides which files of a data directory belong in a backup.
//!
//! These are all files that a recovered server needs and none that only the donor can use. The
//! decision sees names only; the caller walks the directory and reads the one file that matters,
//! the binary logs' index.

use std::path::{Path, PathBuf};

/// Locations of a server's files that are not table data, from its settings, as seen in a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFiles {
    /// Binary logs, if they are part of the snapshot.
    pub binlogs: Option<LogFiles>,
    /// Relay logs.
    pub relay_logs: Option<LogFiles>,
    /// Error log, general and slow log, pid file and sockets, if they are in the data directory.
    pub others: Vec<PathBuf>,
}

/// A numbered series of logs: `FOLDER/BASE.000001` etc., listed one per line in `index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFiles {
    /// Folder and base name, absolute.
    pub base: PathBuf,
    /// Index file, absolute. Its last line names the active log.
    pub index: PathBuf,
}

/// Contents of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatadirFiles {
    /// Files that are stored: the path they are restored to (relative to the data directory, parts
    /// separated by `/`), and their current path.
    pub kept: Vec<(String, PathBuf)>,
    /// Files that are generated: the path they are restored to, and their bytes.
    pub written: Vec<(String, Vec<u8>)>,
    /// Excluded files, relative to the data directory, each with the reason.
    pub left_out: Vec<(String, &'static str)>,
}

const SERVER_IDENTITY: &str = "it holds the donor's identity";
const RECORDED_SETTINGS: &str = "its settings are recorded with the backup";
const TEMPORARY_FILE: &str = "a server creates it at startup";
const DONOR_LOG: &str = "it is a log file of the donor";
const DONOR_REPLICATION: &str = "it belongs to the donor's replication";
const INACTIVE_BINLOG: &str = "a server needs only the active binary log to start";
const CHANGE_TRACKING: &str = "it tracks changes of the donor's files";
const DONOR_TLS_KEYS: &str = "they are the donor's own TLS keys; a server generates its own";

/// Excluded files in the top folder, by name.
const EXCLUDED_FILES: &[(&str, &[&str])] = &[
    (SERVER_IDENTITY, &["auto.cnf"]),
    (RECORDED_SETTINGS, &["mysqld-auto.cnf", "mysqld-auto.cnf.backup"]),
    (TEMPORARY_FILE, &["ibtmp1"]),
    (DONOR_REPLICATION, &["master.info", "relay-log.info"]),
    (
        DONOR_TLS_KEYS,
        &[
            "ca.pem",
            "ca-key.pem",
            "server-cert.pem",
            "server-key.pem",
            "client-cert.pem",
            "client-key.pem",
            "private_key.pem",
            "public_key.pem",
        ],
    ),
];

/// Folders that are excluded with everything in them.
const EXCLUDED_FOLDERS: &[(&str, &str)] = &[
    ("#innodb_temp", TEMPORARY_FILE),
    ("#clone", CHANGE_TRACKING),
    ("#meb", CHANGE_TRACKING),
    ("#ib_archive", CHANGE_TRACKING),
];

/// Suffixes of excluded files in the top folder.
const EXCLUDED_ENDINGS: &[(&str, &str)] = &[
    (".err", DONOR_LOG),
    (".pid", TEMPORARY_FILE),
    (".sock", TEMPORARY_FILE),
    (".sock.lock", TEMPORARY_FILE),
];

/// Decides for every file of the data directory `root`. `files` are the relative paths of all
/// regular files in it; `index` is the text of the binary logs' index, if there are binary logs.
///
/// Only the active binary log is kept, and a new index names only that one: crash recovery resolves
/// prepared transactions with it, and it tells the server which GTIDs came before.
pub fn datadir_files(
    root: &Path,
    files: &[String],
    server: &ServerFiles,
    index: Option<&str>,
) -> DatadirFiles {
    let mut contents = DatadirFiles::default();
    for path in files {
        match reason_to_exclude(root, path, server) {
            Some(reason) => contents.left_out.push((path.clone(), reason)),
            None => contents.kept.push((path.clone(), root.join(path))),
        }
    }
    if let (Some(binlogs), Some(active)) = (&server.binlogs, index.and_then(active_binlog)) {
        keep_active(&mut contents, binlogs, active);
    }
    contents
}

/// Returns the active log: the base name of the last line of an index.
pub fn active_binlog(index: &str) -> Option<&str> {
    let line = index.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    line.rsplit('/').next()
}

fn keep_active(contents: &mut DatadirFiles, binlogs: &LogFiles, active: &str) {
    let from = binlogs.base.with_file_name(active);
    contents.left_out.retain(|(path, _)| path != active);
    contents.kept.push((active.to_owned(), from));
    let index = binlogs.index.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    contents.written.push((index, format!("./{active}\n").into_bytes()));
}

fn reason_to_exclude(root: &Path, path: &str, server: &ServerFiles) -> Option<&'static str> {
    let absolute = root.join(path);
    if server.binlogs.as_ref().is_some_and(|logs| is_of(logs, &absolute)) {
        return Some(INACTIVE_BINLOG);
    }
    if server.relay_logs.as_ref().is_some_and(|logs| is_of(logs, &absolute)) {
        return Some(DONOR_REPLICATION);
    }
    if server.others.contains(&absolute) {
        return Some(DONOR_LOG);
    }
    if let Some((folder, _)) = path.split_once('/') {
        return EXCLUDED_FOLDERS.iter().find(|(name, _)| *name == folder).map(|&(_, reason)| reason);
    }
    let named = EXCLUDED_FILES.iter().find(|(_, names)| names.contains(&path)).map(|&(reason, _)| reason);
    named.or_else(|| EXCLUDED_ENDINGS.iter().find(|(end, _)| path.ends_with(end)).map(|&(_, reason)| reason))
}

/// True for the index and every `BASE.<digits>`, also those of replication channels
/// (`BASE-<channel>.…`) and the scratch files beside them (`BASE.~rec~`, `BASE.index_crash_safe`).
fn is_of(logs: &LogFiles, path: &Path) -> bool {
    if path == logs.index {
        return true;
    }
    let (Some(base), Some(name)) = (logs.base.file_name(), path.file_name()) else { return false };
    if path.parent() != logs.base.parent() {
        return false;
    }
    let (base, name) = (base.to_string_lossy(), name.to_string_lossy());
    let Some(rest) = name.strip_prefix(base.as_ref()) else { return false };
    let Some((channel, suffix)) = rest.rsplit_once('.') else { return false };
    let numbered = suffix.len() >= 6 && suffix.chars().all(|c| c.is_ascii_digit());
    let scratch = suffix.starts_with("index") || (suffix.starts_with('~') && suffix.ends_with('~'));
    (channel.is_empty() || channel.starts_with('-')) && (numbered || scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(base: &str) -> Option<LogFiles> {
        Some(LogFiles { base: base.into(), index: format!("{base}.index").into() })
    }

    fn decide(files: &[&str], server: &ServerFiles, index: Option<&str>) -> (Vec<String>, Vec<String>) {
        let files: Vec<_> = files.iter().map(|&file| file.to_owned()).collect();
        let contents = datadir_files(Path::new("/d"), &files, server, index);
        let kept = contents.kept.into_iter().map(|(path, _)| path).collect();
        (kept, contents.left_out.into_iter().map(|(path, _)| path).collect())
    }

    #[test]
    fn data_is_kept_and_donor_only_files_are_left_out() {
        let server = ServerFiles {
            binlogs: logs("/d/binlog"),
            relay_logs: logs("/d/relay"),
            others: vec!["/d/mysqld.log".into()],
        };
        let data = [
            "ibdata1",
            "mysql.ibd",
            "shop/t.ibd",
            "undo_001",
            "#innodb_redo/#ib_redo7",
            "binlog.ibd",
            "shop/x.pid",
        ];
        let donors = [
            "auto.cnf",
            "mysqld-auto.cnf",
            "ibtmp1",
            "#innodb_temp/temp_1.ibt",
            "#clone/#status_fix",
            "mysqld.log",
            "host.pid",
            "server-key.pem",
            "binlog.000001",
            "binlog.index",
            "relay.000004",
            "relay-blue.000004",
            "relay-blue.index",
        ];
        let all: Vec<_> = data.iter().chain(&donors).chain(&["binlog.000002"]).copied().collect();
        let (kept, left) = decide(&all, &server, Some("./binlog.000001\n./binlog.000002\n"));
        assert_eq!(kept, data.iter().chain(&["binlog.000002"]).copied().collect::<Vec<_>>());
        assert_eq!(left, donors);
    }

    #[test]
    fn active_binlog_is_moved_into_data_directory() {
        let server = ServerFiles { binlogs: logs("/logs/bin"), ..ServerFiles::default() };
        let index = "/var/logs/bin.000009\n/var/logs/bin.000010\n";
        let contents = datadir_files(Path::new("/d"), &["ibdata1".to_owned()], &server, Some(index));
        assert_eq!(contents.kept[1], ("bin.000010".to_owned(), PathBuf::from("/logs/bin.000010")));
        assert_eq!(contents.written, [("bin.index".to_owned(), b"./bin.000010\n".to_vec())]);
    }
}
