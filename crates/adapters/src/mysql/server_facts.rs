//! Facts about a server: its data paths, its durability, its events, plugins and variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_policy::freeze_mode::ServerFacts;
use mysql_async::prelude::FromValue;

use super::connection::Connection;
use super::dialect::quote_text;
use super::error::{SqlCause, SqlError};

/// A path where a server keeps data that a backup needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataPath {
    /// `data directory`, `redo log`, `binary log`, `tablespace`, …
    pub what: &'static str,
    /// Absolute path on the server's host, as the server sees it.
    pub path: PathBuf,
}

const FACT_VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'datadir', 'log_bin', 'log_bin_basename', \
     'innodb_log_group_home_dir', 'innodb_undo_directory', 'innodb_data_home_dir', 'innodb_doublewrite_dir', \
     'sync_binlog', 'innodb_flush_log_at_trx_commit')";

/// Variables that name folders. An empty one means the data directory.
const FOLDER_VARIABLES: [(&str, &str); 4] = [
    ("redo log", "innodb_log_group_home_dir"),
    ("undo log", "innodb_undo_directory"),
    ("system tablespace", "innodb_data_home_dir"),
    ("doublewrite buffer", "innodb_doublewrite_dir"),
];

const DATA_FILES: &str = "SELECT FILE_NAME FROM information_schema.FILES \
     WHERE ENGINE = 'InnoDB' AND FILE_TYPE IN ('TABLESPACE', 'UNDO LOG') AND FILE_NAME IS NOT NULL";

/// Selects tables whose data InnoDB's tools do not see: every engine but InnoDB and those whose
/// tables a restart empties, in every schema that users may write to. That includes `mysql` and
/// `sys`: CLONE makes a MyISAM table there as empty as anywhere, and a snapshot without a lock may
/// tear it. The server's own two log tables are CSV and are left out.
const FOREIGN_TABLES: &str = "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME), COALESCE(ENGINE, 'unknown') \
     FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
     AND COALESCE(ENGINE, '') NOT IN ('InnoDB', 'MEMORY', 'BLACKHOLE') \
     AND TABLE_SCHEMA NOT IN ('performance_schema', 'information_schema') \
     AND NOT (TABLE_SCHEMA = 'mysql' AND TABLE_NAME IN ('general_log', 'slow_log')) \
     ORDER BY TABLE_SCHEMA, TABLE_NAME LIMIT 1000";

const ENABLED_EVENTS: &str = "SELECT CONCAT(EVENT_SCHEMA, '.', EVENT_NAME) FROM information_schema.EVENTS \
     WHERE STATUS = 'ENABLED' ORDER BY EVENT_SCHEMA, EVENT_NAME";

/// Returns every path where the server keeps data: the data directory first, then each file or
/// folder outside it. Needs the privilege PROCESS.
///
/// # Errors
/// See [`SqlCause`].
pub async fn data_paths(session: &mut Connection) -> Result<Vec<DataPath>, SqlError> {
    let variables = variables(session).await?;
    let files: Vec<String> = session.query(DATA_FILES).await?;
    Ok(paths_outside_datadir(&variables, &files))
}

/// Reads the facts that decide which freeze the server allows. `in_snapshot` returns true for a
/// path that would be in the one atomic snapshot.
///
/// # Errors
/// See [`SqlCause`].
pub async fn server_facts(
    session: &mut Connection,
    in_snapshot: impl Fn(&Path) -> bool,
) -> Result<ServerFacts, SqlError> {
    let places = data_paths(session).await?;
    let variables = variables(session).await?;
    let outside = places.iter().filter(|place| !in_snapshot(&place.path));
    let other_tables = foreign_tables(session).await?;
    let name = |(table, engine)| format!("{table} ({engine})");
    Ok(ServerFacts {
        version: read(session, &variables, "version", |text| text.parse().ok())?,
        other_tables: other_tables.into_iter().map(name).collect(),
        log_bin: variables.get("log_bin").is_some_and(|value| value == "ON"),
        sync_binlog: read(session, &variables, "sync_binlog", |text| text.parse().ok())?,
        flush_log_at_trx_commit: read(session, &variables, "innodb_flush_log_at_trx_commit", |text| {
            text.parse().ok()
        })?,
        outside: outside.map(|place| format!("{} {}", place.what, place.path.display())).collect(),
    })
}

