//! Starts a finished clone once: only the started copy knows its GTID set, and after a clean
//! shutdown it starts in seconds when it is restored.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_engine::ports::MysqldStart;
use backstop_policy::table_check::describe_tables;
use backstop_types::backup::BrokenTable;
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use tokio::process::Command;

use super::SnapshotSource;
use super::donor::Donor;
use crate::command;
use crate::mysql::connection::{Connection, Connector, Login};
use crate::mysql::{server_facts, tablespaces};

/// Limit for the copy to start: it applies the redo log that was written while it was made.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(1800);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(600);

/// Longest path of a Unix socket on Linux, in bytes (`sun_path` without its closing zero).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Settings that the data files were created with: the copy cannot be opened with others.
const FORMAT_SETTINGS: [&str; 4] =
    ["innodb_page_size", "lower_case_table_names", "innodb_data_file_path", "innodb_checksum_algorithm"];

/// Facts read from a started copy.
#[derive(Debug)]
pub struct RecoveredClone {
    /// Transactions that the copy holds.
    pub gtid_executed: GtidSet,
    /// Tables of the copy's dictionary whose file is missing.
    pub broken_tables: Vec<BrokenTable>,
}

/// Returns the data directory of a run's copy.
pub fn datadir(run_dir: &Path) -> PathBuf {
    run_dir.join("data")
}

/// Returns the socket on which the copy listens while it runs.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("s")
}

/// Starts the copy in isolation, reads the transactions that it holds and the tables that it lacks,
/// and shuts it down.
///
/// # Errors
/// Returns an error if the copy does not start, if MySQL did not finish the clone, if the position
/// in the clone's own files differs from the transactions that the started copy holds, or if the
/// copy holds a table that CLONE does not copy.
pub async fn recover_clone(source: &SnapshotSource, donor: &Donor, run_dir: &Path) -> Result<RecoveredClone> {
    let start = clone_layout(donor, run_dir).await?;
    let pid = source.place.servers.start(&start).await?;
    source.place.servers.wait_ready(&start, pid, STARTUP_TIMEOUT).await?;
    let held = read_clone(&start.socket).await;
    source.place.servers.stop(&start.datadir, SHUTDOWN_TIMEOUT).await?;
    held
}

async fn clone_layout(donor: &Donor, run_dir: &Path) -> Result<MysqldStart> {
    let start = MysqldStart {
        defaults_file: run_dir.join("my.cnf"),
        datadir: datadir(run_dir),
        socket: socket(run_dir),
        log: run_dir.join("mysqld.log"),
        user: user_name(donor.uid).await?,
        // The clone plugin is in the directory from which the donor loaded its own.
        args: vec![format!("--plugin-dir={}", donor.variable("plugin_dir"))],
    };
    let doing = format!("cannot write {}", start.defaults_file.display());
    tokio::fs::write(&start.defaults_file, options(donor, &start, run_dir)).await.failed(doing)?;
    Ok(start)
}

/// Returns the option file. No account is known and none is needed: the copy only listens on a
/// socket in a folder that only the server's user and root can enter. The copy runs no events and
/// no replication, and is read-only.
fn options(donor: &Donor, start: &MysqldStart, run_dir: &Path) -> String {
    let mut text = format!(
        "[mysqld]\ndatadir = \"{}\"\nsocket = \"{}\"\nlog_error = \"{}\"\npid_file = \"{}\"\n",
        start.datadir.display(),
        start.socket.display(),
        start.log.display(),
        run_dir.join("pid").display(),
    );
    text.push_str(
        "skip_networking\nskip_grant_tables\nmysqlx = OFF\nplugin_load_add = mysql_clone.so\n\
         skip_log_bin\nserver_id = 1\ngtid_mode = ON\nenforce_gtid_consistency = ON\nskip_replica_start\n\
         read_only = ON\nsuper_read_only = ON\nevent_scheduler = OFF\nsecure_file_priv = NULL\n\
         upgrade = NONE\ninnodb_buffer_pool_size = 128M\nloose_innodb_buffer_pool_load_at_startup = OFF\n\
         loose_innodb_buffer_pool_dump_at_shutdown = OFF\ninnodb_doublewrite = OFF\n\
         loose_auto_generate_certs = OFF\nloose_sha256_password_auto_generate_rsa_keys = OFF\n\
         loose_caching_sha2_password_auto_generate_rsa_keys = OFF\n",
    );
    for name in FORMAT_SETTINGS {
        match donor.variable(name) {
            "" => {}
            value => {
                let _ = writeln!(text, "{name} = {value}");
            }
        }
    }
    text
}

