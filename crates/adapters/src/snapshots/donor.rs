//! Facts about a server that are needed before its data is copied.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use backstop_engine::datadir_files::{LogFiles, ServerFiles};
use backstop_engine::ports::MysqldControl;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::ids::ServerUuid;
use backstop_types::server::ServerVersion;

use crate::mysql::connection::Connection;
use crate::mysql::server_facts;

/// A server on this host, and the paths of its files.
#[derive(Debug, Clone)]
pub struct Donor {
    /// `@@server_uuid`, equal to that of the data directory's `auto.cnf`.
    pub uuid: ServerUuid,
    /// `@@version`.
    pub version: ServerVersion,
    /// Its data directory, without symbolic links.
    pub datadir: PathBuf,
    /// Process id.
    pub pid: u32,
    /// User that the server runs as.
    pub uid: u32,
    /// That user's group.
    pub gid: u32,
    variables: BTreeMap<String, String>,
}

/// Selects the system variables that a snapshot depends on.
const DONOR_VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('datadir', 'hostname', 'server_uuid', 'version', \
    'innodb_page_size', 'innodb_data_file_path', 'innodb_checksum_algorithm', 'lower_case_table_names', \
    'innodb_data_home_dir', 'innodb_undo_directory', 'innodb_log_group_home_dir', 'innodb_doublewrite_dir', \
    'log_bin', 'log_bin_basename', 'log_bin_index', 'relay_log_basename', 'relay_log_index', 'log_error', \
    'general_log_file', 'slow_query_log_file', 'pid_file', 'plugin_dir', 'socket', 'sync_binlog', \
    'innodb_flush_log_at_trx_commit', 'innodb_use_native_aio', 'super_read_only', 'replica_preserve_commit_order', \
    'slave_preserve_commit_order', 'binlog_encryption', 'log_replica_updates', 'log_slave_updates')";

/// Selects tables that are empty after each restart.
const EMPTIED_TABLES: &str = "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME), ENGINE FROM information_schema.TABLES \
    WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE IN ('MEMORY', 'BLACKHOLE') \
    AND TABLE_SCHEMA NOT IN ('performance_schema', 'information_schema') ORDER BY TABLE_SCHEMA, TABLE_NAME LIMIT 1000";

const DATA_FILES: &str = "SELECT FILE_NAME, FILE_TYPE = 'UNDO LOG' FROM information_schema.FILES \
    WHERE FILE_TYPE IN ('TABLESPACE', 'UNDO LOG')";

/// Selects what is encrypted, tables first: to decrypt them is the most work.
const ENCRYPTED_TABLESPACES: &str = "SELECT NAME, SPACE_TYPE FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y' \
    ORDER BY SPACE_TYPE = 'Undo', NAME LIMIT 1";

/// A file that holds tables or undo logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Path as the server names it.
    pub path: PathBuf,
    /// True if it holds undo logs.
    pub is_undo: bool,
    /// True if its path leads out of the data directory. A path that does not may still lead out of
    /// it by a symbolic link.
    pub is_outside: bool,
}

/// Something that a server encrypts at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedSpace {
    /// Name for messages: `tablespace shop/orders`, `the redo log`, …
    pub what: String,
    /// Instruction that decrypts it: the rest of a sentence.
    pub undo: String,
}

impl Donor {
    /// Reads the facts from the server, and checks that it runs on this host.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Refused`] with the host's name if the server runs elsewhere, and
    /// [`ErrorKind::Denied`] if its data directory cannot be read.
    pub async fn inspect(session: &mut Connection, servers: &dyn MysqldControl) -> Result<Self> {
        let variables: Vec<(String, String)> = session.query(DONOR_VARIABLES).await?;
        let variables: BTreeMap<_, _> = variables.into_iter().collect();
        let get = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        let doing = format!("cannot inspect server {}", session.address());
        let uuid: ServerUuid = get("server_uuid").parse().failed(&doing)?;
        let version = get("version").parse().failed(&doing)?;
        let datadir = local_datadir(Path::new(get("datadir")), uuid, get("hostname"))?;
        let Some(pid) = servers.running_on(&datadir).await? else {
            return Err(not_on_this_host(&datadir, get("hostname"), "no server process here has it open"));
        };
        let process = std::fs::metadata(format!("/proc/{pid}")).failed(&doing)?;
        Ok(Self { uuid, version, datadir, pid, uid: process.uid(), gid: process.gid(), variables })
    }

    /// Returns a system variable's value; empty if this version has no such variable.
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Returns true if a system variable is ON.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.variable(name), "ON" | "1")
    }

    /// Returns a path from a system variable, as the server sees it: relative paths are relative to
    /// the data directory.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match self.variable(name) {
            "" | "stderr" => None,
            path => Some(canonical_path(&self.datadir.join(path))),
        }
    }

    /// Returns the paths of the server's logs in an image of the data directory at `root`. Binary
    /// logs only count if the image has them: `binlogs` is their folder in it.
    pub fn files_in(&self, root: &Path, binlogs: Option<&Path>) -> ServerFiles {
        let moved = |name: &str| {
            let path = self.path(name)?;
            Some(root.join(path.strip_prefix(&self.datadir).ok()?))
        };
        let series = |base: &str, index: &str| Some(LogFiles { base: moved(base)?, index: moved(index)? });
        let in_folder = |folder: &Path| {
            let name = |variable: &str| Some(folder.join(self.path(variable)?.file_name()?));
            Some(LogFiles { base: name("log_bin_basename")?, index: name("log_bin_index")? })
        };
        let others = ["log_error", "general_log_file", "slow_query_log_file", "pid_file", "socket"];
        ServerFiles {
            binlogs: binlogs.and_then(in_folder),
            relay_logs: series("relay_log_basename", "relay_log_index"),
            others: others.into_iter().filter_map(moved).collect(),
        }
    }
}

