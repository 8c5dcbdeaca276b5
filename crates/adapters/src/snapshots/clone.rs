//! MySQL's `CLONE LOCAL DATA DIRECTORY`: works on any file system and pins nothing, but doubles the
//! disk space and slows down commits while it runs.
//!
//! CLONE copies InnoDB tables and silently empties all others, so those are refused unless a
//! restart empties them too. It follows symbolic links, and puts undo logs into the copy wherever
//! the donor keeps them. If this process dies, the server continues to clone; the statement names
//! the run's folder, by which a later run finds and kills it.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::ports::{
    ChangedFiles, Snapshot, SnapshotData, SnapshotDir, SnapshotProvider, TakenSnapshot,
};
use backstop_policy::table_check::source_finding;
use backstop_types::backup::Lineage;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::finding::Finding;
use backstop_types::freeze::{FreezeMode, FreezeReport};
use backstop_types::ids::BackupId;
use backstop_types::progress::{Progress, ProgressUnit};
use backstop_types::server::Position;
use backstop_types::topology::Role;

use super::donor::{self, DataFile, Donor, EncryptedSpace};
use super::{SnapshotSource, cleanup, clone_recovery, disk_space, refuse_problems, work_dir};
use crate::mysql::connection::Connection;
use crate::mysql::dialect::quote_text;
use crate::mysql::error::{SqlCause, SqlError};
use crate::mysql::{server_facts, tablespaces};

/// Interval between two reads of the clone's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// The slowest rate of copying that is waited for, in bytes per second.
const MIN_CLONE_BYTES_PER_SECOND: u64 = 4 << 20;

/// Copies one instance by CLONE.
pub struct CloneProvider {
    source: SnapshotSource,
}

impl CloneProvider {
    /// Creates a provider for this instance.
    pub fn new(source: SnapshotSource) -> Self {
        Self { source }
    }

    async fn donor(&self) -> Result<(Connection, Donor)> {
        let mut session = self.source.connect().await?;
        let donor = Donor::inspect(&mut session, self.source.place.servers.as_ref()).await?;
        Ok((session, donor))
    }

    /// Reads from the server the reasons against cloning it, wherever it runs.
    ///
    /// # Errors
    /// Returns an error if the server does not answer, or denies access.
    pub async fn survey(&self) -> Result<Vec<Finding>> {
        let mut session = self.source.connect().await?;
        let findings = self.told(&mut session).await;
        session.close().await;
        findings
    }

    async fn told(&self, session: &mut Connection) -> Result<Vec<Finding>> {
        let mut findings: Vec<_> = plugin(session).await?.into_iter().collect();
        findings.extend(foreign_tables(&server_facts::foreign_tables(session).await?));
        findings.extend(emptied_tables(&donor::emptied_tables(session).await?));
        findings.extend(outside_files(&donor::data_files(session).await?));
        findings.extend(source_finding(&self.source.endpoint, &tablespaces::broken_tables(session).await?));
        findings.extend(encryption(donor::encrypted(session).await?.as_ref()));
        Ok(findings)
    }

    async fn findings(&self, session: &mut Connection, donor: &Donor) -> Result<Vec<Finding>> {
        let mut findings = self.told(session).await?;
        findings.extend(self.program(donor).await?);
        findings.extend(self.work_dir(donor));
        let cost =
            "while CLONE runs, commits on the source are slower, and its disk reads and writes all data once";
        findings.push(match self.source.role {
            Role::Primary => Finding::warning(
                "clone-cost",
                cost,
                "run backups on a replica, or put the data directory on btrfs",
            ),
            Role::Candidate | Role::Replica => Finding::ok("clone-cost", cost),
        });
        Ok(findings)
    }

    /// Checks that the program that is to start the copy has exactly the donor's version: a newer
    /// one would change the files.
    async fn program(&self, donor: &Donor) -> Result<Option<Finding>> {
        let found = self.source.place.servers.version().await?;
        let donor = &donor.version;
        let same = (found.major, found.minor, found.patch) == (donor.major, donor.minor, donor.patch);
        Ok((!same).then(|| {
            Finding::problem(
                "server-program-version",
                format!("the server program on this host has version {found}, the running server {donor}"),
                "set mysql.server to the program of the running server",
            )
        }))
    }

    fn work_dir(&self, donor: &Donor) -> Vec<Finding> {
        let work_dir = &self.source.place.work_dir;
        let mut findings: Vec<_> = disk_space::check_reachable(work_dir, donor).into_iter().collect();
        let longest = work_dir.join("20261123T022133Z-9f3a04c1/s").as_os_str().len();
        if longest > clone_recovery::MAX_SOCKET_PATH_BYTES {
            findings.push(Finding::problem(
                "work-dir-too-long",
                format!("the path of a socket under {} would exceed Linux's limit", work_dir.display()),
                format!(
                    "set snapshot.work_dir to a path that is {} bytes shorter",
                    longest - clone_recovery::MAX_SOCKET_PATH_BYTES
                ),
            ));
        }
        let need = disk_space::tree_size(&donor.datadir);
        findings.push(disk_space::check_space(work_dir, need + need / 10));
        findings
    }

