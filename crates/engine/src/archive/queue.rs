//! What was spooled and is not archived, between the reader and those who archive and acknowledge.

mod again;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop_binlog::Segment;
use backstop_model::fault::Fault;
use backstop_model::gtid::{Gtid, GtidSet};
use backstop_model::ids::ServerUuid;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

/// A piece of the tail grows up to this size while it waits, in bytes.
pub(super) const PIECE: u64 = 8 << 20;
/// So many times longer pieces wait while the source sends without a pause.
const FLOWING: u32 = 5;

/// A run of whole transactions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
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
pub(super) struct At {
    pub(super) source: ServerUuid,
    pub(super) file: String,
    pub(super) offset: u64,
}

/// A segment's file in the spool.
#[derive(Debug, Clone)]
struct Spooled {
    source: ServerUuid,
    file: String,
    start: u64,
    path: PathBuf,
    pieces: VecDeque<Piece>,
    /// It is complete.
    sealed: Option<Segment>,
    /// Pieces of it that are in the tail.
    tails: u64,
    /// Offset in the file of the server up to which it is in the tail.
    archived_to: u64,
    /// Another was begun before it was complete: it ends with the pieces it has.
    void: bool,
}

/// What to do next.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Nothing.
    None,
    /// Nothing before this moment of the monotonic clock.
    Until(Duration),
    /// Archive a piece, whose bytes begin at this offset of the file. What comes now is another piece.
    Tail { source: ServerUuid, file: String, path: PathBuf, skip: u64, piece: Piece },
    /// Archive a whole segment.
    Seal { segment: Segment, path: PathBuf },
    /// Put a segment in the place of its pieces, which are all archived: at leisure.
    Replace { segment: Segment, path: PathBuf },
}

/// What is spooled, in order.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something was published or archived.
    pub(super) changed: Notify,
}

/// What the archive has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Archived {
    /// Whose files it is, last.
    pub(super) source: Option<ServerUuid>,
    /// The source's history up to its end.
    pub(super) gtids: GtidSet,
    /// When it last had everything of its source.
    pub(super) complete_to: Option<DateTime<Utc>>,
    /// The last commit in it.
    pub(super) last_commit: Option<DateTime<Utc>>,
}

impl Archived {
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
pub(super) struct Unsynced {
    pub(super) at: At,
    pub(super) path: PathBuf,
    /// Offset in the server's file of the first byte at that path.
    pub(super) begin: u64,
    pub(super) piece: Piece,
}

/// Numbers of transactions since the archiver began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) published: u64,
    pub(super) synced: u64,
    pub(super) archived: u64,
}

#[derive(Default)]
struct State {
    files: VecDeque<Spooled>,
    /// Transactions that were published, that are safe on this host's disk, and that are archived.
    transactions: Passed,
    /// What was published and is not safe on this host's disk yet, if that matters.
    unsynced: Option<Vec<Unsynced>>,
    archived: Archived,
    /// When the first transaction that is being archived arrived.
    under_way: Option<Duration>,
    /// What was published is wanted in the archive at once.
    urgent: bool,
    /// Archive a piece also without a transaction.
    forced: bool,
    /// The source sends without a pause: what it sends now was committed a while ago, or is soon a whole segment.
    flowing: bool,
    /// Segments that are being put in the place of their pieces.
    replacing: usize,
    /// A piece or a segment is being archived.
    archiving: bool,
    /// Pieces are being made safe on this host's disk.
    syncing: bool,
    /// Why nothing that is spooled can be used any more.
    given_up: Option<Fault>,
}

impl Piece {
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
    pub(super) fn begin(&self, source: ServerUuid, file: &str, start: u64, path: PathBuf) {
        let mut state = self.state();
        // What was begun before and not sealed is void, but for what was published of it.
        for spooled in state.files.iter_mut().filter(|spooled| spooled.sealed.is_none()) {
            spooled.void = true;
        }
        state.files.push_back(Spooled {
            source,
            file: file.to_owned(),
            start,
            path,
            pieces: VecDeque::new(),
            sealed: None,
            tails: 0,
            archived_to: start,
            void: false,
        });
    }

