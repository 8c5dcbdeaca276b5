//! Bytes of a file on the disk, as the repository reads them.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use backstop_host::Host;
use backstop_repo::SegmentBytes;
use backstop_types::error::{Result, ResultExt};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, ReadBuf};

use super::archiver::Shared;
use crate::disk::{Disk, DiskFile};

/// Size of one read, in bytes.
const READ_BYTES: u64 = 1 << 20;

/// A file whose bytes are those of a whole segment.
pub(super) struct SpoolBytes {
    disk: Arc<dyn Disk>,
    host: Host,
    path: PathBuf,
}

impl Shared {
    /// Returns the bytes of a file of the spool, or beside it.
    pub(super) fn spool_bytes(&self, path: &Path) -> SpoolBytes {
        let (disk, host) = (Arc::clone(&self.disk), self.ctx.host.clone());
        SpoolBytes { disk, host, path: path.to_owned() }
    }
}

#[async_trait]
impl SegmentBytes for SpoolBytes {
    async fn open(&self) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let doing = format!("cannot read {}", self.path.display());
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        let opened = self.host.blocking(move || {
            let file = disk.open(&path)?;
            Ok::<_, io::Error>((file.size()?, file))
        });
        let (size, file) = opened.await?.failed(doing)?;
        let (file, host) = (Arc::from(file), self.host.clone());
        Ok(Box::new(DiskReader { file, host, at: 0, size, read: Vec::new(), taken: 0, reading: None }))
    }
}

/// Reads a file from its beginning, part after part.
struct DiskReader {
    file: Arc<dyn DiskFile>,
    host: Host,
    /// Offset of the next read.
    at: u64,
    size: u64,
    /// The last part, of which the first `taken` bytes were returned.
    read: Vec<u8>,
    taken: usize,
    reading: Option<BoxFuture<'static, io::Result<Vec<u8>>>>,
}

impl DiskReader {
    fn next_part(&mut self) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let (file, host, at) = (Arc::clone(&self.file), self.host.clone(), self.at);
        let length = READ_BYTES.min(self.size - at);
        self.at += length;
        Box::pin(async move {
            let read = host.blocking(move || {
                let mut part = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                file.read_at(&mut part, at).map(|()| part)
            });
            read.await.map_err(io::Error::other)?
        })
    }
}

impl AsyncRead for DiskReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.taken == self.read.len() {
            if self.reading.is_none() && self.at >= self.size {
                return Poll::Ready(Ok(()));
            }
            let mut reading = self.reading.take().unwrap_or_else(|| self.next_part());
            match reading.as_mut().poll(cx) {
                Poll::Pending => {
                    self.reading = Some(reading);
                    return Poll::Pending;
                }
                Poll::Ready(part) => (self.read, self.taken) = (part?, 0),
            }
        }
        let part = &self.read[self.taken..];
        let length = part.len().min(buffer.remaining());
        buffer.put_slice(&part[..length]);
        self.taken += length;
        Poll::Ready(Ok(()))
    }
}
