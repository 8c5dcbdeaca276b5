//! Queue of spooled transactions that are not archived, between the stream reader and the tasks
//! that upload and acknowledge.

mod give_up;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop_binlog::Segment;
use backstop_types::error::Error;
use backstop_types::gtid::{Gtid, GtidSet};
use backstop_types::ids::ServerUuid;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

/// Size up to which a waiting chunk grows, in bytes.
pub(super) const MAX_CHUNK_BYTES: u64 = 8 << 20;
/// Factor by which chunks wait longer while the source sends without a pause.
const BUSY_SOURCE_PACE_FACTOR: u32 = 5;

/// A run of whole transactions of a binlog file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) end: u64,
    /// All transactions that the source had executed before it.
    pub(super) previous: GtidSet,
    pub(super) gtids: GtidSet,
    pub(super) committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Arrival of its first transaction, on the monotonic clock; `None`: it holds no transaction.
    pub(super) since: Option<Duration>,
    pub(super) transactions: u64,
    /// True once it was offered to the store, which may have it although it did not confirm. It
    /// must not grow any more.
    pub(super) offered: bool,
}

/// A position in a server's binlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AckPosition {
    pub(super) source: ServerUuid,
    pub(super) file: String,
    pub(super) offset: u64,
}

/// File of a segment in the spool.
#[derive(Debug, Clone)]
struct SpooledFile {
    source: ServerUuid,
    file: String,
    start: u64,
    path: PathBuf,
    chunks: VecDeque<Chunk>,
    /// The segment, once it is complete.
    finished: Option<Segment>,
    /// Number of its tail segments in the archive.
    partials: u64,
    /// Offset in the server's file up to which it is archived in tail segments.
    archived_to: u64,
    /// True if another segment was begun before it was complete: it ends with the chunks it has.
    abandoned: bool,
}

/// Next work of the uploader.
#[derive(Debug, Clone)]
pub(super) enum UploadWork {
    /// No work.
    None,
    /// No work before this moment of the monotonic clock.
    Until(Duration),
    /// Archive a chunk, whose bytes begin at offset `skip` of the spool's file. Transactions that
    /// arrive now go into another chunk.
    Partial { source: ServerUuid, file: String, path: PathBuf, skip: u64, chunk: Chunk },
    /// Archive a whole segment.
    Segment { segment: Segment, path: PathBuf },
    /// Replace tail segments, which are all archived, by the full segment. Not urgent.
    Replace { segment: Segment, path: PathBuf },
}

/// Spooled segments, in order.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Notified when something was published or archived.
    pub(super) changed: Notify,
}

/// Progress of the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ArchivedProgress {
    /// Server of the newest archived segment.
    pub(super) source: Option<ServerUuid>,
    /// All transactions of the timeline that are archived, from whichever server, and those before
    /// its beginning or in its gaps.
    pub(super) gtids: GtidSet,
    /// Last moment at which the archive contained everything of its source.
    pub(super) complete_to: Option<DateTime<Utc>>,
    /// The last archived commit.
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
        self.gtids = self.gtids.union(&gtids);
        self.last_commit = committed.map(|(_, last)| last).or(self.last_commit);
    }
}

/// A chunk that is in its file, and possibly not durable yet.
#[derive(Debug, Clone)]
pub(super) struct UnsyncedChunk {
    pub(super) at: AckPosition,
    pub(super) path: PathBuf,
    /// Offset in the server's file of the first byte of the spool's file.
    pub(super) begin: u64,
    pub(super) chunk: Chunk,
}

/// Transaction counts since the archiver began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TransactionCounts {
    pub(super) published: u64,
    pub(super) synced: u64,
    pub(super) archived: u64,
}

#[derive(Default)]
struct QueueState {
    files: VecDeque<SpooledFile>,
    /// Transactions that were published, that are durable on this host's disk, and that are
    /// archived.
    transactions: TransactionCounts,
    /// Published chunks that are not durable on this host's disk; `None`: not tracked.
    unsynced: Option<Vec<UnsyncedChunk>>,
    archived: ArchivedProgress,
    /// Arrival of the first transaction that is being archived.
    under_way: Option<Duration>,
    /// True if published transactions are archived without delay.
    upload_at_once: bool,
    /// True if the next chunk is archived even without a transaction.
    forced_upload: bool,
    /// True while the source sends without a pause: its transactions were committed a while ago, or
    /// soon form a full segment.
    busy_source: bool,
    /// Full segments that are replacing their tail segments now.
    replacing: usize,
    /// True while a chunk or a segment is being archived.
    archiving: bool,
    /// True while chunks are being synced to this host's disk.
    syncing: bool,
    /// Reason why the spooled transactions cannot be used any more.
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

    /// Adds a transaction.
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

    /// Returns the empty chunk that follows this one.
    pub(super) fn next(&self) -> Self {
        Self::begin(self.end, self.previous.union(&self.gtids))
    }

