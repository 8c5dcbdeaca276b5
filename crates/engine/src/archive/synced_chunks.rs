//! Synced chunks: makes chunks of the spool durable on this host's disk, and journals them.
//!
//! A failed write is repeated at the same offset, after the good bytes. After a failed sync the
//! state of the file is unknown, even if a later sync succeeds: from then on the bytes are written
//! to a copy, `FILE~1`, `FILE~2`, …, with its own journal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};

use super::queue::UnsyncedChunk;
use super::spool_journal::{self, check_chunk};
use crate::disk::{Disk, DiskFile};

/// Reason why chunks are not durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SyncError {
    /// The disk refused; a retry may succeed.
    Refused(Error),
    /// The spool does not have the bytes.
    Lost(Error),
}

/// Durable chunks of each file of the spool.
pub(super) struct SyncedChunks {
    disk: Arc<dyn Disk>,
    files: BTreeMap<PathBuf, SyncedFile>,
}

/// Files in which the chunks of one spool file are durable.
struct SyncedFile {
    /// File of the chunks: the spool's own, or a copy of the chunks after a failed sync.
    data: PathBuf,
    /// Copy of the chunks, with its size; `None`: the spool's own file.
    copy: Option<(Box<dyn DiskFile>, u64)>,
    /// Journal beside it, with the size up to which it is valid.
    journal: Option<(Box<dyn DiskFile>, u64)>,
    /// Number of copies that were begun.
    copies: u64,
    /// True if no more bytes are written there.
    void: bool,
}

impl SyncedChunks {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, files: BTreeMap::new() }
    }

    /// Forgets files that are gone because they were archived.
    pub(super) fn forget(&mut self) {
        self.files.retain(|path, _| self.disk.exists(path));
    }

    /// Syncs chunks of one file; returns when their bytes and journal lines are durable.
    pub(super) fn sync(&mut self, chunks: &[UnsyncedChunk]) -> Result<(), SyncError> {
        let Some(first) = chunks.first() else { return Ok(()) };
        let known = self.files.entry(first.path.clone()).or_insert_with(|| SyncedFile::own(&first.path));
        if known.void {
            known.begin_copy(&*self.disk, &first.path).map_err(SyncError::Refused)?;
        }
        let synced = known.sync(&*self.disk, chunks);
        if matches!(synced, Err(SyncError::Refused(_))) && known.void {
            // The bytes are still in memory: write them to another file now.
            known.begin_copy(&*self.disk, &first.path).map_err(SyncError::Refused)?;
            return known.sync(&*self.disk, chunks);
        }
        synced
    }
}

impl SyncedFile {
    fn own(path: &Path) -> Self {
        Self { data: path.to_owned(), copy: None, journal: None, copies: 0, void: false }
    }

    /// Begins another file for the next chunks.
    fn begin_copy(&mut self, disk: &dyn Disk, own: &Path) -> Result<()> {
        if matches!(&self.copy, Some((_, 0))) {
            // Nothing in it was ever durable, so nothing of it was acknowledged.
            let (data, journal) = (self.data.clone(), spool_journal::journal_path(&self.data));
            let _ = (disk.remove(&journal), disk.remove(&data));
        }
        let (copy, path) = loop {
            self.copies += 1;
            let path = copy_of(own, self.copies);
            match disk.create(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => break (made.failed(format!("cannot create {}", path.display()))?, path),
            }
        };
        (self.data, self.copy, self.journal, self.void) = (path, Some((copy, 0)), None, false);
        Ok(())
    }