    /// Clones into the run's folder, and reports progress.
    async fn clone_into(&self, mut session: Connection, donor: &Donor, target: &Path) -> Result<()> {
        let deadline =
            Duration::from_secs(600 + disk_space::tree_size(&donor.datadir) / MIN_CLONE_BYTES_PER_SECOND);
        let sql = format!("CLONE LOCAL DATA DIRECTORY = {}", quote_text(&target.to_string_lossy()));
        let done = tokio::select! {
            biased;
            done = session.run_within(&sql, deadline) => done,
            never = self.report_progress() => match never {},
        };
        session.close().await;
        done.map_err(|error| explain(error, target))
    }

    /// Reports the clone's progress while it is polled. If a read fails, that report is skipped.
    async fn report_progress(&self) -> std::convert::Infallible {
        let mut session = None;
        loop {
            self.source.ctx.host.clock.sleep(PROGRESS_INTERVAL).await;
            if session.is_none() {
                session = self.source.connect().await.ok();
            }
            let Some(asked) = session.as_mut() else { continue };
            match progress(asked).await {
                Ok(Some(progress)) => self.source.ctx.reporter.progress(progress),
                Ok(None) => {}
                Err(_) => session = None,
            }
        }
    }
}

#[async_trait]
impl SnapshotProvider for CloneProvider {
    fn provider(&self) -> &'static str {
        "clone"
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let (mut session, donor) = self.donor().await?;
        let findings = self.findings(&mut session, &donor).await;
        session.close().await;
        findings
    }

    async fn take(&self, run: &BackupId) -> Result<TakenSnapshot> {
        cleanup::clear_dead_runs(&self.source).await?;
        let (mut session, donor) = self.donor().await?;
        refuse_problems(&self.source.endpoint, &self.findings(&mut session, &donor).await?)?;
        let encrypted = donor::encrypted(&mut session).await?;
        let ctx = &self.source.ctx;
        let path = work_dir::create(&self.source.place.work_dir, run, donor.uid, donor.gid)?;
        ctx.step("clone", self.clone_into(session, &donor, &clone_recovery::datadir(&path))).await?;
        let taken_at = ctx.host.clock.now();
        let proven = ctx.step("prove-copy", clone_recovery::recover_clone(&self.source, &donor, &path)).await;
        let proven = proven.map_err(|error| keyring_hint(error, encrypted.as_ref()))?;
        let broken_tables =
            clone_recovery::tables_broken_on_source(&self.source, proven.broken_tables).await?;
        Ok(TakenSnapshot {
            snapshot: Snapshot { run: run.clone(), path },
            position: Position { gtid_executed: proven.gtid_executed, ..Position::default() },
            freeze: FreezeReport { mode: FreezeMode::None, held_ms: 0.0, waited_ms: 0.0 },
            lineage: Lineage {
                server_uuid: donor.uuid,
                volume: "clone".to_owned(),
                generation: None,
                mark: None,
            },
            taken_at,
            broken_tables,
        })
    }

    async fn open(&self, snapshot: &Snapshot) -> Result<SnapshotData> {
        let root = clone_recovery::datadir(&snapshot.path);
        let doing = format!("cannot open snapshot {}", root.display());
        std::fs::read_dir(&root).failed(doing)?;
        Ok(SnapshotData::Tree(SnapshotDir { root, files: Default::default() }))
    }

    async fn release(&self, snapshot: &Snapshot) -> Result<()> {
        cleanup::release(&self.source, snapshot).await
    }

    async fn list(&self) -> Result<Vec<Snapshot>> {
        work_dir::list(&self.source.place.work_dir)
    }

    /// Each clone is written in full: no file system knows which blocks it shares with an earlier
    /// one.
    async fn changes(&self, _: &Snapshot, _: &Lineage) -> Result<Option<ChangedFiles>> {
        Ok(None)
    }
}

async fn plugin(session: &mut Connection) -> Result<Option<Finding>> {
    let status: Option<String> = session
        .first("SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'")
        .await?;
    if status.as_deref() == Some("ACTIVE") {
        return Ok(None);
    }
    let read_only: (u8, u8) = session.one("SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only").await?;
    let install = "INSTALL PLUGIN clone SONAME 'mysql_clone.so'";
    // A read-only server refuses INSTALL PLUGIN (1290), so both variables are off for that one
    // statement.
    let lift = "SET GLOBAL read_only = OFF";
    let fix = match read_only {
        (0, _) => vec![install],
        (_, 0) => vec![lift, install, "SET GLOBAL read_only = ON"],
        _ => vec![lift, install, "SET GLOBAL super_read_only = ON"],
    };
    let todo = format!(
        "run `{}` on it (or start it with plugin-load-add=mysql_clone.so)",
        fix.iter().map(|sql| format!("{sql};")).collect::<Vec<_>>().join(" ")
    );
    Ok(Some(
        Finding::problem("clone-plugin-missing", "the clone plugin is not loaded on the source", todo)
            .fixed_by(fix),
    ))
}

