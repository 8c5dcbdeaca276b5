//! What was spooled and is not archived, between the reader and those who archive and acknowledge.

mod give_up;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop_binlog::Segment;
use backstop_model::error::Error;
use backstop_model::gtid::{Gtid, GtidSet};
use backstop_model::ids::ServerUuid;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

/// A piece of the tail grows up to this size while it waits, in bytes.
pub(super) const MAX_CHUNK_BYTES: u64 = 8 << 20;
/// So many times longer pieces wait while the source sends without a pause.
const BUSY_SOURCE_PACE_FACTOR: u32 = 5;

/// A run of whole transactions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) end: u64,
    /// All that the source had executed before it.
    pub(super) previous: GtidSet,
    pub(super) gtids: GtidSet,
    pub(super) committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// When its first transaction arrived, on the monotonic clock; `None`: it holds none.
    pub(super) since: Option<Duration>,
    pub(super) transactions: u64,
    /// It was given to the store, which may have it although it did not say so: it stays what it is.
    pub(super) offered: bool,
}

/// A position in a server's binlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AckPosition {
    pub(super) source: ServerUuid,
    pub(super) file: String,
    pub(super) offset: u64,
}

/// A segment's file in the spool.
#[derive(Debug, Clone)]
struct SpooledFile {
    source: ServerUuid,
    file: String,
    start: u64,
    path: PathBuf,
    chunks: VecDeque<Chunk>,
    /// It is complete.
    finished: Option<Segment>,
    /// Pieces of it that are in the tail.
    partials: u64,
    /// Offset in the file of the server up to which it is in the tail.
    archived_to: u64,
    /// Another was begun before it was complete: it ends with the pieces it has.
    abandoned: bool,
}

/// What to do next.
#[derive(Debug, Clone)]
pub(super) enum UploadWork {
    /// Nothing.
    None,
    /// Nothing before this moment of the monotonic clock.
    Until(Duration),
    /// Archive a piece, whose bytes begin at this offset of the file. What comes now is another piece.
    Partial { source: ServerUuid, file: String, path: PathBuf, skip: u64, chunk: Chunk },
    /// Archive a whole segment.
    Segment { segment: Segment, path: PathBuf },
    /// Put a segment in the place of its pieces, which are all archived: at leisure.
    Replace { segment: Segment, path: PathBuf },
}

/// What is spooled, in order.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Something was published or archived.
    pub(super) changed: Notify,
}

/// What the archive has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ArchivedProgress {
    /// Whose files it is, last.
    pub(super) source: Option<ServerUuid>,
    /// The source's history up to its end.
    pub(super) gtids: GtidSet,
    /// When it last had everything of its source.
    pub(super) complete_to: Option<DateTime<Utc>>,
    /// The last commit in it.
    pub(super) last_commit: Option<DateTime<Utc>>,
}

impl ArchivedProgress {
    fn reached(
        &mut self,
        source: ServerUuid,
        gtids: GtidSet,
        committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    ) {
        self.source = Some(source);
        self.gtids = gtids;
        self.last_commit = committed.map(|(_, last)| last).or(self.last_commit);
    }
}

/// A piece that is in its file, and perhaps in memory only.
#[derive(Debug, Clone)]
pub(super) struct UnsyncedChunk {
    pub(super) at: AckPosition,
    pub(super) path: PathBuf,
    /// Offset in the server's file of the first byte at that path.
    pub(super) begin: u64,
    pub(super) chunk: Chunk,
}

/// Numbers of transactions since the archiver began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TransactionCounts {
    pub(super) published: u64,
    pub(super) synced: u64,
    pub(super) archived: u64,
}

#[derive(Default)]
struct QueueState {
    files: VecDeque<SpooledFile>,
    /// Transactions that were published, that are safe on this host's disk, and that are archived.
    transactions: TransactionCounts,
    /// What was published and is not safe on this host's disk yet, if that matters.
    unsynced: Option<Vec<UnsyncedChunk>>,
    archived: ArchivedProgress,
    /// When the first transaction that is being archived arrived.
    under_way: Option<Duration>,
    /// What was published is wanted in the archive at once.
    upload_at_once: bool,
    /// Archive a piece also without a transaction.
    forced_upload: bool,
    /// The source sends without a pause: what it sends now was committed a while ago, or is soon a whole segment.
    busy_source: bool,
    /// Segments that are being put in the place of their pieces.
    replacing: usize,
    /// A piece or a segment is being archived.
    archiving: bool,
    /// Pieces are being made safe on this host's disk.
    syncing: bool,
    /// Why nothing that is spooled can be used any more.
    given_up: Option<Error>,
}

impl Chunk {
    pub(super) fn begin(start: u64, previous: GtidSet) -> Self {
        let gtids = GtidSet::new();
        Self {
            start,
            end: start,
            previous,
            gtids,
            committed: None,
            since: None,
            transactions: 0,
            offered: false,
        }
    }

