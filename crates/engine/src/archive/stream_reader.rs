//! Reads a source's stream into the spool.

use std::time::Duration;

use backstop_binlog::{EventStream, Segmenter, SegmenterStep};
use backstop_policy::stream_or_fork::BinlogPosition;
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use backstop_types::progress::{Progress, ProgressUnit};

use super::archiver::Archiver;
use super::spool::Spool;
use super::stream_position::IdleStream;

/// Size at which a segment is sealed, in bytes.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;
/// Number of tail segments at which a segment is sealed, to keep lists short.
const MAX_PARTIALS_PER_SEGMENT: u64 = 2048;
/// Size of the spool at which the reader stops reading, in bytes.
const MAX_SPOOL_BYTES: u64 = 4 << 30;
/// Longest wait for the stream before the reader checks its other conditions.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Reads one stream.
pub(super) struct StreamReader<'a> {
    pub(super) archiver: &'a Archiver<'a>,
    pub(super) source: ServerUuid,
    pub(super) stream: EventStream,
    pub(super) segmenter: &'a mut Segmenter,
    pub(super) spool: &'a mut Spool,
    /// Heartbeats since the last event.
    pub(super) idle: Option<IdleStream>,
}

/// Reason why reading ended, other than an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The source has no more transactions.
    AtEnd,
    /// The source cannot send the requested transactions.
    Refused(Error),
    /// The stream would leave a hole in the source's file: begin it with exactly this set.
    Hole(GtidSet),
}

impl StreamReader<'_> {
    /// Reads until the stream ends or breaks. Cancel-safe: a partial transaction is truncated.
    pub(super) async fn read(mut self) -> Result<StreamEnd> {
        self.publish()?;
        let outcome = self.read_events().await;
        self.publish_whole()?;
        outcome
    }

    async fn read_events(&mut self) -> Result<StreamEnd> {
        loop {
            if let Some(error) = self.archiver.shared.queue.given_up() {
                return Err(error);
            }
            if self.segmenter.unsealed() == 0 {
                self.spool.expect(self.segmenter.held());
            }
            let quiet = if self.spool.has_unpublished() && self.segmenter.is_described() {
                Duration::ZERO
            } else {
                IDLE_POLL_INTERVAL
            };
            let step = self.segmenter.step(&mut self.stream, self.spool, quiet).await?;
            if let Some(end) = self.take(step)? {
                return Ok(end);
            }
            self.seal_if_large().await?;
            while self.archiver.shared.queue.waiting_bytes() > MAX_SPOOL_BYTES {
                self.archiver.queue_change().await;
            }
        }
    }

    /// Records a step of the segmenter; `Some`: the stream ends with it.
    fn take(&mut self, step: SegmenterStep) -> Result<Option<StreamEnd>> {
        let queue = &self.archiver.shared.queue;
        if !matches!(step, SegmenterStep::Quiet | SegmenterStep::Heartbeat { .. }) {
            self.idle = None;
        }
        match step {
            SegmenterStep::Quiet => {
                queue.set_busy_source(false);
                self.publish()?;
            }
            SegmenterStep::End => return Ok(Some(StreamEnd::AtEnd)),
            SegmenterStep::Refused(error) => return Ok(Some(StreamEnd::Refused(error))),
            SegmenterStep::Hole { previous } => return Ok(Some(StreamEnd::Hole(previous))),
            SegmenterStep::Heartbeat { file, offset } => {
                let at = BinlogPosition { file, offset };
                queue.set_busy_source(false);
                self.idle = Some(IdleStream::after(self.idle.take(), at.clone()));
                self.publish()?;
                self.note_heartbeat(&at);
            }
            SegmenterStep::File(_) => {}
            SegmenterStep::Transaction { gtid, end, committed, .. } => {
                self.spool.transaction(end, &gtid, committed, self.archiver.monotonic());
            }
            SegmenterStep::Other => {
                self.spool.event(self.segmenter.position().map_or(0, |(_, end)| end));
                self.spool.expect(self.segmenter.held());
            }
        }
        Ok(None)
    }

    /// Publishes a large chunk although more transactions arrive, and seals a large segment.
    async fn seal_if_large(&mut self) -> Result<()> {
        let queue = &self.archiver.shared.queue;
        let large = self.spool.should_finish_segment();
        if !large && self.spool.should_publish() {
            queue.set_busy_source(true);
            self.publish()?;
        }
        if large
            || self.segmenter.unsealed() >= MAX_SEGMENT_BYTES
            || queue.partials() >= MAX_PARTIALS_PER_SEGMENT
        {
            self.segmenter.cut(self.spool).await?;
        }
        Ok(())
    }

    /// Records a heartbeat: the source has sent everything up to here. The monitor asks the source
    /// itself if that is still its position.
    fn note_heartbeat(&self, at: &BinlogPosition) {
        let queue = &self.archiver.shared.queue;
        if queue.given_up().is_some() {
            return;
        }
        let place = self.segmenter.position();
        let here = place.is_some_and(|(file, offset)| file == at.file && offset == at.offset);
        let passed = queue.counts();
        if here && passed.archived >= passed.published {
            queue.source_complete(self.source, self.segmenter.held());
        }
        let done = passed.archived;
        self.archiver.reporter().progress(Progress { done, total: None, unit: ProgressUnit::Transactions });
    }

    /// Publishes the whole transactions, and the position they end at.
    fn publish(&mut self) -> Result<()> {
        self.publish_whole()?;
        let published = self.archiver.shared.queue.counts().published;
        self.archiver.stream_position.advance(self.segmenter, published, self.idle.clone());
        Ok(())
    }

    /// Publishes the whole transactions, if the set of transactions before them is known.
    fn publish_whole(&mut self) -> Result<()> {
        if self.segmenter.is_described() { self.spool.publish() } else { Ok(()) }
    }
}
