//! Segments: byte-identical parts of a server's own binlog files, cut from its stream after whole
//! transactions.
//!
//! The segments of a file, one after the other, are that file. Only the flag "in use" (byte 22)
//! differs from a file that is being written: the source clears it in the stream.

use async_trait::async_trait;
use backstop_types::error::Result;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use chrono::{DateTime, Utc};
use tokio::io::AsyncRead;

/// A part of a server's binlog file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The server whose file it is.
    pub source: ServerUuid,
    /// Name of the file on the server.
    pub file: String,
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Offset after its last byte.
    pub end: u64,
    /// All that the server had executed before it: the file's Previous_gtids and the transactions
    /// in the file before `start`.
    pub previous: GtidSet,
    /// The transactions in it.
    pub gtids: GtidSet,
    /// Times of the earliest and the latest commit in it, by the clocks of the servers that
    /// executed them, in µs. `None`: it holds no transaction.
    pub committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
}

impl Segment {
    /// Returns its size in bytes.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Returns all that the server had executed at its end.
    #[must_use]
    pub fn held_after(&self) -> GtidSet {
        self.previous.union(&self.gtids)
    }
}

/// Sink for segments, one at a time.
#[async_trait]
pub trait SegmentSink: Send {
    /// Begins a segment at this offset of a file. Discards a previous segment that was not sealed.
    async fn begin(&mut self, source: ServerUuid, file: &str, start: u64) -> Result<()>;

    /// Writes the next bytes of the segment.
    async fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Truncates the segment to its first `size` bytes: the rest of a transaction did not arrive.
    async fn cut_back(&mut self, size: u64) -> Result<()>;

    /// Seals the complete segment. On return it must have the durability that an acknowledgement
    /// promises.
    async fn seal(&mut self, segment: &Segment) -> Result<()>;
}

/// Source of stored segments.
#[async_trait]
pub trait SegmentSource: Send + Sync {
    /// Returns the segments of one timeline in order: those of each server's files in the order of
    /// the file, each server from where it took over.
    async fn segments(&self) -> Result<Vec<Segment>>;

    /// Opens the bytes of a segment. An implementation must verify them against the segment's hash.
    async fn open(&self, segment: &Segment) -> Result<Box<dyn AsyncRead + Send + Unpin>>;
}