    /// Writes chunks of one file to its copy, if it has one, and makes them durable with their
    /// journal lines.
    fn sync(&mut self, disk: &dyn Disk, chunks: &[UnsyncedChunk]) -> Result<(), SyncError> {
        let Some(first) = chunks.first() else { return Ok(()) };
        let doing = format!("cannot write the spool {}", self.data.display());
        let own = disk.open(&first.path).map_err(|error| {
            let message = format!("cannot read the spool {}: {error}", first.path.display());
            SyncError::Lost(Error::new(ErrorKind::Damaged, message))
        })?;
        let (mut lines, mut end) = (Vec::new(), self.copy.as_ref().map_or(0, |(_, size)| *size));
        for unsynced in chunks {
            let (chunk, begin) = (&unsynced.chunk, end);
            let skip = chunk.start - unsynced.begin;
            let copy = self.copy.as_ref().map(|(copy, _)| copy);
            let mut take = |part: &[u8]| {
                if let Some(copy) = copy {
                    copy.write_at(part, end)?;
                }
                end += part.len() as u64;
                Ok(())
            };
            let hash = check_chunk(&*own, skip, chunk, &mut take).map_err(|failure| match failure.kind {
                ErrorKind::Damaged => SyncError::Lost(failure.during(first.path.display())),
                _ => SyncError::Refused(failure),
            })?;
            let noted = if copy.is_some() { begin } else { skip };
            lines.extend(
                spool_journal::note_line(&unsynced.at, chunk, noted, &hash).map_err(SyncError::Refused)?,
            );
        }
        let durable = match &self.copy {
            Some((copy, _)) => copy.sync(),
            None => own.sync(),
        };
        self.unless_void(durable.failed(&doing))?;
        self.note(disk, &lines, &doing)?;
        if let Some((_, size)) = &mut self.copy {
            *size = end;
        }
        Ok(())
    }

    /// Appends to the journal. Overwrites or truncates the bytes after its valid part.
    fn note(&mut self, disk: &dyn Disk, lines: &[u8], doing: &str) -> Result<(), SyncError> {
        let path = spool_journal::journal_path(&self.data);
        let is_new = self.journal.is_none();
        if is_new {
            let made = disk.create(&path).failed(doing).map_err(SyncError::Refused)?;
            self.journal = Some((made, 0));
        }
        let Some((journal, size)) = &mut self.journal else { return Ok(()) };
        if let Err(error) = journal.write_at(lines, *size) {
            // Nothing reads the journal while this process lives; a later reader must not find half
            // a line before others.
            let cut = journal.truncate(*size);
            self.void = cut.is_err();
            return Err(SyncError::Refused(Error::failed(format!("{doing}: {error}"))));
        }
        let durable = journal.sync().failed(doing);
        let good = *size + lines.len() as u64;
        self.unless_void(durable)?;
        if let (true, Some(dir)) = (is_new, path.parent()) {
            let durable = disk.sync_dir(dir).failed(doing);
            self.unless_void(durable)?;
        }
        if let Some((_, size)) = &mut self.journal {
            *size = good;
        }
        Ok(())
    }

    fn unless_void(&mut self, durable: Result<()>) -> Result<(), SyncError> {
        self.void |= durable.is_err();
        durable.map_err(SyncError::Refused)
    }
}

