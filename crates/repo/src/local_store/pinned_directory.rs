//! Open directory, and the files in it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop_host::Host;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};

use crate::keys::HEADER_KEY;
use crate::store_error::DESCRIPTOR_DIRECTORY;

/// Directory that stays the same, whatever is mounted or renamed at its path.
#[derive(Debug)]
pub(crate) struct PinnedDirectory {
    descriptor: OwnedFd,
    /// Its device and inode number: no other directory has both while this one is open.
    pub(super) identity: (u64, u64),
    pub(super) store: PrefixStore<LocalFileSystem>,
}

/// Stamp of a file, to detect that it has changed since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    inode: u64,
    size: i64,
    modified: (i64, i64),
}

/// State of the directory at a path.
pub(super) struct PathState {
    pub(super) pinned: Arc<PinnedDirectory>,
    /// True if it is the directory that was open already.
    pub(super) same: bool,
    /// Stamp of the root object in it, if there is one.
    pub(super) root: Option<FileStamp>,
}

impl PinnedDirectory {
    /// Examines a path: returns the open directory if the path names it, or else opens the one that
    /// it names now.
    pub(super) async fn look(path: &Path, held: Option<Arc<Self>>, host: &Host) -> io::Result<PathState> {
        let path = path.to_owned();
        let looking = host.blocking(move || {
            let named = rustix::fs::stat(&path)?;
            let (pinned, same) = match held {
                Some(held) if held.identity == identity(&named) => (held, true),
                _ => (Arc::new(Self::open(&path)?), false),
            };
            let root = pinned.root()?;
            Ok(PathState { pinned, same, root })
        });
        looking.await.map_err(io::Error::other)?
    }

    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
        let identity = identity(&rustix::fs::fstat(&descriptor)?);
        let own = object_store::path::Path::parse(&at(&descriptor)[1..]).map_err(io::Error::other)?;
        let store = PrefixStore::new(LocalFileSystem::new().with_fsync(true), own);
        let pinned = Self { descriptor, identity, store };
        // If /proc is missing, or belongs to another PID namespace, its paths reach nothing.
        match rustix::fs::stat(pinned.path()) {
            Ok(found) if self::identity(&found) == identity => Ok(pinned),
            _ => Err(io::Error::other(format!(
                "{DESCRIPTOR_DIRECTORY} does not lead to it: /proc must be mounted"
            ))),
        }
    }

    /// Returns its path while it is open.
    pub(super) fn path(&self) -> PathBuf {
        at(&self.descriptor).into()
    }

    fn root(&self) -> io::Result<Option<FileStamp>> {
        match rustix::fs::statat(&self.descriptor, HEADER_KEY, AtFlags::empty()) {
            Ok(found) => Ok(Some(FileStamp {
                inode: found.st_ino,
                size: found.st_size,
                modified: (found.st_mtime, found.st_mtime_nsec as i64),
            })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn identity(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

fn at(descriptor: &OwnedFd) -> String {
    format!("{DESCRIPTOR_DIRECTORY}/{}", descriptor.as_raw_fd())
}
