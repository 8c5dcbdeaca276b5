//! A source that lost the end of its binlog, in a crash or with an older copy of its files, or that began its binlog again, and has used the
//! numbers again: its GTIDs look as if nothing had happened. What tells is its own files, in which the transactions must still end where they
//! did, with the same times of commit.

use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{Acknowledge, AtEnd, Cutter, Segment, SegmentSink, Step, commits};
use backstop_model::archive::ArchivedSegment;
use backstop_model::archiving::{History, Place, StreamFrom};
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use backstop_model::plan::Commit;

use super::source::{Identity, Source};
use super::{Archiving, Beside, State, drained, finish_file, standing};

/// A source may read for a while until it comes to what it was asked for.
const QUIET: Duration = Duration::from_secs(60);

/// Where the source went another way than the archive.
pub(super) struct Parted {
    /// What both have.
    pub(super) common: GtidSet,
    /// What the archive has behind that. The source has others under these numbers, or none.
    pub(super) left: GtidSet,
}

/// Compares what was archived of this source's files with what it has: the newest piece, and the ones before it if that is not there.
/// `None`: it is the same, or it can no longer be compared, since the source has purged it, and nothing else says that it differs: neither
/// that the source `shrank`, lacking numbers of its own, nor that its binlog began again.
///
/// # Errors
/// The source's; nothing was decided then.
pub(super) async fn parted(
    a: &Archiving<'_>,
    beside: &Beside,
    state: &mut State,
    from: &StreamFrom,
    identity: Identity,
    shrank: bool,
) -> Result<Option<Parted>> {
    let uuid = from.server_uuid;
    if state.cutter.as_ref().is_some_and(|(cutter, of)| *of == uuid && cutter.position().is_none()) {
        return Ok(None); // it begins a file anew
    }
    finish_file(state).await?;
    let compare = Compare { a, from, identity };
    let newest = state.last.iter().find(|segment| segment.source == uuid).cloned();
    let pieces = a.store.pieces_of(uuid).await;
    let newest = newest.into_iter().chain(pieces.iter().map(plain)).find(has_transactions);
    let Some(newest) = newest else { return Ok(None) };
    // Twice: a source that shuts down ends its stream as one that has no more.
    for _ in 0..2 {
        match compare.look(&newest).await? {
            Look::Same => return Ok(None),
            Look::Differs => {}
            Look::Unknown if shrank || compare.began_again(&newest).await? => {}
            Look::Unknown => return Ok(None),
        }
    }
    // Only now: while the store does not answer, streaming goes on.
    drained(a, beside).await?;
    let mut pieces = a.store.pieces_of(uuid).await;
    pieces.reverse();
    pieces.retain(|piece| !piece.gtids.is_empty());
    let held = state.held.clone().unwrap_or_default();
    let Some(common) = compare.common(&pieces, &held).await? else { return Ok(None) };
    let common = common.intersect(&held);
    let left = held.subtract(&common);
    Ok((!left.is_empty()).then_some(Parted { common, left }))
}

/// A source can be asked for transactions only.
fn has_transactions(piece: &Segment) -> bool {
    !piece.gtids.is_empty()
}

fn plain(piece: &ArchivedSegment) -> Segment {
    Segment {
        source: piece.source,
        file: piece.file.clone(),
        start: piece.start,
        end: piece.end,
        previous: piece.previous.clone(),
        gtids: piece.gtids.clone(),
        committed: piece.committed,
        hash: piece.hash.0,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Same,
    Differs,
    /// The source no longer has the file.
    Unknown,
}

struct Compare<'a> {
    a: &'a Archiving<'a>,
    from: &'a StreamFrom,
    identity: Identity,
}

