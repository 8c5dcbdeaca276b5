//! Folders of a command on its host: one for each shard of each repository below the work
//! directory, with the lock of its holder.
//!
//! Two configurations may share a work directory, and two repositories or clusters the name of a
//! shard.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::ids::ShardName;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

/// Number of hex digits of a repository's id in the name of a folder: the path of a socket below it
/// must not be too long.
const REPOSITORY_ID_DIGITS: usize = 8;

/// Returns the folder of a shard of a repository.
pub fn shard_dir(work_dir: &Path, shard: &ShardName, repository: Uuid) -> PathBuf {
    let mut id = repository.simple().to_string();
    id.truncate(REPOSITORY_ID_DIGITS);
    work_dir.join(shard.as_str()).join(id)
}

/// Returns the folder that older versions used for a shard, regardless of the repository.
pub fn old_shard_dir(work_dir: &Path, shard: &ShardName) -> PathBuf {
    work_dir.join(shard.as_str())
}

/// A folder that this process locks until it is dropped, or the process ends.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

/// Locks a folder for one kind of work; `doing` describes it with its object, for errors. Creates
/// the folder. Other users may pass through it, since a server's user must reach its files.
///
/// # Errors
/// Returns [`ErrorKind::Held`] naming the process of this host that holds it; fails if it cannot be
/// created or locked.
pub fn lock_dir(dir: &Path, kind: &str, doing: &str) -> Result<HostLock> {
    let path = dir.join(format!("{kind}.lock"));
    let action = doing;
    let doing = format!("cannot lock {}", path.display());
    let hint = "create the directory for Backstop's user, or set snapshot.work_dir";
    let made = DirBuilder::new().recursive(true).mode(0o711).create(dir);
    made.failed(format!("cannot create {}", dir.display())).map_err(|failure| failure.hint(hint))?;
    let opened = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.failed(&doing).map_err(|failure| failure.hint(hint))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(already_locked(&mut file, dir, action)),
        Err(error) => {
            return Err(Error::failed(format!("{doing}: {error}"))
                .hint("set snapshot.work_dir to a directory on a file system that supports locks"));
        }
    }
    file.set_len(0).failed(&doing)?;
    writeln!(file, "process {}", std::process::id()).failed(&doing)?;
    Ok(HostLock { _file: file })
}

fn already_locked(file: &mut File, dir: &Path, action: &str) -> Error {
    let mut holder = String::new();
    let told = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
    let holder = if told { holder.trim() } else { "another process" };
    let message = format!("cannot {action}: {holder} on this host already does, and holds {}", dir.display());
    Error::new(ErrorKind::Held, message).hint("stop it first: a host runs one for each shard and repository")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shard_folder_is_locked_and_named_by_shard_and_repository() {
        let work = tempfile::tempdir().unwrap();
        let shard: ShardName = "orders".parse().unwrap();
        let (one, other) = (Uuid::from_u128(1 << 100), Uuid::from_u128(2 << 100));
        let dir = shard_dir(work.path(), &shard, one);
        let first = lock_dir(&dir, "archive", "archive shard orders").unwrap();
        let error = lock_dir(&dir, "archive", "archive shard orders").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Held);
        assert!(error.message.contains(&format!("process {}", std::process::id())), "{error}");
        let second =
            lock_dir(&shard_dir(work.path(), &shard, other), "archive", "archive shard orders").unwrap();
        let third = lock_dir(
            &shard_dir(work.path(), &"users".parse().unwrap(), one),
            "archive",
            "archive shard users",
        )
        .unwrap();
        drop((second, third, first));
        lock_dir(&dir, "archive", "archive shard orders").unwrap();
    }
}
