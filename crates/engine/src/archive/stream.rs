//! Reads a source's stream into the spool.

use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::{EventStream, Segmenter, SegmenterStep};
use backstop_policy::stream_or_fork::BinlogPosition;
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use backstop_types::progress::{Progress, ProgressUnit};

use super::queue::Queue;
use super::spool::Spool;
use super::stream_position::SharedStreamPosition;
use crate::context::RunContext;

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
    pub(super) source: ServerUuid,
    pub(super) queue: &'a Arc<Queue>,
    pub(super) stream_position: &'a SharedStreamPosition,
    pub(super) ctx: &'a RunContext,
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
    pub(super) async fn read(
        &self,
        stream: &mut EventStream,
        segmenter: &mut Segmenter,
        spool: &mut Spool,
    ) -> Result<StreamEnd> {
        self.publish(segmenter, spool)?;
        let outcome = self.read_events(stream, segmenter, spool).await;
        publish(segmenter, spool)?;
        outcome
    }

    async fn read_events(
        &self,
        stream: &mut EventStream,
        segmenter: &mut Segmenter,
        spool: &mut Spool,
    ) -> Result<StreamEnd> {
        loop {
            if let Some(error) = self.queue.given_up() {
                return Err(error);
            }
            if segmenter.unsealed() == 0 {
                spool.expect(segmenter.held());
            }
            let quiet = if spool.has_unpublished() && segmenter.is_described() {
                Duration::ZERO
            } else {
                IDLE_POLL_INTERVAL
            };
            match segmenter.step(stream, spool, quiet).await? {
                SegmenterStep::Quiet => {
                    self.queue.set_busy_source(false);
                    self.publish(segmenter, spool)?;
                }
                SegmenterStep::End => return Ok(StreamEnd::AtEnd),
                SegmenterStep::Refused(error) => return Ok(StreamEnd::Refused(error)),
                SegmenterStep::Hole { previous } => return Ok(StreamEnd::Hole(previous)),
                SegmenterStep::Heartbeat { file, offset } => {
                    self.queue.set_busy_source(false);
                    self.publish(segmenter, spool)?;
                    self.note_heartbeat(segmenter, &BinlogPosition { file, offset });
                }
                SegmenterStep::File(_) => {}
                SegmenterStep::Transaction { gtid, end, committed, .. } => {
                    spool.transaction(end, &gtid, committed, self.ctx.host.clock.monotonic());
                }
                SegmenterStep::Other => {
                    spool.event(segmenter.position().map_or(0, |(_, end)| end));
                    spool.expect(segmenter.held());
                }
            }
            let large = spool.should_finish_segment();
            if !large && spool.should_publish() {
                self.queue.set_busy_source(true);
                self.publish(segmenter, spool)?;
            }
            if large
                || segmenter.unsealed() >= MAX_SEGMENT_BYTES
                || self.queue.partials() >= MAX_PARTIALS_PER_SEGMENT
            {
                segmenter.cut(spool).await?;
            }
            self.wait_for_space().await;
        }
    }

    /// Records a heartbeat: the source has sent everything up to here. The monitor asks the source
    /// itself if that is still its position.
    fn note_heartbeat(&self, segmenter: &Segmenter, at: &BinlogPosition) {
        if self.queue.given_up().is_some() {
            return;
        }
        let here = segmenter.position().is_some_and(|(file, offset)| file == at.file && offset == at.offset);
        let passed = self.queue.counts();
        if here && passed.archived >= passed.published {
            self.queue.source_complete(self.source, segmenter.held());
        }
        let done = passed.archived;
        self.ctx.reporter.progress(Progress { done, total: None, unit: ProgressUnit::Transactions });
    }

    /// Publishes the whole transactions, and the position they end at.
    fn publish(&self, segmenter: &Segmenter, spool: &mut Spool) -> Result<()> {
        publish(segmenter, spool)?;
        self.stream_position.advance(segmenter, self.queue.counts().published);
        Ok(())
    }

    async fn wait_for_space(&self) {
        while self.queue.waiting_bytes() > MAX_SPOOL_BYTES {
            let changed = self.queue.changed.notified();
            tokio::select! {
                () = changed => {}
                () = self.ctx.host.clock.sleep(IDLE_POLL_INTERVAL) => {}
            }
        }
    }
}

/// Publishes the whole transactions, if the set of transactions before them is known.
fn publish(segmenter: &Segmenter, spool: &mut Spool) -> Result<()> {
    if segmenter.is_described() { spool.publish() } else { Ok(()) }
}
