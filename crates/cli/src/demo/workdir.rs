//! Working directory of the demo, removed on every exit path.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use backstop_adapters::snapshots::work_dir;
use backstop_engine::context::{RunContext, new_run_id};
use backstop_testbed::processes;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};

/// Marker of a finished demo that was kept on purpose.
const KEPT_MARKER: &str = "kept";
/// Space for three servers, a copy, the backups and the rebuilt server, in bytes.
const NEEDED_BYTES: u64 = 1_500 << 20;
/// Limit for the directory's path: the paths of sockets below it are limited.
const MAX_PATH_CHARS: usize = 80;

/// Directory of this run, named after it and marked with the process, in a folder that only its
/// user can enter.
pub(super) struct DemoDir {
    dir: PathBuf,
    kept: std::cell::Cell<bool>,
}

impl DemoDir {
    /// Removes what killed demos left, and creates a new directory.
    pub(super) fn take(wanted: Option<&Path>, ctx: &RunContext) -> Result<Self> {
        let parent = parent(wanted)?;
        remove_dead_demos(&parent, ctx)?;
        space(&parent)?;
        let run = new_run_id(&ctx.host)?;
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let dir = work_dir::create(&parent, &run, uid, gid)?;
        Ok(Self { dir, kept: std::cell::Cell::new(false) })
    }

    /// Returns a path in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps the directory, also from removal by later demos.
    pub(super) fn keep(&self) -> Result<()> {
        std::fs::write(self.dir.join(KEPT_MARKER), "").failed("cannot keep the demonstration")?;
        self.kept.set(true);
        Ok(())
    }
}

impl Drop for DemoDir {
    fn drop(&mut self) {
        if !self.kept.get()
            && let Err(error) = kill_and_remove(&self.dir)
        {
            tracing::error!("{error}; the next demonstration tries again");
        }
    }
}

/// Returns the folder that holds all demos of this user.
fn parent(wanted: Option<&Path>) -> Result<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let base = wanted.map_or_else(std::env::temp_dir, Path::to_owned);
    let base = std::path::absolute(&base).failed("cannot find the directory to work in")?;
    let parent = base.join(format!("backstop-demo-{uid}"));
    if parent.as_os_str().len() > MAX_PATH_CHARS {
        let failure = Error::new(
            ErrorKind::Usage,
            format!("cannot work in {}: the path is too long for sockets", base.display()),
        );
        return Err(failure.hint("name a directory with a shorter path with --dir"));
    }
    let failure = format!("cannot create {}", parent.display());
    match DirBuilder::new().mode(0o700).create(&parent) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made.failed(&failure).map_err(|failure| failure.hint("name another directory with --dir"))?,
    }
    let found = std::fs::symlink_metadata(&parent).failed(&failure)?;
    if !found.is_dir() || found.uid() != uid {
        let message = format!("cannot work in {}: it belongs to another user", parent.display());
        return Err(Error::refused(message).hint("name another directory with --dir"));
    }
    std::fs::set_permissions(&parent, Permissions::from_mode(0o700)).failed(failure)?;
    Ok(parent)
}

/// Removes the directories of demos whose process is dead.
fn remove_dead_demos(parent: &Path, ctx: &RunContext) -> Result<()> {
    for run in work_dir::list(parent)? {
        if work_dir::is_dead(&run) && !run.path.join(KEPT_MARKER).exists() {
            ctx.reporter
                .notice(&format!("removing the files of a killed demonstration in {}", run.path.display()));
            kill_and_remove(&run.path)?;
        }
    }
    Ok(())
}

/// Kills the servers that work in a directory, and removes it.
fn kill_and_remove(dir: &Path) -> Result<()> {
    // Twice: a program that was being started may have begun in between.
    for _ in 0..2 {
        processes::kill_all(dir)?;
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => tracing::debug!("cannot remove {}: {error}", dir.display()),
            Ok(()) => {}
        }
    }
    if dir.exists() { Err(Error::failed(format!("cannot remove {}", dir.display()))) } else { Ok(()) }
}

fn space(parent: &Path) -> Result<()> {
    let volume = rustix::fs::statvfs(parent)
        .failed(format!("cannot determine the free space in {}", parent.display()))?;
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    if free >= NEEDED_BYTES {
        return Ok(());
    }
    let (needed, free) = (crate::format::bytes(NEEDED_BYTES), crate::format::bytes(free));
    let message = format!("not enough space in {}: {needed} needed, {free} free", parent.display());
    Err(Error::refused(message).hint("name a directory on a larger volume with --dir"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn demo_removal_removes_everything_and_is_repeatable() {
        let dir = std::env::temp_dir().join(format!("backstop-place-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/b/c"), "x").unwrap();
        kill_and_remove(&dir).unwrap();
        assert!(!dir.exists());
        kill_and_remove(&dir).unwrap();
    }

    #[test]
    fn paths_too_long_for_sockets_are_refused() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(90)));
        assert_eq!(parent(Some(&long)).unwrap_err().kind, ErrorKind::Usage);
    }
}