impl Compare<'_> {
    /// What the source shares with the archive, of whose pieces these are its own, the oldest first. `None`: all of them. Its own numbers
    /// are shared only if what they stand for was compared, or if they were set as executed by somebody who knew.
    async fn common(&self, pieces: &[ArchivedSegment], held: &GtidSet) -> Result<Option<GtidSet>> {
        // Sameness ends once: from there back in growing steps, then in halves.
        let (mut before, mut same, mut differs, mut step) = (None, false, pieces.len(), 1);
        while before.map_or(0, |at: usize| at + 1) < differs {
            let first = before.map_or(0, |at: usize| at + 1);
            let at =
                if before.is_none() { differs.saturating_sub(step) } else { usize::midpoint(first, differs) };
            let at = at.min(differs - 1);
            step *= 2;
            match self.look(&plain(&pieces[at])).await? {
                Look::Differs => differs = at,
                look => (before, same) = (Some(at), look == Look::Same),
            }
        }
        let reached = self.history().await?.reached;
        let Some(parting) = pieces.get(differs) else {
            return if same { Ok(None) } else { self.not_compared(held, &reached).await.map(Some) };
        };
        let shared = self.shared(parting).await?;
        if same || !shared.is_empty() {
            return Ok(Some(parting.previous.intersect(&reached).union(&shared)));
        }
        self.not_compared(held, &reached).await.map(Some)
    }

    /// What is shared if no transaction could be compared: those of other servers, and the source's own that are executed though its
    /// binlogs never had them.
    async fn not_compared(&self, held: &GtidSet, reached: &GtidSet) -> Result<GtidSet> {
        let others = reached.subtract(&reached.of_uuid(self.from.server_uuid));
        Ok(held.intersect(&others.union(&self.set_as_executed().await?)))
    }

    /// The part of `gtid_purged` that was set and not purged: the Previous-GTIDs of the source's files lack it.
    async fn set_as_executed(&self) -> Result<GtidSet> {
        let source = self.open().await?;
        let purged = source.history.purged.clone();
        if purged.is_empty() {
            return Ok(purged);
        }
        let mut cutter = Cutter::new(self.from.server_uuid, purged.clone());
        let asked = source.stream(self.identity, purged.clone(), Acknowledge::Never, AtEnd::Stop);
        let (mut stream, _) = asked.await?;
        while !cutter.is_described() {
            match cutter.step(&mut stream, &mut Nowhere, QUIET).await? {
                Step::End | Step::Refused(_) | Step::Hole { .. } => return Ok(GtidSet::new()),
                Step::Quiet => return Err(self.silent()),
                _ => {}
            }
        }
        Ok(purged.subtract(cutter.held()))
    }

    /// True if the source has begun its binlog again since it wrote this piece.
    async fn began_again(&self, piece: &Segment) -> Result<bool> {
        let mut session = standing::connect(self.from, self.a.access).await?;
        let now = standing::place(&mut session).await?;
        let before = Place { file: piece.file.clone(), offset: piece.end };
        Ok(now.is_some_and(|now| now.begins_again_after(&before)))
    }

    async fn open(&self) -> Result<Source> {
        Source::open(self.from, self.a.access).await
    }

    async fn history(&self) -> Result<History> {
        Ok(self.open().await?.history)
    }

    fn silent(&self) -> Fault {
        let message = format!("ask {} for what is archived of it: it is silent", self.from.endpoint);
        Fault::failed(message).hint("it is asked again")
    }

    /// Has the source send a piece once more.
    async fn look(&self, piece: &Segment) -> Result<Look> {
        let Some(sent) = self.send(piece).await? else { return Ok(Look::Unknown) };
        // Not the bytes: when a file was begun is left out of its first event where a stream begins in its middle.
        let same = |sent: &Segment| sent.gtids == piece.gtids && sent.committed == piece.committed;
        Ok(if sent.segment.as_ref().is_some_and(same) { Look::Same } else { Look::Differs })
    }

    /// The transactions that a piece begins with here and there.
    async fn shared(&self, piece: &ArchivedSegment) -> Result<GtidSet> {
        let Some(sent) = self.send(&plain(piece)).await? else { return Ok(GtidSet::new()) };
        let read = async {
            let bytes = self.a.store.reader().open(piece).await?;
            commits(bytes, piece.start, piece.end).await
        };
        let archived = match read.await {
            Err(fault) if fault.kind == Kind::Damaged => Vec::new(),
            read => read?,
        };
        let same = sent.commits.iter().zip(&archived).take_while(|(here, there)| here == there);
        let mut shared = GtidSet::new();
        same.for_each(|(commit, _)| shared.insert(&commit.gtid));
        Ok(shared)
    }

    /// What the source has where a piece was. `None`: that is not known, since it has purged it.
    async fn send(&self, piece: &Segment) -> Result<Option<Sent>> {
        let source = self.open().await?;
        let mut sent = Sent::default();
        let History { reached, purged } = &source.history;
        if !piece.gtids.intersect(purged).is_empty() {
            return Ok(None);
        }
        if !piece.previous.is_subset_of(reached) {
            return Ok(Some(sent)); // it lacks what came before
        }
        let before = Segment { end: piece.start, gtids: GtidSet::new(), committed: None, ..piece.clone() };
        let mut cutter = Cutter::after(&before);
        cutter.based_on(purged);
        let executed = piece.previous.union(purged);
        let (mut stream, _) = source.stream(self.identity, executed, Acknowledge::Never, AtEnd::Stop).await?;
        loop {
            let arrived = match cutter.step(&mut stream, &mut Nowhere, QUIET).await {
                Err(fault) if fault.kind == Kind::Damaged => return Ok(None),
                arrived => arrived?,
            };
            let (file, end) = cutter.position().unwrap_or((&piece.file, piece.start));
            match arrived {
                Step::Refused(_) | Step::Hole { .. } => return Ok(None),
                _ if file != piece.file || end > piece.end => return Ok(Some(sent)),
                Step::Transaction { gtid, committed, .. } => {
                    sent.commits
                        .push(Commit { gtid, committed: committed.filter(|at| at.timestamp_micros() > 0) });
                }
                Step::End => return Ok(Some(sent)),
                Step::Quiet => return Err(self.silent()),
                _ => {}
            }
            if end == piece.end {
                sent.segment = cutter.cut(&mut Nowhere).await?;
                return Ok(Some(sent));
            }
        }
    }
}

/// What a source sent.
#[derive(Default)]
struct Sent {
    /// Its transactions, in order.
    commits: Vec<Commit>,
    /// All of it, if it ends where the piece does.
    segment: Option<Segment>,
}

/// Takes bytes that are there already.
struct Nowhere;

#[async_trait]
impl SegmentSink for Nowhere {
    async fn begin(&mut self, _: ServerUuid, _: &str, _: u64) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    async fn cut_back(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    async fn seal(&mut self, _: &Segment) -> Result<()> {
        Ok(())
    }
}