    /// Appends the chunk that follows this one.
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
    /// Begins a segment.
    pub(super) fn begin_segment(&self, source: ServerUuid, file: &str, start: u64, path: PathBuf) {
        let mut state = self.state();
        // A segment that was begun before and not sealed is void, except for its published chunks.
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

    /// Publishes a chunk of the segment that was begun last; its bytes are in the file.
    pub(super) fn publish(&self, chunk: Chunk) {
        self.state().publish(chunk);
        self.changed.notify_waiters();
    }

    /// Completes the segment that was begun last with this chunk. Both become visible together, so
    /// that a chunk too large to be stored by itself never waits alone.
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

    /// Returns the next work. A chunk waits for more transactions until its first one is `pace`
    /// old, and [`BUSY_SOURCE_PACE_FACTOR`] times as long while the source sends without a pause.
    /// Catching up then stores full segments, and each byte once.
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
            // A chunk too large for memory is not stored by itself either.
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

    /// Puts a chunk of the first file that could not be archived back at the front, unchanged.
    pub(super) fn put_back(&self, chunk: Chunk) {
        if let Some(front) = self.state().files.front_mut() {
            front.chunks.push_front(chunk);
        }
    }

    /// Records that a chunk of the first file was archived.
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

    /// Records that the first file was archived as a full segment.
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

    /// Tracks unsynced chunks from now on.
    pub(super) fn track_unsynced(&self) {
        self.state().unsynced.get_or_insert_default();
    }

    /// Takes the unsynced chunks, in order, with the number of transactions published up to their
    /// end.
    pub(super) fn take_unsynced(&self) -> (Vec<UnsyncedChunk>, u64) {
        let mut state = self.state();
        if state.given_up.is_some() {
            return (Vec::new(), 0);
        }
        let all = state.unsynced.as_mut().map(std::mem::take).unwrap_or_default();
        state.syncing = !all.is_empty();
        (all, state.transactions.published)
    }

    /// Puts chunks that could not be synced back at the front.
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

    /// Records that the first `transactions` published transactions are durable on this host's
    /// disk.
    pub(super) fn synced(&self, transactions: u64) {
        let mut state = self.state();
        state.transactions.synced = transactions;
        state.syncing = false;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Returns the transaction counts.
    pub(super) fn counts(&self) -> TransactionCounts {
        self.state().transactions
    }

    /// Records that a full segment has replaced its tail segments.
    pub(super) fn replaced(&self) {
        let mut state = self.state();
        state.replacing = state.replacing.saturating_sub(1);
        drop(state);
        self.changed.notify_waiters();
    }

    /// True if everything is archived and no segment is being written. A segment without a whole
    /// transaction does not count.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.state();
        let empty = |spooled: &SpooledFile| spooled.finished.is_none() && spooled.chunks.is_empty();
        state.given_up.is_none()
            && state.replacing == 0
            && state.under_way.is_none()
            && state.files.iter().all(empty)
    }

    /// Returns the progress of the archive.
    pub(super) fn archived(&self) -> ArchivedProgress {
        self.state().archived.clone()
    }

    /// Records that this set was all that this source had just now.
    pub(super) fn source_complete(&self, source: ServerUuid, gtids: &GtidSet) {
        let archived = &mut self.state().archived;
        archived.source = Some(source);
        archived.gtids = archived.gtids.union(gtids);
    }

    /// Records what the archive holds where a timeline begins or is resumed.
    pub(super) fn archive_holds(&self, gtids: Option<&GtidSet>) {
        self.state().archived.gtids = gtids.cloned().unwrap_or_default();
    }

    /// Records that everything the primary had at this moment is archived.
    pub(super) fn complete_to(&self, moment: DateTime<Utc>) {
        self.state().archived.complete_to = Some(moment);
    }

    /// Returns the number of bytes that wait to be archived, without those that were given up.
    pub(super) fn waiting_bytes(&self) -> u64 {
        let state = self.state();
        if state.given_up.is_some() {
            return 0;
        }
        state.files.iter().flat_map(|spooled| &spooled.chunks).map(Chunk::size).sum()
    }

    /// Returns the number of tail segments of the segment that is being written.
    pub(super) fn partials(&self) -> u64 {
        self.state().files.back().map_or(0, |spooled| spooled.partials)
    }

    /// Sets the flag that the source sends without a pause.
    pub(super) fn set_busy_source(&self, busy_source: bool) {
        self.state().busy_source = busy_source;
    }

    /// Archives published transactions without delay from now on.
    pub(super) fn upload_at_once(&self) {
        self.state().upload_at_once = true;
        self.changed.notify_waiters();
    }

    /// Archives the next chunk even if it holds no transaction: it records the transactions before
    /// it.
    pub(super) fn force_upload(&self) {
        self.state().forced_upload = true;
    }

    /// Returns the arrival of the oldest unarchived transaction, on the monotonic clock.
    pub(super) fn oldest_waiting(&self) -> Option<Duration> {
        let state = self.state();
        let waiting = state.files.iter().flat_map(|spooled| &spooled.chunks).filter_map(|chunk| chunk.since);
        waiting.chain(state.under_way).min()
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        // Each change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn publish(&mut self, chunk: Chunk) {
        // Given-up chunks are read from the source again: none of them counts.
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
