//! The work directory: one folder per run, with the identity of the process that made it.
//!
//! `WORK_DIR/RUN/owner` identifies the process in JSON: boot id, pid and start time (clock ticks
//! since boot). A process is the same only if all three are.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use backstop_engine::ports::Snapshot;
use backstop_host::{Identity, ProcessIdentity, SystemIdentity};
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::ids::BackupId;
use serde::{Deserialize, Serialize};

const OWNER_FILE: &str = "owner";

/// Unambiguous identity of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnerProcess {
    pub(super) boot_id: String,
    pub(super) pid: u32,
    pub(super) started: u64,
}

/// Creates the work directory. Other users may pass through it, since the server's user must reach
/// its files in it.
///
/// # Errors
/// Returns an error if the directory cannot be created.
pub fn create_work_dir(work_dir: &Path) -> Result<()> {
    if work_dir.is_dir() {
        return Ok(());
    }
    let doing = format!("cannot create work directory {}", work_dir.display());
    let hint = "create it for Backstop's user, or set snapshot.work_dir";
    let made = std::fs::create_dir_all(work_dir).failed(&doing);
    made.map_err(|error| error.hint(hint))?;
    std::fs::set_permissions(work_dir, Permissions::from_mode(0o711)).failed(doing)
}

/// Creates a run's folder, owned by this process. Only its owner, the user `uid`, can enter it.
///
/// # Errors
/// Returns an error if the folder exists or cannot be created.
pub fn create(work_dir: &Path, run: &BackupId, uid: u32, gid: u32) -> Result<PathBuf> {
    create_work_dir(work_dir)?;
    let dir = work_dir.join(run.as_str());
    let doing = format!("cannot create {}", dir.display());
    let owner = serde_json::to_string(&this_process()?).failed(&doing)?;
    std::fs::create_dir(&dir).failed(&doing)?;
    std::fs::set_permissions(&dir, Permissions::from_mode(0o700)).failed(&doing)?;
    std::fs::write(dir.join(OWNER_FILE), owner).failed(&doing)?;
    if rustix::process::geteuid().is_root() {
        chown(&dir, Some(uid), Some(gid)).failed(&doing)?;
    }
    Ok(dir)
}

/// Returns every run's folder in the work directory, in the order of their ids.
///
/// # Errors
/// Returns an error if the work directory cannot be read; one that does not exist is empty.
pub fn list(work_dir: &Path) -> Result<Vec<Snapshot>> {
    let doing = format!("cannot read work directory {}", work_dir.display());
    let entries = match std::fs::read_dir(work_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.failed(&doing)?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        let entry = entry.failed(&doing)?;
        if let Some(run) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            runs.push(Snapshot { run, path: entry.path() });
        }
    }
    runs.sort_by(|a, b| a.run.cmp(&b.run));
    Ok(runs)
}

/// Returns true unless the process that made the run's folder still lives. A folder without a
/// readable owner belongs to a run that died while it made the folder, if the folder is older than
/// a minute.
pub fn is_dead(run: &Snapshot) -> bool {
    let owner = std::fs::read(run.path.join(OWNER_FILE)).ok();
    match owner.and_then(|text| serde_json::from_slice::<OwnerProcess>(&text).ok()) {
        Some(owner) => !is_alive(&owner),
        None => {
            let modified = std::fs::metadata(&run.path).and_then(|dir| dir.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok());
            age.is_some_and(|age| age > std::time::Duration::from_secs(60))
        }
    }
}

/// Removes a run's folder with everything in it. A missing folder is no error.
///
/// # Errors
/// Returns an error if something in the folder cannot be removed.
pub async fn remove(dir: &Path) -> Result<()> {
    let doing = format!("cannot remove {}", dir.display());
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).failed(doing),
        _ => Ok(()),
    }
}

fn this_process() -> Result<OwnerProcess> {
    let ProcessIdentity { boot, pid, started, .. } = SystemIdentity.this_process();
    match (boot.is_empty(), started) {
        (true, _) => Err(Error::failed("cannot determine the id of this boot")),
        (_, 0) => Err(Error::failed("cannot determine when this process started")),
        _ => Ok(OwnerProcess { boot_id: boot, pid, started }),
    }
}

fn is_alive(owner: &OwnerProcess) -> bool {
    SystemIdentity.this_process().boot == owner.boot_id
        && SystemIdentity.start_ticks(owner.pid) == Some(owner.started)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn live_runs_are_distinguished_from_dead_ones() {
        let work = std::env::temp_dir().join(format!("backstop-runs-{}", std::process::id()));
        let run: BackupId = "20261123T022133Z-9f3a04c1".parse().unwrap();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let dir = create(&work, &run, uid, gid).unwrap();
        std::fs::write(work.join("other"), "").unwrap();
        let runs = list(&work).unwrap();
        assert_eq!(runs, [Snapshot { run: run.clone(), path: dir.clone() }]);
        assert!(!is_dead(&runs[0]));
        assert!(create(&work, &run, uid, gid).is_err(), "a run's folder is made once");

        let owner = OwnerProcess { started: 1, ..this_process().unwrap() };
        std::fs::write(dir.join(OWNER_FILE), serde_json::to_string(&owner).unwrap()).unwrap();
        assert!(is_dead(&runs[0]), "another process with the same pid");
        std::fs::remove_dir_all(&work).unwrap();
        assert_eq!(list(&work).unwrap(), []);
    }
}
