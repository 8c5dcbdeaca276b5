//! Reads the bytes of a stored segment, and checks them on the way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use backstop_types::archive::{ArchivedSegment, SegmentState};
use backstop_types::error::Error;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::stored_segment::frames;
use crate::ObjectRef;
use crate::encrypted_store::EncryptedStore;
use crate::object::{self, ExpectedObject, ObjectError, ObjectKind, ObjectResult, ReadHeader};

/// Opens a segment: the reader checks each frame before it returns its bytes, and the whole against
/// the segment's hash at its end.
pub(crate) async fn open_segment(
    store: &EncryptedStore,
    segment: &ArchivedSegment,
) -> ObjectResult<SegmentReader> {
    let kind = match segment.state {
        SegmentState::Tail => ObjectKind::Entry,
        SegmentState::Sealed => ObjectKind::Segment,
    };
    let reference =
        ObjectRef { key: segment.object.clone(), size: segment.stored_bytes, digest: segment.digest.clone() };
    let opened = store.open(ExpectedObject::referenced(kind, &reference), ReadHeader::Tail).await?;
    let frames = frames(segment.size());
    if opened.table.frames().len() < frames {
        return Err(ObjectError::damaged(&segment.object, "it has fewer frames than its segment"));
    }
    Ok(SegmentReader {
        frames: object::stream_frames(&store.host, opened, 0..frames),
        now: Vec::new(),
        at: 0,
        left: segment.size(),
        hasher: blake3::Hasher::new(),
        hash: segment.hash.0,
        key: segment.object.clone(),
    })
}

/// Reads a segment from its beginning to its end.
pub(crate) struct SegmentReader {
    frames: mpsc::Receiver<ObjectResult<Vec<u8>>>,
    now: Vec<u8>,
    at: usize,
    left: u64,
    hasher: blake3::Hasher,
    hash: [u8; 32],
    key: String,
}

impl SegmentReader {
    fn wrong(&self, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, Error::from(ObjectError::damaged(&self.key, what)))
    }

    fn take(&mut self, frame: Option<ObjectResult<Vec<u8>>>) -> io::Result<()> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, Error::from(error)));
            }
            None => return Err(self.wrong("it ends too early")),
        };
        let size = frame.len() as u64;
        if size > self.left {
            return Err(self.wrong("its frames are longer than its segment"));
        }
        self.left -= size;
        self.hasher.update(&frame);
        if self.left == 0 && *self.hasher.finalize().as_bytes() != self.hash {
            return Err(self.wrong("its bytes are not those of the segment"));
        }
        (self.now, self.at) = (frame, 0);
        Ok(())
    }
}

impl AsyncRead for SegmentReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.at == self.now.len() && self.left > 0 {
            let frame = ready!(self.frames.poll_recv(context));
            self.take(frame)?;
        }
        let count = out.remaining().min(self.now.len() - self.at);
        out.put_slice(&self.now[self.at..self.at + count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}
