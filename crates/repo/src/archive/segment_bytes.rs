//! Bytes of a segment to store, wherever they are.

use async_trait::async_trait;
use backstop_types::error::Result;
use tokio::io::AsyncRead;

/// Bytes of a segment to store. They may be read more than once.
#[async_trait]
pub trait SegmentBytes: Send + Sync {
    /// Opens the bytes from the beginning.
    ///
    /// # Errors
    /// Fails if they cannot be opened.
    async fn open(&self) -> Result<Box<dyn AsyncRead + Send + Unpin>>;
}

/// Bytes in memory.
#[async_trait]
impl SegmentBytes for Vec<u8> {
    async fn open(&self) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        Ok(Box::new(std::io::Cursor::new(self.clone())))
    }
}
