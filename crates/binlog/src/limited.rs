//! A line of the archive up to a moment, whose trouble is remembered.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use backstop_model::fault::{Fault, Result};
use backstop_model::gtid::GtidSet;
use tokio::io::{AsyncRead, ReadBuf};

use crate::segment::{Segment, SegmentSource};

/// Gives of another source only what is in a set. What goes wrong with a read is kept for whoever runs the server: a replica is told no
/// more than words.
pub struct Limited<S> {
    source: S,
    limit: GtidSet,
    trouble: Trouble,
}

type Trouble = Arc<Mutex<Option<Fault>>>;

impl<S: SegmentSource> Limited<S> {
    /// Of this source, only these transactions.
    pub fn new(source: S, limit: GtidSet) -> Self {
        Self { source, limit, trouble: Trouble::default() }
    }

    /// The source that is limited.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// What went wrong last, once.
    pub fn trouble(&self) -> Option<Fault> {
        slot(&self.trouble).take()
    }
}

fn slot(trouble: &Trouble) -> std::sync::MutexGuard<'_, Option<Fault>> {
    // An option is whole whoever panicked.
    trouble.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl<S: SegmentSource> SegmentSource for Limited<S> {
    async fn segments(&self) -> Result<Vec<Segment>> {
        let segments = self.source.segments().await.inspect_err(|fault| {
            *slot(&self.trouble) = Some(fault.clone());
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
            Ok(bytes) => Ok(Box::new(Watched { bytes, trouble: Arc::clone(&self.trouble) })),
            Err(fault) => {
                *slot(&self.trouble) = Some(fault.clone());
                Err(fault)
            }
        }
    }
}

/// Bytes whose errors are remembered.
struct Watched {
    bytes: Box<dyn AsyncRead + Send + Unpin>,
    trouble: Trouble,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.bytes).poll_read(context, out));
        if let Err(error) = &read {
            let known = error.get_ref().and_then(|inner| inner.downcast_ref::<Fault>()).cloned();
            *slot(&self.trouble) = Some(known.unwrap_or_else(|| Fault::failed(error.to_string())));
        }
        Poll::Ready(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_model::fault::Kind;
    use tokio::io::AsyncReadExt;

    use super::*;

    struct Broken;

    #[async_trait]
    impl SegmentSource for Broken {
        async fn segments(&self) -> Result<Vec<Segment>> {
            Err(Fault::new(Kind::Store, "gone"))
        }

        async fn open(&self, _: &Segment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
            let error = io::Error::new(io::ErrorKind::InvalidData, Fault::new(Kind::Damaged, "rotten"));
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
    async fn trouble_keeps_its_kind() {
        let limited = Limited::new(Broken, GtidSet::new());
        assert!(limited.segments().await.is_err());
        assert_eq!(limited.trouble().unwrap().kind, Kind::Store);
        let segment = Segment {
            source: "aaaaaaaa-0000-0000-0000-000000000000".parse().unwrap(),
            file: "b.1".into(),
            start: 0,
            end: 9,
            previous: GtidSet::new(),
            gtids: GtidSet::new(),
            committed: None,
            hash: [0; 32],
        };
        let mut bytes = limited.open(&segment).await.unwrap();
        assert!(bytes.read_to_end(&mut Vec::new()).await.is_err());
        assert_eq!(limited.trouble().unwrap().kind, Kind::Damaged);
        assert!(limited.trouble().is_none());
    }
}
