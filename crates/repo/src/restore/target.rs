//! Target directory of a restore.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use bytes::Bytes;

use super::windows::{BlockMove, PackFetch};
use crate::block_extents::{BLOCK_BYTES, FRAME_BLOCKS};
use crate::manifest::{DirectoryEntry, FileEntry};
use crate::object::{ObjectError, OpenObject, Unpacker};
use crate::tree::is_safe_path;

/// Files being written.
pub(super) struct TargetFiles {
    pub(super) dir: PathBuf,
    pub(super) files: Vec<FileEntry>,
    pub(super) directories: Vec<DirectoryEntry>,
}

impl TargetFiles {
    fn path(&self, relative: &str) -> Result<PathBuf> {
        if is_safe_path(relative) {
            return Ok(self.dir.join(relative));
        }
        Err(Error::new(
            ErrorKind::Damaged,
            format!("cannot restore `{relative}`: it would lie outside the directory"),
        ))
    }

    /// Creates directories and empty files of the right size; drops the content of files that an
    /// interrupted restore did not complete.
    pub(super) fn prepare(&self, done: &BTreeSet<usize>) -> Result<()> {
        std::fs::create_dir_all(&self.dir).failed(format_args!("cannot create {}", self.dir.display()))?;
        for directory in &self.directories {
            let path = self.path(&directory.path)?;
            std::fs::create_dir_all(&path).failed(format_args!("cannot create {}", path.display()))?;
        }
        for (number, file) in self.files.iter().enumerate() {
            if !done.contains(&number) {
                self.create(file)?;
            }
        }
        Ok(())
    }

    fn create(&self, file: &FileEntry) -> Result<()> {
        let path = self.path(&file.path)?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).failed(format_args!("cannot create {}", parent.display()))?;
        }
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path);
        let open = open.failed(format_args!("cannot create {}", path.display()))?;
        open.set_len(file.size).failed(format_args!("cannot set the size of {}", path.display()))
    }

    fn open(&self, file: u32) -> Result<(File, &FileEntry)> {
        let entry = &self.files[file as usize];
        let path = self.path(&entry.path)?;
        let open = OpenOptions::new().write(true).open(&path);
        Ok((open.failed(format_args!("cannot open {}", path.display()))?, entry))
    }

    /// Writes the blocks of one fetch.
    pub(super) fn write(&self, opened: &OpenObject, bytes: &Bytes, fetch: &PackFetch) -> Result<u64> {
        let mut unpacker = Unpacker::new()?;
        let mut written = 0;
        let mut current: Option<(u32, File, &FileEntry)> = None;
        let parts: Vec<BlockMove> = fetch.moves.iter().flat_map(|part| part.by_frame()).collect();
        for parts in parts.chunk_by(|a, b| a.frame() == b.frame()) {
            let frame = opened.decode(bytes, fetch.frames.start, parts[0].frame(), &mut unpacker)?;
            for part in parts {
                let (_, file, entry) = match current.take().filter(|(number, ..)| *number == part.file) {
                    Some(open) => current.insert(open),
                    None => {
                        let (file, entry) = self.open(part.file)?;
                        current.insert((part.file, file, entry))
                    }
                };
                written += write_part(opened, frame, part, file, entry)?;
            }
        }
        Ok(written)
    }

    /// Makes a file durable.
    pub(super) fn sync(&self, number: usize) -> Result<()> {
        let (file, entry) = self.open(number as u32)?;
        // Backstop restores data for one server: no other user needs to read it.
        let mode = std::fs::Permissions::from_mode(entry.mode & 0o770 | 0o600);
        file.set_permissions(mode).failed(format_args!("cannot set the mode of {}", entry.path))?;
        file.sync_all().failed(format_args!("cannot sync {}", entry.path))
    }

    /// Sets the modes of directories and makes their entries durable, deepest first.
    pub(super) fn finish(&self) -> Result<()> {
        for directory in self.directories.iter().rev() {
            let path = self.path(&directory.path)?;
            let mode = std::fs::Permissions::from_mode(directory.mode & 0o770 | 0o700);
            std::fs::set_permissions(&path, mode)
                .failed(format_args!("cannot set the mode of {}", path.display()))?;
        }
        let mut all: BTreeSet<PathBuf> = self
            .files
            .iter()
            .filter_map(|file| self.dir.join(&file.path).parent().map(Path::to_owned))
            .collect();
        all.extend(self.directories.iter().map(|directory| self.dir.join(&directory.path)));
        all.insert(self.dir.clone());
        for path in all.iter().rev() {
            File::open(path)
                .and_then(|open| open.sync_all())
                .failed(format_args!("cannot sync {}", path.display()))?;
        }
        Ok(())
    }
}

fn write_part(
    opened: &OpenObject,
    frame: &[u8],
    part: &BlockMove,
    file: &File,
    entry: &FileEntry,
) -> Result<u64> {
    let offset = part.to * BLOCK_BYTES as u64;
    let length = (u64::from(part.count) * BLOCK_BYTES as u64).min(entry.size - offset) as usize;
    let start = (part.from % FRAME_BLOCKS) as usize * BLOCK_BYTES;
    let data = frame.get(start..start + length).ok_or_else(|| {
        ObjectError::damaged(opened.key(), format!("frame {} is shorter than its blocks", part.frame()))
    })?;
    file.write_all_at(data, offset).failed(format_args!("cannot write {}", entry.path))?;
    Ok(length as u64)
}
