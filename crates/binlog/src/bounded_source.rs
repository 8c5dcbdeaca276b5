//! Segment source limited to a GTID set; keeps its last error.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use tokio::io::{AsyncRead, ReadBuf};

use crate::segment::{Segment, SegmentSource};

/// Returns only the transactions of a set from another source. It keeps a read error for the caller
/// that runs the server: the protocol can send a replica only an error message.
pub struct BoundedSource<S> {
    source: S,
    limit: GtidSet,
    trouble: LastError,
}

type LastError = Arc<Mutex<Option<Error>>>;

impl<S: SegmentSource> BoundedSource<S> {
    /// Limits a source to these transactions.
    pub fn new(source: S, limit: GtidSet) -> Self {
        Self { source, limit, trouble: LastError::default() }
    }

    /// Returns the limited source.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns the last error, and forgets it.
    pub fn trouble(&self) -> Option<Error> {
        slot(&self.trouble).take()
    }
}

fn slot(trouble: &LastError) -> std::sync::MutexGuard<'_, Option<Error>> {
    // An option is consistent even if another thread panicked.
    trouble.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl<S: SegmentSource> SegmentSource for BoundedSource<S> {
    async fn segments(&self) -> Result<Vec<Segment>> {
        let segments = self.source.segments().await.inspect_err(|error| {
            *slot(&self.trouble) = Some(error.clone());
        })?;
        let limited = segments.into_iter().map(|segment| {
            let (previous, gtids) =
                (segment.previous.intersect(&self.limit), segment.gtids.intersect(&self.limit));
            Segment { previous, gtids, ..segment }
        });
        Ok(limited.collect())
    }

    async fn open(&self, segment: &Segment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        match self.source.open(segment).await {
            Ok(bytes) => Ok(Box::new(WatchedBytes { bytes, trouble: Arc::clone(&self.trouble) })),
            Err(error) => {
                *slot(&self.trouble) = Some(error.clone());
                Err(error)
            }
        }
    }
}

/// Reader of bytes that records its errors.
struct WatchedBytes {
    bytes: Box<dyn AsyncRead + Send + Unpin>,
    trouble: LastError,
}

impl AsyncRead for WatchedBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.bytes).poll_read(context, out));
        if let Err(error) = &read {
            let known = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
            *slot(&self.trouble) = Some(known.unwrap_or_else(|| Error::failed(error.to_string())));
        }
        Poll::Ready(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::error::ErrorKind;
    use tokio::io::AsyncReadExt;

    use backstop_types::archive::SegmentHash;

    use super::*;

    struct Broken;

    #[async_trait]
    impl SegmentSource for Broken {
        async fn segments(&self) -> Result<Vec<Segment>> {
            Err(Error::new(ErrorKind::Store, "gone"))
        }

        async fn open(&self, _: &Segment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
            let error = io::Error::new(io::ErrorKind::InvalidData, Error::new(ErrorKind::Damaged, "rotten"));
            Ok(Box::new(tokio_test_error(error)))
        }
    }

    fn tokio_test_error(error: io::Error) -> impl AsyncRead + Send + Unpin {
        struct Fails(Option<io::Error>);
        impl AsyncRead for Fails {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(self.0.take().map_or(Ok(()), Err))
            }
        }
        Fails(Some(error))
    }

    #[tokio::test]
    async fn error_keeps_its_kind_through_the_source() {
        let limited = BoundedSource::new(Broken, GtidSet::new());
        assert!(limited.segments().await.is_err());
        assert_eq!(limited.trouble().unwrap().kind, ErrorKind::Store);
        let segment = Segment {
            source: "aaaaaaaa-0000-0000-0000-000000000000".parse().unwrap(),
            file: "b.1".into(),
            start: 0,
            end: 9,
            previous: GtidSet::new(),
            gtids: GtidSet::new(),
            committed: None,
            hash: SegmentHash([0; 32]),
        };
        let mut bytes = limited.open(&segment).await.unwrap();
        assert!(bytes.read_to_end(&mut Vec::new()).await.is_err());
        assert_eq!(limited.trouble().unwrap().kind, ErrorKind::Damaged);
        assert!(limited.trouble().is_none());
    }
}
