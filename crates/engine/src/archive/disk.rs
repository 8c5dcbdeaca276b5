//! Disk operations of the spool, behind a trait so that tests can make them fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// Disk calls that may fail half way, or lose the bytes they were given.
pub(super) trait Disk: Send + Sync {
    /// Writes all these bytes at this offset. A failed call may have written some of them.
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes a file's bytes durable. After a failure the state of the bytes that were not durable
    /// before is unknown, even if a later call succeeds.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// Disk of this host.
pub(super) struct HostDisk;

impl Disk for HostDisk {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Creates a folder that only its owner can enter, with its parents.
pub(super) fn private_folder(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Creates a file that only its owner can read.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
pub(super) mod failing {
    //! A disk with injected failures.

    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::{Disk, File, FileExt, HostDisk, io};

    /// Result of the next call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::archive) enum FailMode {
        Honest,
        /// Half of the bytes are written, then the disk is full.
        Short,
        /// The device returns an error.
        Error,
    }

    /// Fails by a script of one result for each call; works normally when the script is empty.
    #[derive(Default)]
    pub(in crate::archive) struct FailingDisk {
        pub(in crate::archive) writes: Mutex<VecDeque<FailMode>>,
        pub(in crate::archive) syncs: Mutex<VecDeque<FailMode>>,
    }

    impl FailingDisk {
        fn next(deeds: &Mutex<VecDeque<FailMode>>) -> FailMode {
            deeds.lock().ok().and_then(|mut deeds| deeds.pop_front()).unwrap_or(FailMode::Honest)
        }
    }

    impl Disk for FailingDisk {
        fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
            match Self::next(&self.writes) {
                FailMode::Honest => HostDisk.write_at(file, bytes, at),
                FailMode::Short => {
                    file.write_all_at(&bytes[..bytes.len() / 2], at)?;
                    Err(rustix::io::Errno::NOSPC.into())
                }
                FailMode::Error => Err(rustix::io::Errno::IO.into()),
            }
        }

        fn sync(&self, file: &File) -> io::Result<()> {
            match Self::next(&self.syncs) {
                FailMode::Honest => HostDisk.sync(file),
                FailMode::Short | FailMode::Error => Err(rustix::io::Errno::IO.into()),
            }
        }
    }
}
