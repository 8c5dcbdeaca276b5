//! Reads a segment of the archive while a thread parses it.

use std::io::{self, Read};

use backstop_types::error::{Result, ResultExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// Size of the chunks that pass from the reader to the parsing thread, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
const MAX_CHUNKS_IN_FLIGHT: usize = 4;

/// Returns the result of `understand` on the segment's bytes. It runs on a thread that may block,
/// and need not read to the end.
///
/// # Errors
/// Returns the errors of `understand`; it receives a failed read of the store as an error of its
/// own read.
pub(crate) async fn read_segment<T: Send + 'static>(
    mut input: impl AsyncRead + Send + Unpin,
    understand: impl FnOnce(ChunkReader) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel(MAX_CHUNKS_IN_FLIGHT);
    let bytes = ChunkReader { receiver, now: Vec::new(), at: 0 };
    let understood = tokio::task::spawn_blocking(move || understand(bytes));
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut input).take(CHUNK_BYTES as u64).read_to_end(&mut chunk).await;
        let ended = matches!(read, Ok(0)) || read.is_err();
        // The receiver may be dropped early.
        if matches!(read, Ok(0)) || sender.send(read.map(|_| chunk)).await.is_err() || ended {
            break;
        }
    }
    drop(sender);
    understood.await.failed("cannot read a segment")?
}

/// Presents chunks as a stream of bytes, for a thread that may block.
pub(crate) struct ChunkReader {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    now: Vec<u8>,
    at: usize,
}

impl Read for ChunkReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.now.len() {
            match self.receiver.blocking_recv() {
                Some(chunk) => (self.now, self.at) = (chunk?, 0),
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.now.len() - self.at);
        out[..count].copy_from_slice(&self.now[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
