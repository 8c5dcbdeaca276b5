//! Segments: byte-identical parts of a server's own binlog files, cut from its stream after whole
//! transactions.
//!
//! The segments of a file, one after the other, are that file. Only the flag "in use" (byte 22)
//! differs from a file that is being written: the source clears it in the stream.

use async_trait::async_trait;
pub use backstop_types::archive::Segment;
use backstop_types::error::Result;
use backstop_types::ids::ServerUuid;
use tokio::io::AsyncRead;

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
