//! What the spool asks of the file system, so that tests can have it fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// The calls that may fail half way, or lose what they were given.
pub(super) trait Disk: Send + Sync {
    /// Writes all these bytes at this offset. A call that failed may have written some of them.
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes a file's bytes durable. After a failure nothing is known of those that were not durable before, also when a later call
    /// succeeds.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The disk of this host.
pub(super) struct HostDisk;

impl Disk for HostDisk {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Makes a folder that only its owner can enter, with those above it.
pub(super) fn private_folder(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A new file that only its owner can read.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
pub(super) mod failing {
    //! A disk that fails as it is told.

    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::{Disk, File, FileExt, HostDisk, io};

    /// What becomes of the next call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::archive) enum FailMode {
        Honest,
        /// Half is written, then there is no room.
        Short,
        /// An error of the device.
        Error,
    }

    /// Fails as it is told, one deed a call; is honest when it was told nothing.
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