    /// Takes in a transaction.
    pub(super) fn transaction(&mut self, gtid: &Gtid, committed: Option<DateTime<Utc>>, now: Duration) {
        self.gtids.insert(gtid);
        self.transactions += 1;
        self.since.get_or_insert(now);
        if let Some(at) = committed {
            self.committed = Some(self.committed.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.end - self.start
    }

    /// The empty piece behind it.
    pub(super) fn next(&self) -> Self {
        Self::begin(self.end, self.previous.union(&self.gtids))
    }

    /// Takes in the piece behind it.
    fn join(&mut self, next: Self) {
        self.end = next.end;
        self.gtids = self.gtids.union(&next.gtids);
        self.committed = match (self.committed, next.committed) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
        self.since = self.since.or(next.since);
        self.transactions += next.transactions;
    }
}

impl Queue {
    /// A segment begins.
    pub(super) fn begin_segment(&self, source: ServerUuid, file: &str, start: u64, path: PathBuf) {
        let mut state = self.state();
        // What was begun before and not sealed is void, but for what was published of it.
        for spooled in state.files.iter_mut().filter(|spooled| spooled.finished.is_none()) {
            spooled.abandoned = true;
        }
        state.files.push_back(SpooledFile {
            source,
            file: file.to_owned(),
            start,
            path,
            chunks: VecDeque::new(),
            finished: None,
            partials: 0,
            archived_to: start,
            abandoned: false,
        });
    }

    /// A piece of the segment that was begun last is in its file.
    pub(super) fn publish(&self, chunk: Chunk) {
        self.state().publish(chunk);
        self.changed.notify_waiters();
    }

    /// The segment that was begun last is complete with this piece. Both are seen at once: a piece that is too large to be put by itself
    /// never stands alone.
    pub(super) fn finish_segment(&self, segment: Segment, last: Chunk) {
        let mut state = self.state();
        if last.size() > 0 {
            state.publish(last);
        }
        if let Some(spooled) = state.files.back_mut() {
            spooled.finished = Some(segment);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// What to do next. A piece waits for others until its first transaction is `pace` old; while the source sends without a pause
    /// [`BUSY_SOURCE_PACE_FACTOR`] times as long, so that catching up stores whole segments, and each byte once.
    pub(super) fn next_work(&self, now: Duration, pace: Duration) -> UploadWork {
        let mut state = self.state();
        if state.given_up.is_some() {
            return UploadWork::None;
        }
        while state.files.front().is_some_and(|front| front.abandoned && front.chunks.is_empty()) {
            state.files.pop_front();
        }
        let at_once = state.upload_at_once || state.forced_upload;
        let (forced_upload, busy_source) = (state.forced_upload, state.busy_source);
        let pace = if busy_source { pace * BUSY_SOURCE_PACE_FACTOR } else { pace };
        let Some(front) = state.files.front_mut() else { return UploadWork::None };
        if let Some(segment) = front.finished.clone() {
            let path = front.path.clone();
            if front.partials > 0 && front.chunks.is_empty() {
                state.files.pop_front();
                state.replacing += 1;
                return UploadWork::Replace { segment, path };
            }
            // Neither is a piece too large for memory put by itself.
            if front.partials == 0 || front.chunks.iter().any(|chunk| chunk.size() > 2 * MAX_CHUNK_BYTES) {
                let oldest = front.chunks.iter().filter_map(|chunk| chunk.since).min();
                state.under_way = oldest;
                state.archiving = true;
                return UploadWork::Segment { segment, path };
            }
        }
        let complete = front.finished.is_some() || front.abandoned;
        match front.chunks.front().map(|chunk| chunk.since) {
            Some(Some(since)) if !at_once && !complete && since + pace > now => {
                if busy_source || front.chunks.len() == 1 {
                    return UploadWork::Until(since + pace);
                }
            }
            Some(None) if !forced_upload && !complete => return UploadWork::None,
            None => return UploadWork::None,
            Some(_) => {}
        }
        let Some(mut chunk) = front.chunks.pop_front() else { return UploadWork::None };
        chunk.offered = true;
        let since = chunk.since;
        let work = UploadWork::Partial {
            source: front.source,
            file: front.file.clone(),
            path: front.path.clone(),
            skip: chunk.start - front.start,
            chunk,
        };
        state.under_way = since;
        state.archiving = true;
        work
    }

    /// A piece of the first file could not be archived: it comes first again, as it is.
    pub(super) fn put_back(&self, chunk: Chunk) {
        if let Some(front) = self.state().files.front_mut() {
            front.chunks.push_front(chunk);
        }
    }

    /// A piece of the first file was archived.
    pub(super) fn partial_archived(&self, source: ServerUuid, chunk: &Chunk) {
        let mut state = self.state();
        state.transactions.archived += chunk.transactions;
        state.archived.reached(source, chunk.previous.union(&chunk.gtids), chunk.committed);
        state.forced_upload = false;
        state.under_way = None;
        if let Some(front) = state.files.front_mut() {
            front.partials += 1;
            front.archived_to = chunk.end;
        }
        tracing::debug!(archived = state.transactions.archived, "tail");
        drop(state);
        self.changed.notify_waiters();
    }

    /// The first file was archived as a whole.
    pub(super) fn segment_archived(&self, segment: &Segment) {
        let mut state = self.state();
        if let Some(front) = state.files.pop_front() {
            state.transactions.archived += front.chunks.iter().map(|chunk| chunk.transactions).sum::<u64>();
        }
        state.archived.reached(segment.source, segment.held_after(), segment.committed);
        state.forced_upload = false;
        state.under_way = None;
        tracing::debug!(archived = state.transactions.archived, "segment");
        drop(state);
        self.changed.notify_waiters();
    }

    /// From now on, remembers what is not safe on this host's disk.
    pub(super) fn track_unsynced(&self) {
        self.state().unsynced.get_or_insert_default();
    }

    /// What is not safe on this host's disk, in order, and how many transactions were published with it.
    pub(super) fn take_unsynced(&self) -> (Vec<UnsyncedChunk>, u64) {
        let mut state = self.state();
        if state.given_up.is_some() {
            return (Vec::new(), 0);
        }
        let all = state.unsynced.as_mut().map(std::mem::take).unwrap_or_default();
        state.syncing = !all.is_empty();
        (all, state.transactions.published)
    }

    /// It could not be made safe: it comes first again.
    pub(super) fn put_back_unsynced(&self, mut chunks: Vec<UnsyncedChunk>) {
        let mut state = self.state();
        state.syncing = false;
        if let Some(all) = &mut state.unsynced {
            chunks.append(all);
            *all = chunks;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Everything that was published by then is safe on this host's disk.
    pub(super) fn synced(&self, transactions: u64) {
        let mut state = self.state();
        state.transactions.synced = transactions;
        state.syncing = false;
        drop(state);
        self.changed.notify_waiters();
    }

    /// What passed so far.
    pub(super) fn counts(&self) -> TransactionCounts {
        self.state().transactions
    }

    /// A segment stands in the place of its pieces.
    pub(super) fn replaced(&self) {
        let mut state = self.state();
        state.replacing = state.replacing.saturating_sub(1);
        drop(state);
        self.changed.notify_waiters();
    }

    /// All is archived, if no segment is being written: what was begun and has nothing whole does not count.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.state();
        let empty = |spooled: &SpooledFile| spooled.finished.is_none() && spooled.chunks.is_empty();
        state.given_up.is_none()
            && state.replacing == 0
            && state.under_way.is_none()
            && state.files.iter().all(empty)
    }

    /// What the archive has.
    pub(super) fn archived(&self) -> ArchivedProgress {
        self.state().archived.clone()
    }

    /// It has been seen that this set was all that this source had just now.
    pub(super) fn source_complete(&self, source: ServerUuid, gtids: &GtidSet) {
        let archived = &mut self.state().archived;
        archived.source = Some(source);
        archived.gtids.clone_from(gtids);
    }

    /// It has been seen that everything which the primary had at this moment is archived.
    pub(super) fn complete_to(&self, moment: DateTime<Utc>) {
        self.state().archived.complete_to = Some(moment);
    }

    /// Bytes that wait to be archived. What was given up does not.
    pub(super) fn waiting_bytes(&self) -> u64 {
        let state = self.state();
        if state.given_up.is_some() {
            return 0;
        }
        state.files.iter().flat_map(|spooled| &spooled.chunks).map(Chunk::size).sum()
    }

    /// How many pieces of the segment that is being written are in the tail.
    pub(super) fn partials(&self) -> u64 {
        self.state().files.back().map_or(0, |spooled| spooled.partials)
    }

    /// True while the source sends without a pause.
    pub(super) fn set_busy_source(&self, busy_source: bool) {
        self.state().busy_source = busy_source;
    }

    /// What is published is archived at once from now on.
    pub(super) fn upload_at_once(&self) {
        self.state().upload_at_once = true;
        self.changed.notify_waiters();
    }

    /// What comes next is archived also if it is no transaction: it tells what came before it.
    pub(super) fn force_upload(&self) {
        self.state().forced_upload = true;
    }

    /// When the oldest transaction that is not archived arrived, on the monotonic clock.
    pub(super) fn oldest_waiting(&self) -> Option<Duration> {
        let state = self.state();
        let waiting = state.files.iter().flat_map(|spooled| &spooled.chunks).filter_map(|chunk| chunk.since);
        waiting.chain(state.under_way).min()
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        // Each change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn publish(&mut self, chunk: Chunk) {
        // What was given up is read from the source again: none of it counts.
        let Some(spooled) = self.files.back_mut().filter(|_| self.given_up.is_none()) else { return };
        let at = AckPosition { source: spooled.source, file: spooled.file.clone(), offset: chunk.end };
        if let Some(all) = &mut self.unsynced {
            let (path, begin) = (spooled.path.clone(), spooled.start);
            all.push(UnsyncedChunk { at, path, begin, chunk: chunk.clone() });
        }
        self.transactions.published += chunk.transactions;
        match spooled.chunks.back_mut() {
            Some(last) if last.size() < MAX_CHUNK_BYTES && !last.offered => last.join(chunk),
            _ => spooled.chunks.push_back(chunk),
        }
    }
}
