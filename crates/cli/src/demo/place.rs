//! The demonstration's folder. Nothing of it outlives the demonstration, however that ends.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use backstop_adapters::snapshots::runs;
use backstop_engine::world::World;
use backstop_lab::processes;
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::ids::BackupId;

/// Its presence says that a finished demonstration was kept on purpose.
const KEPT: &str = "kept";
/// What three servers, a copy, the backups and the rebuilt server need, in bytes.
const NEEDED: u64 = 1_500 << 20;
/// Sockets are in folders below, and their paths are bounded.
const LONGEST: usize = 80;

/// A folder of this run, named after it and marked with the process, in a folder that only its user can enter.
pub(super) struct Place {
    dir: PathBuf,
    kept: std::cell::Cell<bool>,
}

impl Place {
    /// Removes what killed demonstrations left, and makes a new folder.
    pub(super) fn take(wanted: Option<&Path>, world: &World) -> Result<Self> {
        let parent = parent(wanted)?;
        sweep(&parent, world)?;
        space(&parent)?;
        let run = BackupId::new(world.clock.now(), world.clock.random() as u32);
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let dir = runs::create(&parent, &run, uid, gid)?;
        Ok(Self { dir, kept: std::cell::Cell::new(false) })
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves it where it is, also for later demonstrations.
    pub(super) fn keep(&self) -> Result<()> {
        std::fs::write(self.dir.join(KEPT), "").failed("keep the demonstration")?;
        self.kept.set(true);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept.get()
            && let Err(fault) = clear(&self.dir)
        {
            tracing::error!("{fault}; the next demonstration tries again");
        }
    }
}

/// The folder that all demonstrations of this user are in.
fn parent(wanted: Option<&Path>) -> Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let base = wanted.map_or_else(std::env::temp_dir, Path::to_owned);
    let base = std::path::absolute(&base).failed("find the folder to work in")?;
    let parent = base.join(format!("backstop-demo-{uid}"));
    if parent.as_os_str().len() > LONGEST {
        let fault =
            Fault::new(Kind::Usage, format!("work in {}: the path is too long for sockets", base.display()));
        return Err(fault.hint("name a folder with a shorter path with --dir"));
    }
    let doing = format!("create {}", parent.display());
    match DirBuilder::new().mode(0o700).create(&parent) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.failed(&doing).map_err(|fault| fault.hint("name another folder with --dir"))?,
    }
    let found = std::fs::symlink_metadata(&parent).failed(&doing)?;
    if !found.is_dir() || found.uid() != uid {
        let fault = Fault::refused(format!("work in {}: it belongs to somebody else", parent.display()));
        return Err(fault.hint("name another folder with --dir"));
    }
    std::fs::set_permissions(&parent, Permissions::from_mode(0o700)).failed(doing)?;
    Ok(parent)
}

/// Removes what demonstrations left whose process is dead.
fn sweep(parent: &Path, world: &World) -> Result<()> {
    for run in runs::list(parent)? {
        if runs::is_dead(&run) && !run.path.join(KEPT).exists() {
            world
                .reporter
                .notice(&format!("removing what a killed demonstration left in {}", run.path.display()));
            clear(&run.path)?;
        }
    }
    Ok(())
}

/// Kills the servers that work in a folder, and removes it.
fn clear(dir: &Path) -> Result<()> {
    // Twice: a program that was being started may have begun meanwhile.
    for _ in 0..2 {
        processes::kill_all(dir)?;
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => tracing::debug!("remove {}: {error}", dir.display()),
            Ok(()) => {}
        }
    }
    if dir.exists() { Err(Fault::failed(format!("remove {}", dir.display()))) } else { Ok(()) }
}

fn space(parent: &Path) -> Result<()> {
    let volume = rustix::fs::statvfs(parent).failed(format!("look for space in {}", parent.display()))?;
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    if free >= NEEDED {
        return Ok(());
    }
    let (needed, free) = (crate::human::bytes(NEEDED), crate::human::bytes(free));
    let message = format!("not enough space in {}: {needed} needed, {free} free", parent.display());
    Err(Fault::refused(message).hint("name a folder on a larger volume with --dir"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn clearing_removes_everything_and_what_is_gone_is_gone() {
        let dir = std::env::temp_dir().join(format!("backstop-place-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/b/c"), "x").unwrap();
        clear(&dir).unwrap();
        assert!(!dir.exists());
        clear(&dir).unwrap();
    }

    #[test]
    fn long_paths_are_refused() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(90)));
        assert_eq!(parent(Some(&long)).unwrap_err().kind, Kind::Usage);
    }
}
