//! Disk of a host: the files that operations write step by step and read again after a crash.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Folders and files of a host. Calls block.
pub trait Disk: Send + Sync {
    /// Creates a folder that only its owner can enter, with its parents. One that exists is no
    /// error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Creates a file that only its owner can read. Fails if it exists.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file to read it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file to read and write it; creates it if it does not exist.
    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// True if there is a file or folder.
    fn exists(&self, path: &Path) -> bool;
    /// Returns the files of a folder, sorted, without other entries; none if there is no such
    /// folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Renames a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Calls may fail half way, or lose the bytes they were given.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Returns the number of bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills a buffer with the bytes at this offset.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all these bytes at this offset. A failed call may have written some of them.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Cuts the file to this size.
    fn truncate(&self, size: u64) -> io::Result<()>;
    /// Makes the bytes durable. After a failure the state of the bytes that were not durable before
    /// is unknown, even if a later call succeeds.
    fn sync(&self) -> io::Result<()>;
    /// Locks the file until it is closed; false if another holder has it.
    fn lock(&self) -> io::Result<bool>;
}

impl dyn Disk + '_ {
    /// Returns all bytes of a file.
    ///
    /// # Errors
    /// Fails if it cannot be opened or read.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.open(path)?.read_all()
    }
}

impl dyn DiskFile + '_ {
    /// Returns all bytes.
    ///
    /// # Errors
    /// Fails if they cannot be read.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.size()?).unwrap_or(usize::MAX)];
        self.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// Disk of this host.
#[derive(Debug, Clone, Copy)]
pub struct HostDisk;

impl Disk for HostDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        boxed(File::options().read(true).write(true).create_new(true).mode(0o600).open(path))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        boxed(File::open(path))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        boxed(File::options().read(true).write(true).create(true).truncate(false).open(path))
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_data()
    }
}

fn boxed(file: io::Result<File>) -> io::Result<Box<dyn DiskFile>> {
    file.map(|file| Box::new(file) as Box<dyn DiskFile>)
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn lock(&self) -> io::Result<bool> {
        match self.try_lock() {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
pub(crate) mod failing {
    //! A disk with injected failures.

    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::{Disk, DiskFile, HostDisk, Path, PathBuf, io};

    /// Result of the next call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum FailMode {
        Honest,
        /// Half of the bytes are written, then the disk is full.
        Short,
        /// The device returns an error.
        Error,
    }

    type Script = Arc<Mutex<VecDeque<FailMode>>>;

    /// Fails by a script of one result for each call; works normally when the script is empty.
    #[derive(Default)]
    pub(crate) struct FailingDisk {
        pub(crate) writes: Script,
        pub(crate) syncs: Script,
    }

    #[derive(Debug)]
    struct FailingFile {
        file: Box<dyn DiskFile>,
        writes: Script,
        syncs: Script,
    }

    fn next(deeds: &Script) -> FailMode {
        deeds.lock().ok().and_then(|mut deeds| deeds.pop_front()).unwrap_or(FailMode::Honest)
    }

    fn sync(deeds: &Script, honest: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match next(deeds) {
            FailMode::Honest => honest(),
            FailMode::Short | FailMode::Error => Err(rustix::io::Errno::IO.into()),
        }
    }

    impl FailingDisk {
        fn file(&self, opened: io::Result<Box<dyn DiskFile>>) -> io::Result<Box<dyn DiskFile>> {
            let (writes, syncs) = (Arc::clone(&self.writes), Arc::clone(&self.syncs));
            opened.map(|file| Box::new(FailingFile { file, writes, syncs }) as Box<dyn DiskFile>)
        }
    }

    impl Disk for FailingDisk {
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            HostDisk.create_dir(dir)
        }

        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.file(HostDisk.create(path))
        }

        fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.file(HostDisk.open(path))
        }

        fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.file(HostDisk.open_or_create(path))
        }

        fn exists(&self, path: &Path) -> bool {
            HostDisk.exists(path)
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
            HostDisk.list(dir)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            HostDisk.rename(from, to)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            HostDisk.remove(path)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            sync(&self.syncs, || HostDisk.sync_dir(dir))
        }
    }

    impl DiskFile for FailingFile {
        fn size(&self) -> io::Result<u64> {
            self.file.size()
        }

        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
            self.file.read_at(buffer, at)
        }

        fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
            match next(&self.writes) {
                FailMode::Honest => self.file.write_at(bytes, at),
                FailMode::Short => {
                    self.file.write_at(&bytes[..bytes.len() / 2], at)?;
                    Err(rustix::io::Errno::NOSPC.into())
                }
                FailMode::Error => Err(rustix::io::Errno::IO.into()),
            }
        }

        fn truncate(&self, size: u64) -> io::Result<()> {
            self.file.truncate(size)
        }

        fn sync(&self) -> io::Result<()> {
            sync(&self.syncs, || self.file.sync())
        }

        fn lock(&self) -> io::Result<bool> {
            self.file.lock()
        }
    }
}
