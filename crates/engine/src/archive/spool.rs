//! Spool: streamed transactions that are not archived yet, in files of this host.
//!
//! `SPOOL/UUID.FILE.START` holds the bytes of one segment, sealed or not. The reader writes and
//! publishes whole transactions. The tasks that archive and acknowledge take all that is published
//! together, so that concurrent commits are stored together.
//!
//! Bytes are written at fixed offsets: a retry overwrites the rest of a failed write and never
//! appends to it. A file that exists already may belong to another segment or hold acknowledged
//! transactions: then `+1`, `+2`, … is added to the name. So is it to a name that was used a while
//! ago, as after a reset of the source: the tasks that archive and acknowledge know files by their
//! paths.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{Segment, SegmentSink};
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::gtid::{Gtid, GtidSet};
use backstop_types::ids::ServerUuid;
use chrono::{DateTime, Utc};

use super::queue::{Chunk, MAX_CHUNK_BYTES, Queue};
use crate::disk::{Disk, DiskFile};

/// Size up to which the bytes between two transactions stay in memory, in bytes.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;
/// Number of files whose paths are not used again.
const REMEMBERED_PATHS: usize = 1_000;
/// Size of unpublished bytes at which they are published even while more arrive.
const MAX_UNPUBLISHED_BYTES: u64 = 1 << 20;

/// Writing end of the spool.
pub(super) struct Spool {
    dir: PathBuf,
    queue: Arc<Queue>,
    disk: Arc<dyn Disk>,
    open: Option<OpenSpoolFile>,
    /// All transactions that the source had executed before the next segment.
    previous: GtidSet,
    /// The last segment of each server.
    finished: Vec<Segment>,
    /// Paths of the last files, newest first.
    recent: VecDeque<PathBuf>,
}

struct OpenSpoolFile {
    file: Box<dyn DiskFile>,
    /// Number of bytes in the file.
    written: u64,
    /// Bytes that follow them.
    buffer: Vec<u8>,
    source: ServerUuid,
    name: String,
    /// Written transactions that are not published.
    chunk: Chunk,
}

impl Spool {
    /// Opens a spool in a folder, which it creates. Only its owner can read it, since it may hold
    /// what an encrypted source sent.
    pub(super) fn new(dir: &Path, queue: Arc<Queue>, disk: Arc<dyn Disk>) -> Result<Self> {
        disk.create_dir(dir)
            .failed(format!("cannot create the spool {}", dir.display()))
            .map_err(|error| error.hint("create it for Backstop's user, or set snapshot.work_dir"))?;
        let (dir, previous) = (dir.to_owned(), GtidSet::new());
        Ok(Self { dir, queue, disk, open: None, previous, finished: Vec::new(), recent: VecDeque::new() })
    }

    /// Abandons the current segment. Its published chunks stay in the queue.
    pub(super) fn give_up(&mut self) {
        self.open = None;
        self.finished.clear();
    }

    /// Creates a file for a segment.
    fn create(&mut self, source: ServerUuid, file: &str, start: u64) -> Result<(Box<dyn DiskFile>, PathBuf)> {
        let name = format!("{source}.{file}.{start:012}");
        let mut path = self.dir.join(&name);
        for attempt in 1_u64.. {
            if !self.recent.contains(&path) {
                match self.disk.create(&path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    created => {
                        let created = created.failed(format!("cannot create {}", path.display()));
                        let created = created.map_err(spool_full_hint)?;
                        self.recent.truncate(REMEMBERED_PATHS - 1);
                        self.recent.push_front(path.clone());
                        return Ok((created, path));
                    }
                }
            }
            path = self.dir.join(format!("{name}+{attempt}"));
        }
        Err(Error::failed(format!("cannot create {}: too many files have this name", path.display())))
    }

    /// Returns the last segment of each server that was written.
    pub(super) fn finished_segments(&self) -> &[Segment] {
        &self.finished
    }

    /// Sets all transactions that the source had executed before the next segment. Call it only
    /// between segments, at the beginning of a file.
    pub(super) fn expect(&mut self, previous: &GtidSet) {
        self.previous = previous.clone();
        if let Some(open) = &mut self.open
            && open.chunk.start == 0
            && open.chunk.transactions == 0
        {
            open.chunk.previous = previous.clone();
        }
    }

    /// Records that a whole transaction ends here.
    pub(super) fn transaction(
        &mut self,
        end: u64,
        gtid: &Gtid,
        committed: Option<DateTime<Utc>>,
        now: Duration,
    ) {
        let Some(open) = &mut self.open else { return };
        open.chunk.end = end;
        open.chunk.transaction(gtid, committed, now);
    }

    /// Records that an event outside of transactions ends here.
    pub(super) fn event(&mut self, end: u64) {
        if let Some(open) = &mut self.open {
            open.chunk.end = open.chunk.end.max(end);
        }
    }

    /// True if a whole transaction or event is unpublished.
    pub(super) fn has_unpublished(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.chunk.size() > 0)
    }

    /// True if the unpublished bytes exceed [`MAX_UNPUBLISHED_BYTES`].
    pub(super) fn should_publish(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.chunk.size() >= MAX_UNPUBLISHED_BYTES)
    }

    /// True if the written chunk is too large to be stored by itself: the segment should end here.
    pub(super) fn should_finish_segment(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.chunk.size() >= MAX_CHUNK_BYTES)
    }

    /// Publishes the whole transactions.
    pub(super) fn publish(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.chunk.size() == 0 {
            return Ok(());
        }
        open.flush()?;
        let next = open.chunk.next();
        self.queue.publish(std::mem::replace(&mut open.chunk, next));
        Ok(())
    }
}