/// Returns the tables whose data is not in InnoDB, as `schema.table`, with the engine.
///
/// # Errors
/// See [`SqlCause`].
pub async fn foreign_tables(session: &mut Connection) -> Result<Vec<(String, String)>, SqlError> {
    session.query(FOREIGN_TABLES).await
}

/// Returns the enabled events, as `schema.event`: on a recovered server they would run. Needs the
/// privilege EVENT.
///
/// # Errors
/// See [`SqlCause`].
pub async fn enabled_events(session: &mut Connection) -> Result<Vec<String>, SqlError> {
    session.query(ENABLED_EVENTS).await
}

/// Returns true if a plugin (`clone`, …) is loaded and active.
///
/// # Errors
/// See [`SqlCause`].
pub async fn is_plugin_active(session: &mut Connection, name: &str) -> Result<bool, SqlError> {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE' AND PLUGIN_NAME = {}",
        quote_text(name)
    );
    Ok(session.one::<u64>(&sql).await? > 0)
}

/// Returns a global variable's value; `None` if this version or an absent plugin does not have it.
///
/// # Errors
/// See [`SqlCause`].
pub async fn variable<T: FromValue + Send + 'static>(
    session: &mut Connection,
    name: &str,
) -> Result<Option<T>, SqlError> {
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name = {}", quote_text(name));
    let row: Option<(String, T)> = session.first(&sql).await?;
    Ok(row.map(|(_, value)| value))
}

async fn variables(session: &mut Connection) -> Result<BTreeMap<String, String>, SqlError> {
    Ok(session.query::<(String, String)>(FACT_VARIABLES).await?.into_iter().collect())
}

fn paths_outside_datadir(variables: &BTreeMap<String, String>, files: &[String]) -> Vec<DataPath> {
    let get = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let datadir = normalized_path(Path::new(get("datadir")));
    let mut found: Vec<DataPath> = FOLDER_VARIABLES
        .iter()
        .filter(|(_, variable)| !get(variable).is_empty())
        .map(|&(what, variable)| DataPath { what, path: normalized_path(&datadir.join(get(variable))) })
        .collect();
    if get("log_bin") == "ON" {
        found.push(DataPath {
            what: "binary log",
            path: normalized_path(&datadir.join(get("log_bin_basename"))),
        });
    }
    found.extend(
        files.iter().map(|file| DataPath { what: "tablespace", path: normalized_path(&datadir.join(file)) }),
    );
    found.retain(|place| !place.path.starts_with(&datadir));
    found.sort();
    found.dedup();
    found.insert(0, DataPath { what: "data directory", path: datadir });
    found
}

/// Returns a path without `.` and `..`. Symbolic links stay: the server may be on another host.
fn normalized_path(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn read<T>(
    session: &Connection,
    variables: &BTreeMap<String, String>,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, SqlError> {
    variables.get(name).and_then(|text| parse(text)).ok_or_else(|| SqlError {
        doing: format!("read the variables of {}", session.address()),
        cause: SqlCause::Shape(format!("{name} is missing or cannot be read")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_outside_the_data_directory_are_named() {
        let variables = [
            ("datadir", "/data/mysql/"),
            ("innodb_log_group_home_dir", "./"),
            ("innodb_undo_directory", "../undo"),
            ("innodb_data_home_dir", ""),
            ("log_bin", "ON"),
            ("log_bin_basename", "/logs/binlog"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let files = ["./shop/t1.ibd", "/else/t2.ibd", "/data/mysql/x.ibd"].map(str::to_owned);
        let found: Vec<_> = paths_outside_datadir(&variables, &files)
            .iter()
            .map(|place| format!("{} {}", place.what, place.path.display()))
            .collect();
        let expected = [
            "data directory /data/mysql",
            "binary log /logs/binlog",
            "tablespace /else/t2.ibd",
            "undo log /data/undo",
        ];
        assert_eq!(found, expected);
    }
}
