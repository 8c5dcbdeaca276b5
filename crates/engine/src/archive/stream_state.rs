//! State of the stream loop: the streamed and archived transactions, and the success of its rounds.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_binlog::{Segment, Segmenter};
use backstop_policy::stream_or_fork::{
    SourceHistory, StartPosition, StreamDecision, StreamFrom, TimelineEnd, resume_or_fork,
};
use backstop_policy::topology::current_primary;
use backstop_types::error::Result;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use backstop_types::topology::Member;

use super::spool::Spool;

const FIRST_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Consecutive failures after which a run until caught up fails.
const MAX_FAILURES_UNTIL_CAUGHT_UP: u32 = 5;
/// Consecutive rounds that may end without a new transaction and are repeated immediately: the
/// source switches to a new file, or shuts down.
const MAX_EMPTY_STREAMS: u32 = 2;

/// Streamed and archived transactions.
pub(super) struct StreamState {
    pub(super) segmenter: Option<(Segmenter, ServerUuid)>,
    pub(super) spool: Spool,
    /// All transactions of the timeline, streamed or archived; `None`: no transaction yet.
    pub(super) held: Option<GtidSet>,
    /// The last archived or sealed segment of each server, except of the one that is streamed.
    pub(super) last: Vec<Segment>,
    /// Numbers of segments that the archive lost and that no source has any more.
    pub(super) unrecoverable: BTreeSet<u64>,
}

impl StreamState {
    /// Returns the state at the end of an archive, which holds `held` and whose newest segment of
    /// each server is in `last`.
    pub(super) fn new(spool: Spool, held: Option<GtidSet>, last: Vec<Segment>) -> Self {
        let held = archived_or_lost(held, &last);
        Self { segmenter: None, spool, held, last, unrecoverable: BTreeSet::new() }
    }

    /// Goes back to the end of the archive, after the spooled transactions were given up.
    pub(super) fn restart(&mut self, held: Option<GtidSet>, last: Vec<Segment>) {
        self.segmenter = None;
        self.spool.give_up();
        self.held = archived_or_lost(held, &last);
        self.last = last;
    }

    /// Begins a timeline that has only these transactions in common with the one before.
    pub(super) fn begin_timeline(&mut self, common: GtidSet) {
        self.held = Some(common);
        self.last.clear();
    }

    /// Compares a server's history with what is streamed and archived.
    pub(super) fn compare(
        &self,
        from: &StreamFrom,
        history: &SourceHistory,
        members: &[Member],
    ) -> Result<StreamDecision> {
        let archived = self.last_of(from.server_uuid).map(Segment::held_after);
        let of_server = match &self.segmenter {
            Some((segmenter, uuid)) if *uuid == from.server_uuid => Some(segmenter.held()),
            _ => archived.as_ref(),
        };
        let timeline = TimelineEnd { held: self.held.as_ref(), of_server };
        let primary = current_primary(members).ok().map(|(_, primary)| &primary.gtid_executed);
        resume_or_fork(from, history, timeline, primary)
    }

    /// Returns the last archived or sealed segment of a server.
    pub(super) fn last_of(&self, source: ServerUuid) -> Option<&Segment> {
        self.last.iter().find(|segment| segment.source == source)
    }

    /// Seals the segment that is being streamed.
    pub(super) async fn finish_file(&mut self) -> Result<()> {
        let Some((mut segmenter, source)) = self.segmenter.take() else { return Ok(()) };
        if let Err(error) = segmenter.cut(&mut self.spool).await {
            // The segmenter's bytes are not written yet: the state continues with it.
            self.segmenter = Some((segmenter, source));
            return Err(error);
        }
        for segment in self.spool.finished_segments() {
            self.last.retain(|last| last.source != segment.source);
            self.last.push(segment.clone());
        }
        self.hold(segmenter.held());
        Ok(())
    }

    /// Begins a segmenter at the decided position; `gap` are the transactions that are lost before
    /// it. Returns true if nothing of this server was archived yet.
    pub(super) async fn begin_segmenter(
        &mut self,
        source: ServerUuid,
        start: StartPosition,
        gap: &GtidSet,
    ) -> Result<bool> {
        let same = self.segmenter.as_ref().is_some_and(|(_, streamed)| *streamed == source);
        if same && start == StartPosition::AfterLastSegment {
            return Ok(false);
        }
        self.finish_file().await?;
        let last = self.last_of(source);
        let segmenter = match (start, last) {
            (StartPosition::AfterLastSegment, Some(last)) => Segmenter::after(last),
            (StartPosition::AfterLastSegment, None) => {
                Segmenter::new(source, self.held.clone().unwrap_or_default())
            }
            (StartPosition::ExceptGtids(set), _) => Segmenter::new(source, set),
        };
        let is_new = last.is_none();
        if let Some(held) = &mut self.held {
            *held = held.union(gap);
        }
        self.segmenter = Some((segmenter, source));
        Ok(is_new)
    }

    /// Adds what a segmenter has streamed.
    pub(super) fn hold(&mut self, streamed: &GtidSet) {
        self.held = Some(self.held.take().unwrap_or_default().union(streamed));
    }
}

/// Returns the transactions that need not be requested again: the archived ones, and those that
/// were missing before them.
fn archived_or_lost(held: Option<GtidSet>, last: &[Segment]) -> Option<GtidSet> {
    Some(last.iter().fold(held?, |all, segment| all.union(&segment.held_after())))
}

/// Success of the last rounds.
pub(super) struct Retries {
    /// Delay before the next round after a failed one.
    pub(super) delay: Duration,
    /// Consecutive rounds that failed.
    pub(super) failures: u32,
    /// Consecutive rounds that ended without a new transaction.
    pub(super) empty_streams: u32,
}

impl Retries {
    pub(super) fn new() -> Self {
        Self { delay: FIRST_RETRY_DELAY, failures: 0, empty_streams: 0 }
    }

    /// Records that transactions arrived.
    pub(super) fn progressed(&mut self) {
        *self = Self::new();
    }

    /// Returns the delay before the next round, and doubles it for the one after.
    pub(super) fn next_delay(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(MAX_RETRY_DELAY);
        delay
    }

    /// True if a run until caught up has failed too often.
    pub(super) fn are_exhausted(&self) -> bool {
        self.failures >= MAX_FAILURES_UNTIL_CAUGHT_UP
    }

    /// True if more than [`MAX_EMPTY_STREAMS`] rounds ended without a new transaction.
    pub(super) fn are_empty(&self) -> bool {
        self.empty_streams > MAX_EMPTY_STREAMS
    }
}