/// Returns the path of a copy of a spool's file.
pub(super) fn copy_of(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("~{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use super::super::sample_binlog::{chunk, transactions, unsynced};
    use super::*;
    use crate::disk::HostDisk;
    use crate::disk::failing::{FailMode, FailingDisk};

    /// Two chunks in a file of the spool that begins in the middle of the server's file.
    struct Bench {
        dir: tempfile::TempDir,
        path: PathBuf,
        bytes: [Vec<u8>; 2],
        disk: Arc<FailingDisk>,
        synced_chunks: SyncedChunks,
    }

    const BEGIN: u64 = 4000;

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("u.binlog.000007.000000004000");
        let first = transactions(BEGIN, 1, 3);
        let second = transactions(BEGIN + first.len() as u64, 4, 9);
        std::fs::write(&path, [first.as_slice(), &second].concat()).unwrap();
        let disk = Arc::new(FailingDisk::default());
        let synced_chunks = SyncedChunks::new(Arc::clone(&disk) as Arc<dyn Disk>);
        Bench { dir, path, bytes: [first, second], disk, synced_chunks }
    }

    impl Bench {
        fn sync(&mut self, which: usize) -> Result<(), SyncError> {
            let at = BEGIN + if which == 0 { 0 } else { self.bytes[0].len() as u64 };
            let gtids = ["A:1-3", "A:4-9"][which];
            let chunk = chunk(at, &self.bytes[which], gtids);
            self.synced_chunks.sync(&[unsynced(&self.path, BEGIN, chunk)])
        }

        /// Asserts that both chunks and nothing else are journaled, with their bytes.
        fn assert_both(&self) {
            let noted = spool_journal::read_spool(&HostDisk, self.dir.path()).unwrap();
            assert_eq!(noted.damage, None);
            let found: Vec<Vec<u8>> =
                noted.chunks.iter().map(|left| left.bytes(&HostDisk).unwrap()).collect();
            assert_eq!(found, self.bytes);
        }
    }

    #[test]
    fn partially_written_entry_is_rewritten_in_place() {
        let mut bench = bench();
        bench.disk.writes.lock().unwrap().push_back(FailMode::Short);
        assert!(matches!(bench.sync(0), Err(SyncError::Refused(_))));
        assert_eq!(std::fs::read(spool_journal::journal_path(&bench.path)).unwrap(), b"");
        bench.sync(0).unwrap();
        bench.disk.writes.lock().unwrap().push_back(FailMode::Short);
        assert!(matches!(bench.sync(1), Err(SyncError::Refused(_))));
        bench.sync(1).unwrap();
        bench.assert_both();
    }

    #[test]
    fn bytes_are_copied_before_their_entry_if_sync_failed() {
        let mut bench = bench();
        bench.sync(0).unwrap();
        bench.disk.syncs.lock().unwrap().push_back(FailMode::Error);
        bench.sync(1).unwrap();
        // The bytes of the failed sync never reach the disk, and the later syncs did not report
        // that.
        let file = File::options().write(true).open(&bench.path).unwrap();
        file.set_len(bench.bytes[0].len() as u64).unwrap();
        bench.assert_both();
        assert!(copy_of(&bench.path, 1).exists());
    }

    #[test]
    fn entry_is_copied_with_its_bytes_if_its_sync_failed() {
        let mut bench = bench();
        bench.disk.syncs.lock().unwrap().extend([FailMode::Honest, FailMode::Error]);
        bench.sync(0).unwrap();
        bench.sync(1).unwrap();
        std::fs::write(spool_journal::journal_path(&bench.path), "").unwrap();
        bench.assert_both();
    }

    #[test]
    fn chunk_is_not_synced_while_disk_keeps_failing() {
        let mut bench = bench();
        bench.disk.syncs.lock().unwrap().extend([FailMode::Error; 8]);
        let mut rounds = 0;
        while bench.sync(0).is_err() {
            rounds += 1;
            assert!(rounds < 10);
        }
        assert!(rounds >= 3, "{rounds}");
        bench.sync(1).unwrap();
        bench.assert_both();
        let copies = std::fs::read_dir(bench.dir.path()).unwrap().count();
        assert_eq!(copies, 3, "copies in which nothing is safe are removed");
    }

    #[test]
    fn chunk_missing_from_its_file_is_reported_lost() {
        for harm in ["cut off", "another's", "removed"] {
            let mut bench = bench();
            bench.sync(0).unwrap();
            match harm {
                "cut off" => {
                    let file = File::options().write(true).open(&bench.path).unwrap();
                    file.set_len(bench.bytes[0].len() as u64 + 40).unwrap();
                }
                "another's" => std::fs::write(&bench.path, vec![7; 5000]).unwrap(),
                _ => std::fs::remove_file(&bench.path).unwrap(),
            }
            assert!(matches!(bench.sync(1), Err(SyncError::Lost(_))), "{harm}");
            assert_eq!(
                spool_journal::read_spool(&HostDisk, bench.dir.path()).unwrap().chunks.len(),
                1,
                "{harm}"
            );
        }
    }
}
