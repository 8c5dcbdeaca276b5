//! Read-only snapshot of the btrfs subvolume that holds the data directory: atomic, within
//! milliseconds.
//!
//! A released snapshot pins nothing: a later increment needs only the parent's generation.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::freeze::{Frozen, freeze_lock_free, freeze_locked};
use backstop_engine::ports::{
    ChangedFiles, Snapshot, SnapshotData, SnapshotDir, SnapshotProvider, TakenSnapshot,
};
use backstop_policy::freeze_mode::{ModeChoice, choose_mode, lock_free_obstacles};
use backstop_policy::table_check::source_finding;
use backstop_types::backup::{BrokenTable, Lineage};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::finding::Finding;
use backstop_types::freeze::FreezeMode;
use backstop_types::ids::BackupId;
use backstop_types::topology::Role;

use super::donor::Donor;
use super::subvolume::{self, Subvolume};
use super::{SnapshotSource, binlog_tail, cleanup, disk_space, refuse_problems, snapshot_dir, work_dir};
use crate::mysql::connection::Connection;
use crate::mysql::freeze_locks::MysqlFreezeSessions;
use crate::mysql::{server_facts, tablespaces};

/// Takes snapshots of one instance's subvolume.
pub struct BtrfsProvider {
    source: SnapshotSource,
    opened: Mutex<BTreeMap<BackupId, SnapshotDir>>,
}

/// Facts that are determined before a snapshot is taken.
struct BtrfsPlan {
    donor: Donor,
    subvolume: Subvolume,
    findings: Vec<Finding>,
    broken: Vec<BrokenTable>,
    mode: Result<ModeChoice>,
}

impl BtrfsProvider {
    /// Creates a provider for this instance.
    pub fn new(source: SnapshotSource) -> Self {
        Self { source, opened: Mutex::default() }
    }

    async fn plan(&self) -> Result<BtrfsPlan> {
        let mut session = self.source.connect().await?;
        let plan = self.plan_with(&mut session).await;
        session.close().await;
        plan
    }

    async fn plan_with(&self, session: &mut Connection) -> Result<BtrfsPlan> {
        let donor = Donor::inspect(session, self.source.place.servers.as_ref()).await?;
        let Some(subvolume) = Subvolume::of(&donor.datadir)? else {
            let message = format!("the data directory {} is not on btrfs", donor.datadir.display());
            return Err(Error::refused(message).hint("set snapshot.provider to \"clone\" or \"auto\""));
        };
        let in_snapshot = |path: &Path| subvolume.holds(path);
        let server = server_facts::server_facts(session, in_snapshot).await?;
        let mut obstacles = lock_free_obstacles(&server);
        obstacles.extend(binlog_tail_obstacles(&donor));
        let mut findings = files_outside_subvolume(&server.outside);
        findings.extend(relocated(&server_facts::data_paths(session).await?));
        findings.extend(nested_entries(&donor.datadir)?);
        findings.extend(self.surroundings(&donor, &subvolume));
        let broken = tablespaces::broken_tables(session).await?;
        findings.extend(source_finding(&self.source.endpoint, &broken));
        let mode = choose_mode(&self.source.freeze, &obstacles, self.source.role);
        findings.push(self.mode_finding(&donor, &mode));
        Ok(BtrfsPlan { donor, subvolume, findings, broken, mode })
    }