    /// A piece of the segment that was begun last is in its file.
    pub(super) fn publish(&self, piece: Piece) {
        self.state().publish(piece);
        self.changed.notify_waiters();
    }

    /// The segment that was begun last is complete with this piece. Both are seen at once: a piece that is too large to be put by itself
    /// never stands alone.
    pub(super) fn seal(&self, segment: Segment, last: Piece) {
        let mut state = self.state();
        if last.size() > 0 {
            state.publish(last);
        }
        if let Some(spooled) = state.files.back_mut() {
            spooled.sealed = Some(segment);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// What to do next. A piece waits for others until its first transaction is `pace` old; while the source sends without a pause
    /// [`FLOWING`] times as long, so that catching up stores whole segments, and each byte once.
    pub(super) fn work(&self, now: Duration, pace: Duration) -> Work {
        let mut state = self.state();
        if state.given_up.is_some() {
            return Work::None;
        }
        while state.files.front().is_some_and(|front| front.void && front.pieces.is_empty()) {
            state.files.pop_front();
        }
        let at_once = state.urgent || state.forced;
        let (forced, flowing) = (state.forced, state.flowing);
        let pace = if flowing { pace * FLOWING } else { pace };
        let Some(front) = state.files.front_mut() else { return Work::None };
        if let Some(segment) = front.sealed.clone() {
            let path = front.path.clone();
            if front.tails > 0 && front.pieces.is_empty() {
                state.files.pop_front();
                state.replacing += 1;
                return Work::Replace { segment, path };
            }
            // Neither is a piece too large for memory put by itself.
            if front.tails == 0 || front.pieces.iter().any(|piece| piece.size() > 2 * PIECE) {
                let oldest = front.pieces.iter().filter_map(|piece| piece.since).min();
                state.under_way = oldest;
                state.archiving = true;
                return Work::Seal { segment, path };
            }
        }
        let complete = front.sealed.is_some() || front.void;
        match front.pieces.front().map(|piece| piece.since) {
            Some(Some(since)) if !at_once && !complete && since + pace > now => {
                if flowing || front.pieces.len() == 1 {
                    return Work::Until(since + pace);
                }
            }
            Some(None) if !forced && !complete => return Work::None,
            None => return Work::None,
            Some(_) => {}
        }
        let Some(mut piece) = front.pieces.pop_front() else { return Work::None };
        piece.offered = true;
        let since = piece.since;
        let work = Work::Tail {
            source: front.source,
            file: front.file.clone(),
            path: front.path.clone(),
            skip: piece.start - front.start,
            piece,
        };
        state.under_way = since;
        state.archiving = true;
        work
    }

    /// A piece of the first file could not be archived: it comes first again, as it is.
    pub(super) fn put_back(&self, piece: Piece) {
        if let Some(front) = self.state().files.front_mut() {
            front.pieces.push_front(piece);
        }
    }

    /// A piece of the first file was archived.
    pub(super) fn tail_archived(&self, source: ServerUuid, piece: &Piece) {
        let mut state = self.state();
        state.transactions.archived += piece.transactions;
        state.archived.reached(source, piece.previous.union(&piece.gtids), piece.committed);
        state.forced = false;
        state.under_way = None;
        if let Some(front) = state.files.front_mut() {
            front.tails += 1;
            front.archived_to = piece.end;
        }
        tracing::debug!(archived = state.transactions.archived, "tail");
        drop(state);
        self.changed.notify_waiters();
    }

    /// The first file was archived as a whole.
    pub(super) fn sealed(&self, segment: &Segment) {
        let mut state = self.state();
        if let Some(front) = state.files.pop_front() {
            state.transactions.archived += front.pieces.iter().map(|piece| piece.transactions).sum::<u64>();
        }
        state.archived.reached(segment.source, segment.held_after(), segment.committed);
        state.forced = false;
        state.under_way = None;
        tracing::debug!(archived = state.transactions.archived, "segment");
        drop(state);
        self.changed.notify_waiters();
    }

    /// From now on, remembers what is not safe on this host's disk.
    pub(super) fn watch_syncs(&self) {
        self.state().unsynced.get_or_insert_default();
    }

    /// What is not safe on this host's disk, in order, and how many transactions were published with it.
    pub(super) fn take_unsynced(&self) -> (Vec<Unsynced>, u64) {
        let mut state = self.state();
        if state.given_up.is_some() {
            return (Vec::new(), 0);
        }
        let all = state.unsynced.as_mut().map(std::mem::take).unwrap_or_default();
        state.syncing = !all.is_empty();
        (all, state.transactions.published)
    }

    /// It could not be made safe: it comes first again.
    pub(super) fn put_back_unsynced(&self, mut pieces: Vec<Unsynced>) {
        let mut state = self.state();
        state.syncing = false;
        if let Some(all) = &mut state.unsynced {
            pieces.append(all);
            *all = pieces;
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
    pub(super) fn passed(&self) -> Passed {
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
        let empty = |spooled: &Spooled| spooled.sealed.is_none() && spooled.pieces.is_empty();
        state.given_up.is_none()
            && state.replacing == 0
            && state.under_way.is_none()
            && state.files.iter().all(empty)
    }

    /// What the archive has.
    pub(super) fn archived(&self) -> Archived {
        self.state().archived.clone()
    }

    /// It has been seen that this set was all that this source had just now.
    pub(super) fn complete(&self, source: ServerUuid, gtids: &GtidSet) {
        let archived = &mut self.state().archived;
        archived.source = Some(source);
        archived.gtids.clone_from(gtids);
    }

    /// It has been seen that everything which the primary had at this moment is archived.
    pub(super) fn complete_to(&self, moment: DateTime<Utc>) {
        self.state().archived.complete_to = Some(moment);
    }

    /// Bytes that wait to be archived. What was given up does not.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.state();
        if state.given_up.is_some() {
            return 0;
        }
        state.files.iter().flat_map(|spooled| &spooled.pieces).map(Piece::size).sum()
    }

    /// How many pieces of the segment that is being written are in the tail.
    pub(super) fn tails(&self) -> u64 {
        self.state().files.back().map_or(0, |spooled| spooled.tails)
    }

    /// True while the source sends without a pause.
    pub(super) fn flows(&self, flowing: bool) {
        self.state().flowing = flowing;
    }

    /// What is published is archived at once from now on.
    pub(super) fn hurry(&self) {
        self.state().urgent = true;
        self.changed.notify_waiters();
    }

    /// What comes next is archived also if it is no transaction: it tells what came before it.
    pub(super) fn force(&self) {
        self.state().forced = true;
    }

    /// When the oldest transaction that is not archived arrived, on the monotonic clock.
    pub(super) fn oldest(&self) -> Option<Duration> {
        let state = self.state();
        let waiting = state.files.iter().flat_map(|spooled| &spooled.pieces).filter_map(|piece| piece.since);
        waiting.chain(state.under_way).min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn publish(&mut self, piece: Piece) {
        // What was given up is read from the source again: none of it counts.
        let Some(spooled) = self.files.back_mut().filter(|_| self.given_up.is_none()) else { return };
        let at = At { source: spooled.source, file: spooled.file.clone(), offset: piece.end };
        if let Some(all) = &mut self.unsynced {
            let (path, begin) = (spooled.path.clone(), spooled.start);
            all.push(Unsynced { at, path, begin, piece: piece.clone() });
        }
        self.transactions.published += piece.transactions;
        match spooled.pieces.back_mut() {
            Some(last) if last.size() < PIECE && !last.offered => last.join(piece),
            _ => spooled.pieces.push_back(piece),
        }
    }
}