impl OpenSpoolFile {
    /// Writes the buffer to the file. After a failure the next call writes the same bytes to the
    /// same offset.
    fn flush(&mut self) -> Result<()> {
        self.file
            .write_at(&self.buffer, self.written)
            .failed("cannot write the spool")
            .map_err(spool_full_hint)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Truncates file and buffer to `size` bytes.
    fn keep(&mut self, size: u64) -> std::io::Result<()> {
        let in_buffer = size.saturating_sub(self.written);
        self.buffer.truncate(usize::try_from(in_buffer).unwrap_or(usize::MAX));
        self.written = self.written.min(size);
        self.file.truncate(self.written)
    }
}

fn spool_full_hint(error: Error) -> Error {
    error.hint("free space on the spool's volume (snapshot.work_dir)")
}

#[async_trait]
impl SegmentSink for Spool {
    async fn begin(&mut self, source: ServerUuid, file: &str, start: u64) -> Result<()> {
        let (created, path) = self.create(source, file, start)?;
        let chunk = Chunk::begin(start, self.previous.clone());
        let (name, buffer) = (file.to_owned(), Vec::with_capacity(WRITE_BUFFER_BYTES));
        self.open = Some(OpenSpoolFile { file: created, written: 0, buffer, source, name, chunk });
        self.queue.begin_segment(source, file, start, path);
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(Error::failed("cannot write the spool: no segment is open"));
        };
        open.buffer.extend_from_slice(bytes);
        if open.buffer.len() >= WRITE_BUFFER_BYTES { open.flush() } else { Ok(()) }
    }

    async fn cut_back(&mut self, size: u64) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.keep(size).failed("cannot truncate the spool")
    }

    async fn seal(&mut self, segment: &Segment) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.flush()?;
        let Some(open) = self.open.take() else { return Ok(()) };
        if (open.source, &open.name) != (segment.source, &segment.file) {
            return Err(Error::failed("cannot seal a segment of the spool: another segment is open"));
        }
        self.previous = segment.held_after();
        self.finished.retain(|last| last.source != segment.source);
        self.finished.push(segment.clone());
        self.queue.finish_segment(segment.clone(), open.chunk);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::super::sample_binlog::{SAMPLE_FILE, server, transaction};
    use super::*;
    use crate::disk::failing::{FailMode, FailingDisk};

    async fn begun(dir: &Path, disk: &Arc<FailingDisk>) -> (Spool, Arc<Queue>, PathBuf) {
        let queue = Arc::new(Queue::default());
        let mut spool = Spool::new(dir, Arc::clone(&queue), Arc::clone(disk) as Arc<dyn Disk>).unwrap();
        spool.begin(server(), SAMPLE_FILE, 0).await.unwrap();
        let path = queue.newest_file().unwrap();
        (spool, queue, path)
    }

    async fn write(spool: &mut Spool, at: u64, number: u64) -> Vec<u8> {
        let bytes = transaction(at, number, 200);
        spool.write(&bytes).await.unwrap();
        let gtid = format!("{}:{number}", server()).parse().unwrap();
        spool.transaction(at + bytes.len() as u64, &gtid, None, Duration::ZERO);
        bytes
    }

    #[tokio::test]
    async fn partially_written_bytes_are_rewritten_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FailingDisk::default());
        let (mut spool, queue, path) = begun(&dir.path().join("spool"), &disk).await;
        let first = write(&mut spool, 0, 1).await;
        disk.writes.lock().unwrap().extend([FailMode::Short, FailMode::Error]);
        for _ in 0..2 {
            assert!(spool.publish().is_err());
            assert_eq!(queue.counts().published, 0);
        }
        let second = write(&mut spool, first.len() as u64, 2).await;
        spool.publish().unwrap();
        assert_eq!(queue.counts().published, 2);
        assert_eq!(std::fs::read(&path).unwrap(), [first, second].concat());
    }

    #[tokio::test]
    async fn truncation_needs_no_space_and_leaves_no_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FailingDisk::default());
        let (mut spool, _, path) = begun(dir.path(), &disk).await;
        let first = write(&mut spool, 0, 1).await;
        spool.publish().unwrap();
        disk.writes.lock().unwrap().push_back(FailMode::Short);
        // A transaction whose rest does not arrive, on a full disk.
        assert!(spool.write(&vec![9; WRITE_BUFFER_BYTES]).await.is_err());
        spool.cut_back(first.len() as u64).await.unwrap();
        let second = write(&mut spool, first.len() as u64, 2).await;
        spool.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [first, second].concat());
    }

    #[tokio::test]
    async fn spool_file_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(FailingDisk::default());
        let folder = dir.path().join("spool");
        let (mut spool, queue, first) = begun(&folder, &disk).await;
        let bytes = write(&mut spool, 0, 1).await;
        spool.publish().unwrap();
        spool.begin(server(), SAMPLE_FILE, 0).await.unwrap();
        let second = queue.newest_file().unwrap();
        assert_ne!(first, second);
        assert_eq!(std::fs::read(&first).unwrap(), bytes);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&first), mode(&second)), (0o700, 0o600, 0o600));
    }
}