fn foreign_tables(tables: &[(String, String)]) -> Option<Finding> {
    let (first, engine) = tables.first()?;
    let others = match tables.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more: {})", names(&tables[1..])),
    };
    Some(Finding::problem(
        "table-not-innodb",
        format!("table {first} is {engine}{others}: CLONE would copy it empty"),
        "convert such tables (`ALTER TABLE … ENGINE = InnoDB`) or drop them, or put the data directory on btrfs",
    ))
}

/// Reports tables that a restart empties: the backup loses nothing, since a restart of the source
/// empties them too.
fn emptied_tables(tables: &[(String, String)]) -> Option<Finding> {
    let (first, engine) = tables.first()?;
    let others = if tables.len() > 1 { format!(" (also: {})", names(&tables[1..])) } else { String::new() };
    Some(Finding::warning(
        "table-without-rows",
        format!("table {first} is {engine}{others}: it is empty after a recovery, as after each restart"),
        "convert it (`ALTER TABLE … ENGINE = InnoDB`) to keep its rows",
    ))
}

fn names(tables: &[(String, String)]) -> String {
    let shown: Vec<_> = tables.iter().take(10).map(|(table, _)| table.as_str()).collect();
    format!("{}{}", shown.join(", "), if tables.len() > 10 { ", …" } else { "" })
}

/// Refuses tablespaces with an absolute path: CLONE writes them to that same path, which is the
/// donor's own file. CLONE puts undo logs into the copy's data directory.
fn outside_files(files: &[DataFile]) -> Option<Finding> {
    let outside: Vec<_> = files.iter().filter(|file| !file.is_undo && file.is_outside).collect();
    let first = outside.first()?;
    let todo = if first.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ibdata")) {
        "stop the server, move the file into the data directory, remove `innodb_data_home_dir` and the path in \
         `innodb_data_file_path` from its option file, start it"
    } else {
        "move the table into the data directory: recreate it without DATA DIRECTORY (a general tablespace: without a path) and \
         copy its rows"
    };
    Some(Finding::problem(
        "tablespace-outside",
        format!(
            "{} of the server's data files are outside its data directory, for example {}",
            outside.len(),
            first.path.display()
        ),
        todo,
    ))
}

/// Reports encrypted data. Only the start of the copy shows if the server program has the keyring.
fn encryption(encrypted: Option<&EncryptedSpace>) -> Option<Finding> {
    encrypted.map(|encrypted| {
        Finding::warning(
            "tablespace-encrypted",
            format!("{} is encrypted: the copy and each recovered server start only with the keyring", encrypted.what),
            format!(
                "set `mysql.server` to a program that loads the keyring, here and on hosts that recover servers, or {}",
                encrypted.undo
            ),
        )
    })
}

/// Adds a hint to the error of a copy of encrypted data that does not start: the missing keyring is
/// the likely cause.
fn keyring_hint(error: Error, encrypted: Option<&EncryptedSpace>) -> Error {
    let Some(encrypted) = encrypted else { return error };
    if error.kind != ErrorKind::Failed {
        return error;
    }
    Error::refused(format!("cannot use the copy: {} is encrypted: {}", encrypted.what, error.message)).hint(format!(
        "set `mysql.server` to a program that loads the donor's keyring (a global component manifest beside it), or {}, or back up \
         another member",
        encrypted.undo
    ))
}

/// Returns the progress of the running clone: bytes of all its stages.
async fn progress(session: &mut Connection) -> Result<Option<Progress>, SqlError> {
    let sums: Option<(Option<u64>, Option<u64>)> = session
        .first(
            "SELECT CAST(SUM(DATA) AS UNSIGNED), CAST(SUM(ESTIMATE) AS UNSIGNED) FROM performance_schema.clone_progress",
        )
        .await?;
    Ok(sums.and_then(|(done, total)| Some(Progress { done: done?, total, unit: ProgressUnit::Bytes })))
}

fn explain(error: SqlError, target: &Path) -> Error {
    let hint = match &error.cause {
        SqlCause::Server(server) if server.message.contains("errno: 13") || server.code == 1006 => {
            Some(format!(
                "give the server's user write access to {} (file modes, AppArmor, SELinux), or set snapshot.work_dir",
                target.display()
            ))
        }
        // Error 3873: CLONE itself found too little space.
        SqlCause::Server(server) if server.code == 3873 || server.message.contains("errno: 28") => {
            Some("free space there, or set snapshot.work_dir to another file system".to_owned())
        }
        SqlCause::Server(server) if server.code == 3634 => {
            Some("wait for the other CLONE on the source".to_owned())
        }
        _ => None,
    };
    let failure = Error::from(error).during("cannot clone the source");
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