/// Returns the name of a user of this host, or its number if it has no name; `None` if it is the
/// user that runs Backstop.
async fn user_name(uid: u32) -> Result<Option<String>> {
    if uid == rustix::process::geteuid().as_raw() {
        return Ok(None);
    }
    let mut id = Command::new("id");
    id.args(["-nu", "--", &uid.to_string()]);
    let named = command::output(&mut id, Duration::from_secs(10), "cannot look up the server's user").await;
    Ok(Some(named.map_or_else(|_| uid.to_string(), |name| name.trim().to_owned())))
}

/// Returns the tables that neither the copy nor the source can read. A table that only the copy
/// lacks was not copied by CLONE.
///
/// # Errors
/// Returns an error that names the table if the copy lacks a table that the source has, and an
/// error if the source does not answer.
pub async fn tables_broken_on_source(
    source: &SnapshotSource,
    broken: Vec<BrokenTable>,
) -> Result<Vec<BrokenTable>> {
    if broken.is_empty() {
        return Ok(broken);
    }
    let mut session = source.connect().await?;
    let source = tablespaces::broken_tables(&mut session).await;
    session.close().await;
    let source = source?;
    let (alike, lacking): (Vec<_>, Vec<_>) =
        broken.into_iter().partition(|each| source.iter().any(|known| known.table == each.table));
    if lacking.is_empty() {
        return Ok(alike);
    }
    let message = format!("cannot verify the copy: CLONE did not copy tables: {}", describe_tables(&lacking));
    Err(Error::failed(message).hint(
        "find the files of these tables on the source, move them into its data directory, then back up again",
    ))
}

async fn read_clone(socket: &Path) -> Result<RecoveredClone> {
    let login = Login { user: "root".into(), password: String::new().into() };
    let mut session = Connector::with_login(login, None).connect(socket).await?;
    let held = position(&mut session).await;
    let foreign = server_facts::foreign_tables(&mut session).await;
    let broken = tablespaces::broken_tables(&mut session).await;
    session.close().await;
    refuse_foreign(&foreign?)?;
    Ok(RecoveredClone { gtid_executed: held?, broken_tables: broken? })
}

async fn position(session: &mut Connection) -> Result<GtidSet> {
    let doing = "cannot verify the copy";
    let status: Option<(String, i64, Option<String>, Option<String>)> = session
        .first("SELECT STATE, ERROR_NO, ERROR_MESSAGE, GTID_EXECUTED FROM performance_schema.clone_status")
        .await?;
    let Some((state, error, message, claimed)) = status else {
        return Err(Error::failed(format!("{doing}: it has no clone status")));
    };
    if state != "Completed" {
        let message = message.unwrap_or_default();
        return Err(Error::failed(format!(
            "{doing}: MySQL reports the clone as {state}: {message} (error {error})"
        )));
    }
    let held: String = session.one("SELECT @@GLOBAL.gtid_executed").await?;
    let claimed: GtidSet = claimed.unwrap_or_default().parse().failed(doing)?;
    let held: GtidSet = held.parse().failed(doing)?;
    if claimed == held {
        return Ok(held);
    }
    Err(Error::failed(format!(
        "{doing}: the clone reports GTID set {claimed}, and the started copy has {held}"
    )))
}

/// Refuses tables of other engines. The copy's own dictionary names every table, whatever the
/// donor's account may see.
fn refuse_foreign(tables: &[(String, String)]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = tables.iter().map(|(table, engine)| format!("{table} ({engine})")).collect();
    Err(Error::refused(format!(
        "cannot use the copy: it lacks the rows of tables that are not InnoDB: {}",
        names.join(", ")
    ))
    .hint("convert them to InnoDB, or drop them"))
}