/// Returns the tables that a restart empties, with the engine.
pub async fn emptied_tables(session: &mut Connection) -> Result<Vec<(String, String)>> {
    Ok(session.query(EMPTIED_TABLES).await?)
}

/// Returns every file that holds tables or undo logs.
pub async fn data_files(session: &mut Connection) -> Result<Vec<DataFile>> {
    let datadir: String = session.one("SELECT @@datadir").await?;
    let files: Vec<(String, bool)> = session.query(DATA_FILES).await?;
    let file = |(path, is_undo): (String, bool)| {
        let is_outside = is_outside(Path::new(&datadir), Path::new(&path));
        DataFile { path: path.into(), is_undo, is_outside }
    };
    Ok(files.into_iter().map(file).collect())
}

/// Returns one thing that is encrypted, if anything is.
pub async fn encrypted(session: &mut Connection) -> Result<Option<EncryptedSpace>> {
    let space: Option<(String, String)> = session.first(ENCRYPTED_TABLESPACES).await?;
    if let Some((name, kind)) = space {
        return Ok(Some(encrypted_space(&name, &kind)));
    }
    let redo: Option<String> = server_facts::variable(session, "innodb_redo_log_encrypt").await?;
    Ok(redo.is_some_and(|value| value == "ON").then(|| EncryptedSpace {
        what: "the redo log".to_owned(),
        undo: "run `SET PERSIST innodb_redo_log_encrypt = OFF`".to_owned(),
    }))
}

fn encrypted_space(name: &str, kind: &str) -> EncryptedSpace {
    let undo = match (kind, name) {
        ("Undo", _) => {
            "run `SET PERSIST innodb_undo_log_encrypt = OFF` (undo logs are decrypted as they are truncated)"
                .to_owned()
        }
        ("General" | "System", _) => format!("decrypt it (`ALTER TABLESPACE {name} ENCRYPTION = 'N'`)"),
        _ => "decrypt such tables (`ALTER TABLE … ENCRYPTION = 'N'`)".to_owned(),
    };
    EncryptedSpace { what: format!("tablespace {name}"), undo }
}

/// Returns the data directory if it is on this host: its `auto.cnf` must name the server.
fn local_datadir(datadir: &Path, uuid: ServerUuid, host: &str) -> Result<PathBuf> {
    let auto = datadir.join("auto.cnf");
    let text = match std::fs::read_to_string(&auto) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let message = format!("cannot read {}: {error}", auto.display());
            return Err(Error::new(ErrorKind::Denied, message)
                .hint("run Backstop as root or as the user that the server runs as"));
        }
        Err(error) => return Err(not_on_this_host(datadir, host, &error.to_string())),
    };
    let found = text.lines().find_map(|line| line.trim().strip_prefix("server-uuid="));
    match found.and_then(|text| text.parse::<ServerUuid>().ok()) {
        Some(found) if found == uuid => {
            std::fs::canonicalize(datadir).failed(format!("cannot resolve {}", datadir.display()))
        }
        Some(found) => {
            Err(not_on_this_host(datadir, host, &format!("here that directory belongs to server {found}")))
        }
        None => Err(not_on_this_host(datadir, host, "its auto.cnf here names no server")),
    }
}

fn not_on_this_host(datadir: &Path, host: &str, why: &str) -> Error {
    Error::refused(format!(
        "the server's data directory {} is on host {host}, not on this host: {why}",
        datadir.display()
    ))
    .hint(format!("run this command on {host}"))
}

/// Returns the path without `.` and `..` parts and, if it exists, without symbolic links.
fn canonical_path(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| normalized_path(path))
}

/// Returns true if a path as the server names it leads out of the data directory, which may be
/// named by its real path.
fn is_outside(datadir: &Path, path: &Path) -> bool {
    let named = normalized_path(&datadir.join(path));
    !named.starts_with(normalized_path(datadir)) && !named.starts_with(canonical_path(datadir))
}

/// Returns the path without `.` and `..` parts. Symbolic links stay.
fn normalized_path(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_leading_out_of_the_datadir_are_outside() {
        let outside = |path: &str| is_outside(Path::new("/data/mysql/"), Path::new(path));
        assert!(!outside("./shop/t.ibd") && !outside("ibdata1") && !outside("/data/mysql/shop/t.ibd"));
        assert!(outside("/else/t.ibd") && outside("../undo/undo_001") && outside("/data/mysql2/t.ibd"));
    }

    #[test]
    fn hint_matches_the_encrypted_space() {
        assert!(encrypted_space("innodb_undo_001", "Undo").undo.contains("innodb_undo_log_encrypt"));
        assert!(encrypted_space("mysql", "General").undo.contains("ALTER TABLESPACE mysql"));
        assert!(encrypted_space("shop/orders", "Single").undo.contains("ALTER TABLE …"));
    }
}
