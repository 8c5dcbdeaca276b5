//! Segments: byte-identical pieces of a server's own binlog files, cut from its stream after whole transactions.
//!
//! The pieces of a file, one after the other, are that file. Only the flag that says "in use" differs from a file that is being
//! written (byte 22): the source clears it in what it sends.

use async_trait::async_trait;
use backstop_model::error::Result;
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use chrono::{DateTime, Utc};
use tokio::io::AsyncRead;

/// A piece of a server's binlog file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Whose file it is.
    pub source: ServerUuid,
    /// The file's name there.
    pub file: String,
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Offset behind its last byte.
    pub end: u64,
    /// All that the server had executed before it: the file's Previous_gtids and what is in the file before `start`.
    pub previous: GtidSet,
    /// The transactions in it.
    pub gtids: GtidSet,
    /// When its earliest transaction was committed, and its latest: on the server they were made on, to the µs. `None`: it holds none.
    pub committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
}

impl Segment {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// All that the server had executed at its end.
    #[must_use]
    pub fn held_after(&self) -> GtidSet {
        self.previous.union(&self.gtids)
    }
}

/// Takes segments, one at a time.
#[async_trait]
pub trait SegmentSink: Send {
    /// A segment begins at this offset of a file. What was begun before and not sealed is void.
    async fn begin(&mut self, source: ServerUuid, file: &str, start: u64) -> Result<()>;

    /// The next bytes of the segment.
    async fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Forgets all but the first `size` bytes of the segment: the rest of a transaction did not arrive.
    async fn cut_back(&mut self, size: u64) -> Result<()>;

    /// The segment is complete. When this returns it must be as durable as what is acknowledged must be.
    async fn seal(&mut self, segment: &Segment) -> Result<()>;
}

/// Gives segments back.
#[async_trait]
pub trait SegmentSource: Send + Sync {
    /// The segments of one line in order: those of each server's files in the order of the file, each server where it took over.
    async fn segments(&self) -> Result<Vec<Segment>>;

    /// The bytes of a segment. What is read must be checked against the segment's hash by whoever implements this.
    async fn open(&self, segment: &Segment) -> Result<Box<dyn AsyncRead + Send + Unpin>>;
}
