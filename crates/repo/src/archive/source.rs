//! A line of the archive as a binlog server reads it.

use async_trait::async_trait;
use backstop_binlog::{Segment, SegmentSource};
use backstop_model::archive::ArchivedSegment;
use backstop_model::fault::{Fault, Result};
use backstop_model::gtid::GtidSet;
use tokio::io::AsyncRead;
use tokio::sync::Mutex;

use super::{ArchiveReader, verify};
use crate::object::ObjectFault;

/// The history of one line. What it holds is looked up when it is asked for its segments.
pub struct LineSource {
    reader: ArchiveReader,
    line: u32,
    known: Mutex<Vec<ArchivedSegment>>,
}

impl LineSource {
    pub(super) fn new(reader: ArchiveReader, line: u32) -> Self {
        Self { reader, line, known: Mutex::new(Vec::new()) }
    }
}

impl LineSource {
    /// The first piece with transactions that are not in `executed` which cannot be read, or does not hold what a source sent: its object, and
    /// what is wrong with it.
    ///
    /// # Errors
    /// The store's.
    pub async fn damaged(&self, executed: &GtidSet) -> Result<Option<(String, String)>> {
        for stored in self.reader.contents().await?.all_of(self.line) {
            if stored.gtids.is_subset_of(executed) {
                continue;
            }
            match verify::sound(&self.reader, &stored).await {
                Ok(()) => {}
                Err(ObjectFault::Damaged { key, wrong }) => return Ok(Some((key, wrong))),
                Err(ObjectFault::Missing { key }) => return Ok(Some((key, "it is missing".to_owned()))),
                Err(ObjectFault::Store(fault)) => return Err(fault),
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl SegmentSource for LineSource {
    async fn segments(&self) -> Result<Vec<Segment>> {
        let history = self.reader.contents().await?.all_of(self.line);
        let segments = history.iter().map(plain).collect();
        *self.known.lock().await = history;
        Ok(segments)
    }

    async fn open(&self, segment: &Segment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let found = {
            let known = self.known.lock().await;
            known.iter().find(|stored| same(stored, segment)).cloned()
        };
        let stored = found.ok_or_else(|| {
            Fault::failed(format!(
                "read {} at {}: it is not in line {}",
                segment.file, segment.start, self.line
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

/// A stored piece as the binlog layer knows it.
pub(super) fn plain(stored: &ArchivedSegment) -> Segment {
    Segment {
        source: stored.source,
        file: stored.file.clone(),
        start: stored.start,
        end: stored.end,
        previous: stored.previous.clone(),
        gtids: stored.gtids.clone(),
        committed: stored.committed,
        hash: stored.hash.0,
    }
}
