//! The spool: what was streamed and is not archived yet, in files of this host.
//!
//! `SPOOL/UUID.FILE.START` holds the bytes of one segment, sealed or not. The reader writes and publishes whole transactions; who
//! archives and acknowledges takes what was published, all at once: commits that come together are stored together.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{Segment, SegmentSink};
use backstop_model::fault::{Context, Fault, Result};
use backstop_model::gtid::{Gtid, GtidSet};
use backstop_model::ids::ServerUuid;
use chrono::{DateTime, Utc};

use super::queue::{PIECE, Piece, Queue};

/// What is written between two transactions stays in memory up to this size, in bytes.
const BUFFER: usize = 256 * 1024;
/// So much that was not published is, also while more comes.
const UNPUBLISHED: u64 = 1 << 20;

/// The reader's end of the spool.
pub(super) struct Spool {
    dir: PathBuf,
    queue: Arc<Queue>,
    open: Option<Open>,
    /// All that the source had executed before the next segment.
    previous: GtidSet,
    /// The last segment of each server.
    sealed: Vec<Segment>,
}

struct Open {
    file: File,
    buffer: Vec<u8>,
    source: ServerUuid,
    name: String,
    /// What was written and is not published.
    piece: Piece,
}

impl Spool {
    /// A spool in a folder, which is made.
    pub(super) fn new(dir: &Path, queue: Arc<Queue>) -> Result<Self> {
        std::fs::create_dir_all(dir)
            .failed(format!("create the spool {}", dir.display()))
            .map_err(|fault| fault.hint("create it for Backstop's user, or set snapshot.work_dir"))?;
        Ok(Self { dir: dir.to_owned(), queue, open: None, previous: GtidSet::new(), sealed: Vec::new() })
    }

    /// The file of a segment.
    pub(super) fn path(dir: &Path, source: ServerUuid, file: &str, start: u64) -> PathBuf {
        dir.join(format!("{source}.{file}.{start:012}"))
    }

    /// The last segment of each server that was written.
    pub(super) fn sealed(&self) -> &[Segment] {
        &self.sealed
    }

    /// All that the source had executed before what is written next. Only between segments, and at a file's beginning.
    pub(super) fn expect(&mut self, previous: &GtidSet) {
        self.previous = previous.clone();
        if let Some(open) = &mut self.open
            && open.piece.start == 0
            && open.piece.transactions == 0
        {
            open.piece.previous = previous.clone();
        }
    }

    /// A transaction that ends here is whole.
    pub(super) fn transaction(
        &mut self,
        end: u64,
        gtid: &Gtid,
        committed: Option<DateTime<Utc>>,
        now: Duration,
    ) {
        let Some(open) = &mut self.open else { return };
        open.piece.end = end;
        open.piece.transaction(gtid, committed, now);
    }

    /// An event outside of transactions that ends here is whole.
    pub(super) fn event(&mut self, end: u64) {
        if let Some(open) = &mut self.open {
            open.piece.end = open.piece.end.max(end);
        }
    }

    /// True if something whole was not published.
    pub(super) fn has_unpublished(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.piece.size() > 0)
    }

    /// True if so much was not published that it should be now.
    pub(super) fn should_publish(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.piece.size() >= UNPUBLISHED)
    }

    /// True if so much was written at once that it must not be put as a piece: the segment is to end here.
    pub(super) fn should_seal(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.piece.size() >= PIECE)
    }

    /// Hands on what is whole.
    pub(super) fn publish(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.piece.size() == 0 {
            return Ok(());
        }
        open.flush()?;
        let next = open.piece.next();
        self.queue.publish(std::mem::replace(&mut open.piece, next));
        Ok(())
    }
}

impl Open {
    fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.buffer).failed("write the spool").map_err(full)?;
        self.buffer.clear();
        Ok(())
    }
}

fn full(fault: Fault) -> Fault {
    fault.hint("see that the spool's volume (snapshot.work_dir) has room")
}

#[async_trait]
impl SegmentSink for Spool {
    async fn begin(&mut self, source: ServerUuid, file: &str, start: u64) -> Result<()> {
        let path = Self::path(&self.dir, source, file, start);
        let created = File::create(&path).failed(format!("create {}", path.display()));
        let piece = Piece::begin(start, self.previous.clone());
        let (name, buffer) = (file.to_owned(), Vec::with_capacity(BUFFER));
        self.open = Some(Open { file: created.map_err(full)?, buffer, source, name, piece });
        self.queue.begin(source, file, start, path);
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(Fault::failed("write the spool: no segment was begun"));
        };
        open.buffer.extend_from_slice(bytes);
        if open.buffer.len() >= BUFFER { open.flush() } else { Ok(()) }
    }

    async fn cut_back(&mut self, size: u64) -> Result<()> {
        use std::io::{Seek, SeekFrom};
        let Some(open) = &mut self.open else { return Ok(()) };
        open.flush()?;
        open.file.set_len(size).failed("cut back the spool")?;
        open.file.seek(SeekFrom::Start(size)).failed("cut back the spool").map(drop)
    }

    async fn seal(&mut self, segment: &Segment) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.flush()?;
        if (open.source, &open.name) != (segment.source, &segment.file) {
            return Err(Fault::failed("seal a segment of the spool: it is another one"));
        }
        self.previous = segment.held_after();
        self.sealed.retain(|last| last.source != segment.source);
        self.sealed.push(segment.clone());
        self.queue.seal(segment.clone(), open.piece);
        Ok(())
    }
}
