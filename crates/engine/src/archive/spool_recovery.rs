//! Recovers a spool that an earlier archiver left: archives it before the first round, and removes
//! it only when the store is seen to have it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstop_binlog::Segment;
use backstop_repo::ArchiveWriter;
use backstop_types::archive::{Archive, SegmentHash};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::gtid::GtidSet;

use super::spool_journal::{self, MOVE_SPOOL_HINT, RecoveredChunk};
use crate::disk::Disk;
use crate::ports::Reporter;

/// Folder for acknowledged transactions whose spooled bytes cannot be proven to be archived, though
/// the transactions are.
const SET_ASIDE_DIR: &str = "set-aside";

/// Recovery of a spool.
pub(super) struct SpoolRecovery<'a> {
    pub(super) store: &'a ArchiveWriter,
    pub(super) disk: &'a dyn Disk,
    pub(super) spool: &'a Path,
    /// Folder that older versions used.
    pub(super) old_spool: Option<&'a Path>,
    pub(super) reporter: &'a dyn Reporter,
}

impl SpoolRecovery<'_> {
    /// Archives the transactions that a killed archiver had acknowledged from its spool, and merges
    /// the tail segments it left.
    ///
    /// # Errors
    /// Returns the store's errors; [`ErrorKind::Damaged`] if the spool is damaged; refuses a spool
    /// that does not fit the archive, which then stays where it is.
    pub(super) async fn run(&self) -> Result<()> {
        let noted = spool_journal::read_spool(self.disk, self.spool)?;
        for left in &noted.chunks {
            if self.archive_chunk(left).await? == ChunkFate::Nowhere {
                return Err(Error::refused(format!(
                    "cannot archive the spool {}: transactions {} were acknowledged and do not fit the archive",
                    self.spool.display(),
                    left.segment.gtids
                ))
                .hint(MOVE_SPOOL_HINT));
            }
        }
        if let Some(damage) = noted.damage {
            return Err(damage);
        }
        self.store.seal_tail().await?;
        self.clear(&noted.chunks).await?;
        match self.old_spool {
            Some(dir) => self.recover_old(dir).await,
            None => Ok(()),
        }
    }

    /// Archives a chunk unless the archive has it.
    async fn archive_chunk(&self, left: &RecoveredChunk) -> Result<ChunkFate> {
        let piece = &left.segment;
        if is_archived(&self.store.contents().await, piece) {
            return Ok(ChunkFate::Archived);
        }
        let (held, last) = self.store.held().await;
        let last = last.iter().find(|last| last.source == piece.source);
        let missing = !held.as_ref().is_some_and(|held| piece.gtids.is_subset_of(held));
        if !missing && !piece.gtids.is_empty() {
            return Ok(ChunkFate::Elsewhere);
        }
        let mut bytes = left.bytes(self.disk)?;
        let mut piece = piece.clone();
        match last {
            Some(last) if overlaps(last, &piece) => {
                bytes
                    .drain(..usize::try_from(last.end - piece.start).unwrap_or(bytes.len()).min(bytes.len()));
                let had = piece.gtids.intersect(&last.held_after());
                piece.previous = piece.previous.union(&had);
                piece.gtids = piece.gtids.subtract(&had);
                piece.start = last.end;
            }
            Some(last) if !is_after(last, &piece) => {
                return Ok(if piece.gtids.is_empty() { ChunkFate::Elsewhere } else { ChunkFate::Nowhere });
            }
            _ => {}
        }
        piece.hash = SegmentHash(*blake3::hash(&bytes).as_bytes());
        self.store.put_tail(&piece, &bytes).await?;
        Ok(ChunkFate::Archived)
    }

    /// Removes from the spool the files that the store is seen to have, and those without
    /// acknowledged transactions. Sets the rest aside.
    async fn clear(&self, chunks: &[RecoveredChunk]) -> Result<()> {
        let mut unproven: BTreeMap<PathBuf, GtidSet> = BTreeMap::new();
        if !chunks.is_empty() {
            let stored = self.store.reader().checked().await?;
            for left in chunks.iter().filter(|left| !is_archived(&stored, &left.segment)) {
                let of_file = unproven.entry(left.path.clone()).or_default();
                *of_file = of_file.union(&left.segment.gtids);
            }
        }
        for (path, gtids) in &unproven {
            let aside = self.set_aside(path)?;
            self.reporter.notice(&format!(
                "{} was moved to {}: its transactions {gtids} are archived, but with other bytes",
                path.display(),
                aside.display()
            ));
        }
        for path in spool_journal::spool_files(self.disk, self.spool)? {
            self.disk.remove(&path).failed(format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    fn set_aside(&self, path: &Path) -> Result<PathBuf> {
        let dir = self.spool.join(SET_ASIDE_DIR);
        self.disk.create_dir(&dir).failed(format!("cannot create {}", dir.display()))?;
        let name = path.file_name().unwrap_or_default();
        let aside = (0_u64..)
            .map(|number| dir.join(format!("{}.{number}", name.to_string_lossy())))
            .find(|aside| !self.disk.exists(aside))
            .unwrap_or_else(|| dir.join(name));
        for (from, to) in [
            (path.to_owned(), aside.clone()),
            (spool_journal::journal_path(path), spool_journal::journal_path(&aside)),
        ] {
            self.disk.rename(&from, &to).failed(format!("cannot move {}", from.display()))?;
        }
        Ok(aside)
    }

    /// Archives the transactions acknowledged from the spool of an older version, and continues
    /// where the archive ends. Its name contained only the shard: files that do not fit may belong
    /// to another repository, and are not removed.
    async fn recover_old(&self, dir: &Path) -> Result<()> {
        if spool_journal::spool_files(self.disk, dir)?.is_empty() {
            return Ok(());
        }
        let noted = spool_journal::read_spool(self.disk, dir)?;
        let mut foreign = GtidSet::new();
        for left in &noted.chunks {
            let piece = &left.segment;
            let (held, last) = self.store.held().await;
            let last = last.into_iter().find(|last| last.source == piece.source);
            let goes_on = last.as_ref().is_some_and(|last| {
                let begins = piece.start == 0 && is_after(last, piece);
                let previous = held.as_ref().is_some_and(|held| piece.previous.is_subset_of(held));
                previous && (begins || (last.file == piece.file && piece.start <= last.end))
            });
            let fits = is_archived(&self.store.contents().await, piece) || goes_on;
            let placed = if fits { self.archive_chunk(left).await } else { Ok(ChunkFate::Nowhere) };
            match placed {
                Ok(ChunkFate::Archived | ChunkFate::Elsewhere) => {}
                Ok(ChunkFate::Nowhere) => foreign = foreign.union(&piece.gtids),
                Err(error) if error.kind == ErrorKind::Damaged => {
                    self.reporter.notice(&error.to_string());
                    foreign = foreign.union(&piece.gtids);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(damage) = &noted.damage {
            self.reporter.notice(&damage.to_string());
        }
        self.store.seal_tail().await?;
        let what = if foreign.is_empty() && noted.damage.is_none() {
            "all its acknowledged transactions are archived: remove it when no older archiver runs".to_owned()
        } else {
            format!(
                "its acknowledged transactions {foreign} do not fit this archive: they belong to another repository, or can be read with mysqlbinlog"
            )
        };
        self.reporter.notice(&format!("the spool of an older version remains in {}; {what}", dir.display()));
        Ok(())
    }
}

/// Location of a recovered chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkFate {
    /// In the archive, byte for byte, according to its index.
    Archived,
    /// Its transactions are in the archive, from another file.
    Elsewhere,
    Nowhere,
}

/// True if the archive has these bytes of this file. After a reset the server uses the names of files
/// and the numbers of transactions again: only the commit times tell the old file from the new one.
fn is_archived(archive: &Archive, piece: &Segment) -> bool {
    archive.segments.iter().any(|stored| {
        (stored.source, &stored.file) == (piece.source, &piece.file)
            && stored.start <= piece.start
            && piece.end <= stored.end
            && piece.gtids.is_subset_of(&stored.gtids)
            && encloses(stored, piece)
    })
}

/// True if a piece was committed between the first and the last commit of a segment.
fn encloses(stored: &Segment, piece: &Segment) -> bool {
    match (stored.committed, piece.committed) {
        (Some((first, last)), Some((from, to))) => first <= from && to <= last,
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

fn overlaps(last: &Segment, piece: &Segment) -> bool {
    last.file == piece.file && piece.start < last.end && last.end < piece.end
}

/// True if the segment follows everything archived of its server. Shorter names sort first: the
/// number in a file's name may gain a digit.
fn is_after(last: &Segment, piece: &Segment) -> bool {
    (last.file.len(), last.file.as_str(), last.end) <= (piece.file.len(), piece.file.as_str(), piece.start)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use backstop_host::Host;
    use backstop_repo::Repository;
    use backstop_types::progress::Progress;
    use object_store::memory::InMemory;

    use super::super::queue::{AckPosition, Chunk};
    use super::super::sample_binlog::{SAMPLE_FILE, chunk, server, set, transactions};
    use super::*;
    use crate::disk::HostDisk;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Reporter for Told {
        fn step(&self, _: &'static str) {}
        fn progress(&self, _: Progress) {}
        fn notice(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    impl Told {
        fn all(&self) -> String {
            self.0.lock().unwrap().join("\n")
        }
    }

    async fn archive() -> ArchiveWriter {
        let repository = Repository::on(Arc::new(InMemory::new()), None, Host::system()).await.unwrap();
        repository.acquire_archive_lease(&"orders".parse().unwrap()).await.unwrap()
    }

    /// Writes journal lines for transactions `from..=to` in chunks of `each`, as if they had been
    /// acknowledged. The file begins with the first transaction at offset 0.
    fn acknowledge(dir: &Path, name: &str, from: u64, to: u64, each: usize) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        let path = dir.join(name);
        let all = magic(to);
        let begin = if from == 1 { 0 } else { magic(from - 1).len() };
        std::fs::write(&path, &all[begin..]).unwrap();
        let mut lines = Vec::new();
        for number in (from..=to).step_by(each) {
            let last = (number + each as u64 - 1).min(to);
            let piece = noted(number, last);
            let bytes = &all[piece.start as usize..piece.end as usize];
            let at = AckPosition { source: server(), file: SAMPLE_FILE.to_owned(), offset: piece.end };
            let skip = piece.start - begin as u64;
            lines.extend(spool_journal::note_line(&at, &piece, skip, &blake3::hash(bytes)).unwrap());
        }
        std::fs::write(spool_journal::journal_path(&path), lines).unwrap();
        path
    }

    fn magic(to: u64) -> Vec<u8> {
        [&b"\xfebin"[..], &transactions(4, 1, to)].concat()
    }

    fn noted(from: u64, to: u64) -> Chunk {
        let start = if from == 1 { 0 } else { magic(from - 1).len() as u64 };
        let bytes = &magic(to)[start as usize..];
        let previous = if from == 1 { GtidSet::new() } else { set(&format!("A:1-{}", from - 1)) };
        Chunk { previous, ..chunk(start, bytes, &format!("A:{from}-{to}")) }
    }

    async fn stored(store: &ArchiveWriter, from: u64, to: u64) {
        let (piece, bytes) = (noted(from, to), magic(to));
        let bytes = &bytes[piece.start as usize..];
        let at = AckPosition { source: server(), file: SAMPLE_FILE.to_owned(), offset: piece.end };
        let segment =
            super::super::upload::segment(&at, &piece, SegmentHash(*blake3::hash(bytes).as_bytes()));
        store.put_tail(&segment, bytes).await.unwrap();
    }

    async fn recover(
        store: &ArchiveWriter,
        spool: &Path,
        old_spool: Option<&Path>,
        told: &Told,
    ) -> Result<()> {
        SpoolRecovery { store, disk: &HostDisk, spool, old_spool, reporter: told }.run().await
    }

    async fn held(store: &ArchiveWriter) -> GtidSet {
        store.held().await.0.unwrap_or_default()
    }

    #[tokio::test]
    async fn acknowledged_spool_is_archived_then_removed_if_overlapping() {
        let (dir, told) = (tempfile::tempdir().unwrap(), Told::default());
        let store = archive().await;
        stored(&store, 1, 3).await;
        acknowledge(dir.path(), "one", 1, 9, 2);
        // The same transactions in other chunks, and more: the contents of a second file after the
        // first was given up.
        acknowledge(dir.path(), "one+1", 4, 12, 3);
        std::fs::write(dir.path().join("never-noted"), "streamed only").unwrap();
        recover(&store, dir.path(), None, &told).await.unwrap();
        assert_eq!(held(&store).await, set("A:1-12"));
        let (_, last) = store.held().await;
        assert_eq!(last[0].end, magic(12).len() as u64);
        assert_eq!(spool_journal::spool_files(&HostDisk, dir.path()).unwrap(), [] as [PathBuf; 0]);
        assert_eq!(told.all(), "");
    }

    #[tokio::test]
    async fn intact_chunks_are_archived_before_damaged_spool_is_refused() {
        let (dir, told) = (tempfile::tempdir().unwrap(), Told::default());
        let store = archive().await;
        let path = acknowledge(dir.path(), "one", 1, 9, 3);
        let journal = spool_journal::journal_path(&path);
        let mut lines = std::fs::read(&journal).unwrap();
        let second = lines.iter().position(|byte| *byte == b'\n').unwrap() + 40;
        lines[second] ^= 1;
        std::fs::write(&journal, &lines).unwrap();
        let error = recover(&store, dir.path(), None, &told).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert_eq!(held(&store).await, set("A:1-3"));
        assert_eq!(std::fs::read(&journal).unwrap(), lines);
        assert!(path.exists());
        // Bytes that differ from the journal are set aside too.
        acknowledge(dir.path(), "one", 1, 9, 3);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(magic(7).len());
        std::fs::write(&path, bytes).unwrap();
        let error = recover(&store, dir.path(), None, &told).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert!(error.message.contains(":7-9"), "{error}");
        assert_eq!(held(&store).await, set("A:1-6"));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn spool_of_older_version_is_archived_and_kept() {
        let (dir, told) = (tempfile::tempdir().unwrap(), Told::default());
        let (spool, old) = (dir.path().join("new"), dir.path().join("old"));
        acknowledge(&old, "one", 1, 9, 3);
        // Nothing of this server is archived here: the spool may belong to another cluster.
        let other = archive().await;
        recover(&other, &spool, Some(&*old), &told).await.unwrap();
        assert_eq!(held(&other).await, GtidSet::new());
        assert!(told.all().contains(":1-9"), "{}", told.all());
        let store = archive().await;
        stored(&store, 1, 3).await;
        recover(&store, &spool, Some(&*old), &told).await.unwrap();
        assert_eq!(held(&store).await, set("A:1-9"));
        assert!(told.all().contains("all its acknowledged transactions are archived"), "{}", told.all());
        assert_eq!(spool_journal::spool_files(&HostDisk, &old).unwrap().len(), 2, "nothing of it is removed");
    }
}