    fn surroundings(&self, donor: &Donor, subvolume: &Subvolume) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !rustix::process::geteuid().is_root() {
            findings.push(Finding::problem(
                "btrfs-needs-root",
                "only root can create and delete snapshots of btrfs subvolumes",
                "run Backstop as root, or set snapshot.provider to \"clone\"",
            ));
        }
        if !super::on_path("btrfs") {
            findings.push(Finding::problem(
                "btrfs-program-missing",
                "the program `btrfs` is not on PATH",
                "install btrfs-progs",
            ));
        }
        // While the snapshot exists, blocks that the server overwrites take new space. btrfs
        // allocates in chunks, and is full before the free space that it reports is zero.
        let need = disk_space::tree_size(&donor.datadir) / 20 + (256 << 20);
        findings.push(disk_space::check_space(&subvolume.root, need));
        findings
    }

    fn mode_finding(&self, donor: &Donor, mode: &Result<ModeChoice>) -> Finding {
        match mode {
            Err(error) => Finding::problem("freeze", &error.message, error.hint.clone().unwrap_or_default()),
            Ok(choice) if choice.mode == FreezeMode::LockFree => Finding::ok("freeze", &choice.reason),
            Ok(choice) if self.source.role != Role::Primary && deadlocks(donor) => Finding::problem(
                "replica-commit-order",
                format!(
                    "{}, and on version {} a read lock can deadlock with appliers that preserve the commit order",
                    choice.reason, donor.version
                ),
                "upgrade to 8.0.23 or later, or set replica_preserve_commit_order=OFF, or back up another member",
            ),
            Ok(choice) => Finding::warning(
                "freeze",
                format!("writes are held while the snapshot is taken: {}", choice.reason),
                "correct the named settings to back up without a lock",
            ),
        }
    }

    async fn freeze(&self, plan: &BtrfsPlan) -> Result<Frozen> {
        let sessions = MysqlFreezeSessions::new(self.source.connector.clone(), self.source.endpoint.clone());
        let choice = plan.mode.as_ref().map_err(Error::clone)?;
        if choice.mode == FreezeMode::LockFree {
            return freeze_lock_free(&sessions, &self.source.freeze, &self.source.ctx).await;
        }
        if self.source.role == Role::Primary {
            let text = format!("locking the PRIMARY {}: {}", self.source.endpoint, choice.reason);
            self.source.ctx.reporter.notice(&text);
        }
        freeze_locked(&sessions, &self.source.freeze, &self.source.ctx).await
    }

    /// Returns the paths of the data directory and of its logs in the snapshot.
    fn opened(plan: &BtrfsPlan, snapshot: &Path) -> SnapshotDir {
        let inside = |path: &Path| plan.subvolume.in_snapshot(path, snapshot);
        let root = inside(&plan.donor.datadir).unwrap_or_else(|| snapshot.to_owned());
        let binlogs = plan.donor.is_on("log_bin").then(|| plan.donor.path("log_bin_basename")).flatten();
        let binlogs = binlogs.as_deref().and_then(Path::parent).and_then(inside);
        let files = plan.donor.files_in(&root, binlogs.as_deref());
        SnapshotDir { root, files }
    }

    async fn snapshot(&self, plan: &BtrfsPlan, run: &BackupId, run_dir: &Path) -> Result<TakenSnapshot> {
        let to = snapshot_dir::choose_dir(&plan.subvolume, run, run_dir)?;
        plan.subvolume.add_mark(run.as_str())?;
        plan.subvolume.sync().await?;
        let ctx = &self.source.ctx;
        let frozen = ctx.step("freeze", self.freeze(plan)).await?;
        let position = frozen.position().clone();
        let mode = plan.mode.as_ref().map(|choice| choice.mode).unwrap_or(FreezeMode::Lock);
        let bound = frozen.remaining() + Duration::from_secs(1);
        ctx.step("image", ctx.within(bound, "cannot take the snapshot", plan.subvolume.snapshot(&to)))
            .await?;
        let taken_at = ctx.host.clock.now();
        let freeze = ctx.step("thaw", frozen.thaw()).await?;
        let opened = Self::opened(plan, &to);
        let position = match mode {
            FreezeMode::LockFree => {
                ctx.step("read-tail", binlog_tail::complete_position(position, opened.files.clone())).await?
            }
            _ => position,
        };
        let (source, made) =
            (subvolume::identity(&plan.subvolume.root).await?, subvolume::identity(&to).await?);
        self.remember(run, opened);
        Ok(TakenSnapshot {
            snapshot: Snapshot { run: run.clone(), path: run_dir.to_owned() },
            position,
            freeze,
            lineage: Lineage {
                server_uuid: plan.donor.uuid,
                volume: format!("btrfs:{}", source.uuid),
                generation: Some(made.generation),
                mark: Some(run.to_string()),
            },
            taken_at,
            broken_tables: plan.broken.clone(),
        })
    }

    fn remember(&self, run: &BackupId, opened: SnapshotDir) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), opened);
    }
}

