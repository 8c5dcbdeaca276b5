//! Timeline of the archive as a segment source for a binlog server.

use async_trait::async_trait;
use backstop_binlog::{Segment, SegmentSource};
use backstop_types::archive::ArchivedSegment;
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use tokio::io::AsyncRead;
use tokio::sync::Mutex;

use super::{ArchiveReader, verify};
use crate::object::ObjectError;

/// History of one timeline. It reads its contents from the archive when the server requests
/// segments.
pub struct TimelineSource {
    reader: ArchiveReader,
    timeline: u32,
    known: Mutex<Vec<ArchivedSegment>>,
}

impl ArchiveReader {
    /// Returns the history of a timeline, for a binlog server.
    pub fn timeline(&self, number: u32) -> TimelineSource {
        TimelineSource { reader: self.clone(), timeline: number, known: Mutex::new(Vec::new()) }
    }
}

impl TimelineSource {
    /// Returns the object and the fault of the first segment with transactions that are not in
    /// `executed` that cannot be read, or whose bytes are not those that a source sent.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn damaged(&self, executed: &GtidSet) -> Result<Option<(String, String)>> {
        for stored in self.reader.contents().await?.segments_on(self.timeline) {
            if stored.gtids.is_subset_of(executed) {
                continue;
            }
            match verify::verify_segment(&self.reader, &stored).await {
                Ok(()) => {}
                Err(ObjectError::Damaged { key, wrong }) => return Ok(Some((key, wrong))),
                Err(ObjectError::Missing { key }) => return Ok(Some((key, "it is missing".to_owned()))),
                Err(ObjectError::Store(error)) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl SegmentSource for TimelineSource {
    async fn segments(&self) -> Result<Vec<Segment>> {
        let history = self.reader.contents().await?.segments_on(self.timeline);
        let segments = history.iter().map(|stored| stored.segment.clone()).collect();
        *self.known.lock().await = history;
        Ok(segments)
    }

    async fn open(&self, segment: &Segment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let found = {
            let known = self.known.lock().await;
            known.iter().find(|stored| same(stored, segment)).cloned()
        };
        let stored = found.ok_or_else(|| {
            Error::failed(format!(
                "cannot read {} at {}: it is not in timeline {}",
                segment.file, segment.start, self.timeline
            ))
        })?;
        self.reader.open(&stored).await
    }
}

fn same(stored: &ArchivedSegment, segment: &Segment) -> bool {
    stored.source == segment.source
        && stored.file == segment.file
        && (stored.start, stored.end) == (segment.start, segment.end)
}