#[async_trait]
impl SnapshotProvider for BtrfsProvider {
    fn provider(&self) -> &'static str {
        "btrfs"
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        match self.plan().await {
            Ok(plan) => Ok(plan.findings),
            Err(error) if error.kind == ErrorKind::Refused => {
                Ok(vec![Finding::problem("btrfs", &error.message, error.hint.unwrap_or_default())])
            }
            Err(error) => Err(error),
        }
    }

    async fn take(&self, run: &BackupId) -> Result<TakenSnapshot> {
        cleanup::clear_dead_runs(&self.source).await?;
        let plan = self.plan().await?;
        refuse_problems(&self.source.endpoint, &plan.findings)?;
        let run_dir = work_dir::create(&self.source.place.work_dir, run, 0, 0)?;
        self.snapshot(&plan, run, &run_dir).await
    }

    async fn open(&self, snapshot: &Snapshot) -> Result<SnapshotData> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&snapshot.run).cloned();
        opened.map(SnapshotData::Tree).ok_or_else(|| {
            Error::failed(format!("cannot open snapshot {}: this process did not take it", snapshot.run))
        })
    }

    async fn release(&self, snapshot: &Snapshot) -> Result<()> {
        cleanup::release(&self.source, snapshot).await
    }

    async fn list(&self) -> Result<Vec<Snapshot>> {
        work_dir::list(&self.source.place.work_dir)
    }

    /// Trusts the file system if it is the same subvolume, if the subvolume still carries the
    /// parent's mark (so that it was not rolled back to before the mark), if its generation has not
    /// decreased, and if no file is exempt from copy-on-write: such files are written in place
    /// without a new generation.
    async fn changes(&self, snapshot: &Snapshot, since: &Lineage) -> Result<Option<ChangedFiles>> {
        let (Some(generation), Some(mark)) = (since.generation, &since.mark) else { return Ok(None) };
        let Some(at) = snapshot_dir::dir_of(&snapshot.path)? else { return Ok(None) };
        let made = subvolume::identity(&at).await?;
        let same = made.parent_uuid.is_some_and(|uuid| since.volume == format!("btrfs:{uuid}"));
        if !same || made.generation < generation || !subvolume::marks(&at)?.contains(mark) {
            return Ok(None);
        }
        let root = self.open(snapshot).await?.tree()?.root;
        let Some(inodes) = copied_on_write(&root)? else { return Ok(None) };
        let Some(mut changed) = subvolume::written_since(&at, generation).await? else { return Ok(None) };
        for inode in inodes {
            changed.entry(inode).or_default();
        }
        Ok(Some(changed))
    }
}

/// Returns true on versions where the read lock can deadlock with appliers that preserve the commit
/// order.
fn deadlocks(donor: &Donor) -> bool {
    !donor.version.at_least(8, 0, 23)
        && (donor.is_on("replica_preserve_commit_order") || donor.is_on("slave_preserve_commit_order"))
}

/// Returns the reasons for which the binary log's tail in a snapshot cannot prove which
/// transactions the snapshot holds.
fn binlog_tail_obstacles(donor: &Donor) -> Vec<String> {
    let off = ["log_replica_updates", "log_slave_updates"].iter().any(|name| donor.variable(name) == "OFF");
    let updates = off
        .then(|| "log_replica_updates is OFF: replicated transactions are not in the binary log".to_owned());
    let encrypted = donor.is_on("binlog_encryption").then(|| "the binary log is encrypted".to_owned());
    [updates, encrypted].into_iter().flatten().collect()
}

fn files_outside_subvolume(paths: &[String]) -> Vec<Finding> {
    let problem = |path: &String| {
        Finding::problem(
            "path-outside",
            format!("the {path} is outside the subvolume of the data directory, so not in the same snapshot"),
            "move it into that subvolume, or set snapshot.provider to \"clone\"",
        )
    };
    paths.iter().map(problem).collect()
}

/// Refuses files that the server knows by an absolute path outside its data directory: they cannot
/// be restored elsewhere, even if they are in the snapshot. Binary logs can, since the server
/// searches them in the data directory.
fn relocated(paths: &[server_facts::DataPath]) -> Vec<Finding> {
    let bound = paths.iter().filter(|path| !["data directory", "binary log"].contains(&path.what));
    bound
        .map(|path| {
            let what = format!("the {} {} is outside the data directory", path.what, path.path.display());
            Finding::problem("tablespace-outside", what, how_to_move_in(path.what))
        })
        .collect()
}

/// Describes the way to move a file into the data directory.
fn how_to_move_in(what: &str) -> String {
    let option = match what {
        "undo log" => "innodb_undo_directory",
        "redo log" => "innodb_log_group_home_dir",
        "doublewrite buffer" => "innodb_doublewrite_dir",
        "system tablespace" => "innodb_data_home_dir",
        _ => {
            return "recreate the table without DATA DIRECTORY and copy its rows".to_owned();
        }
    };
    let other = if matches!(what, "undo log" | "redo log") {
        ", or set snapshot.provider to \"clone\", which includes it"
    } else {
        ""
    };
    format!(
        "stop the server, move its files into the data directory, remove `{option}` from its option file, start it{other}"
    )
}

/// Finds nested subvolumes, mounts and symbolic links in the data directory: their contents are not
/// in the snapshot.
fn nested_entries(datadir: &Path) -> Result<Vec<Finding>> {
    let device = std::fs::metadata(datadir).failed(format!("cannot inspect {}", datadir.display()))?.dev();
    let mut findings = Vec::new();
    walk(datadir, &mut |path, found| {
        let what = match () {
            () if found.is_dir() && found.dev() != device => "another subvolume or a mount",
            () if found.is_symlink() => "a symbolic link",
            () => return found.is_dir(),
        };
        findings.push(Finding::problem(
            "not-in-snapshot",
            format!("{} is {what}: its contents are not in the snapshot", path.display()),
            "move it into the data directory itself, or set snapshot.provider to \"clone\"",
        ));
        false
    })?;
    Ok(findings)
}

/// Returns the inodes of all files, or `None` if one of them is exempt from copy-on-write.
fn copied_on_write(root: &Path) -> Result<Option<Vec<u64>>> {
    let mut inodes = Some(Vec::new());
    walk(root, &mut |path, found| {
        if found.is_file() {
            let flags = std::fs::File::open(path).and_then(|file| Ok(rustix::fs::ioctl_getflags(&file)?));
            match flags {
                Ok(flags) if !flags.contains(rustix::fs::IFlags::NOCOW) => {
                    if let Some(inodes) = &mut inodes {
                        inodes.push(found.ino());
                    }
                }
                _ => inodes = None,
            }
        }
        found.is_dir()
    })?;
    Ok(inodes)
}

/// Visits everything below a directory; descends into the directories for which `visit` returns
/// true.
fn walk(root: &Path, visit: &mut dyn FnMut(&Path, &std::fs::Metadata) -> bool) -> Result<()> {
    let mut todo: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        let doing = format!("cannot read {}", dir.display());
        for entry in std::fs::read_dir(&dir).failed(&doing)? {
            let path = entry.failed(&doing)?.path();
            // A running server creates and removes files all the time.
            let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
            if visit(&path, &found) && found.is_dir() {
                todo.push(path);
            }
        }
    }
    Ok(())
}
