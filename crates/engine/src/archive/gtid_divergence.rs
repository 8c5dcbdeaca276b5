//! Detects GTIDs that the source reused after it lost the end of its binlog (by a crash or an older
//! copy of its files) or reset its binlog. Its GTID set alone does not show that. The check
//! compares the source's own binlog files with the archive: the transactions must still end at the
//! same offsets, with the same commit times.

use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{Segment, SegmentSink, Segmenter, SegmenterStep, segment_commits};
use backstop_policy::stream_or_fork::{BinlogPosition, SourceHistory};
use backstop_types::archive::{ArchivedSegment, Commit};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;

use super::archiver::Archiver;
use super::binlog_source::ChosenSource;
use super::stream_position;
use super::stream_state::StreamState;

/// Timeout for a silent source: it may read for a while until it reaches the requested
/// transactions.
const SOURCE_SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Point at which the source diverged from the archive.
pub(super) struct Divergence {
    /// Transactions that source and archive have in common.
    pub(super) common: GtidSet,
    /// Archived transactions after that. The source has others under these GTIDs, or none.
    pub(super) left: GtidSet,
}

/// Comparison of a source's binlog with the archive.
pub(super) struct SourceComparison<'a> {
    pub(super) archiver: &'a Archiver<'a>,
    pub(super) source: &'a ChosenSource<'a>,
}

impl SourceComparison<'_> {
    /// Compares the archived segments of this source's files with the source: the newest segment,
    /// or the ones before it if the source lacks the newest. Returns `None` if they are equal. Also
    /// returns `None` if they cannot be compared, since the source has purged the segment, and
    /// nothing else shows a difference: the source lacks no GTID with its own UUID (`shrank`) and
    /// did not reset its binlog.
    ///
    /// # Errors
    /// Returns the source's error; nothing was decided then.
    pub(super) async fn find(&self, state: &mut StreamState, shrank: bool) -> Result<Option<Divergence>> {
        let uuid = self.source.from.server_uuid;
        let begins = |(segmenter, of): &(Segmenter, _)| *of == uuid && segmenter.position().is_none();
        if state.segmenter.as_ref().is_some_and(begins) {
            return Ok(None); // it begins a new file
        }
        state.finish_file().await?;
        let store = &self.archiver.shared.store;
        let newest = state.last_of(uuid).cloned();
        let pieces = store.segments_of(uuid).await;
        let newest = newest
            .into_iter()
            .chain(pieces.iter().map(|stored| stored.segment.clone()))
            .find(has_transactions);
        let Some(newest) = newest else { return Ok(None) };
        // Twice, because a source that shuts down ends its stream like one that has no more.
        for _ in 0..2 {
            match self.compare(&newest).await? {
                SegmentComparison::Same => return Ok(None),
                SegmentComparison::Differs => {}
                SegmentComparison::Unknown if shrank || self.binlog_was_reset(&newest).await? => {}
                SegmentComparison::Unknown => return Ok(None),
            }
        }
        // Wait only now: while the store does not answer, streaming continues.
        self.archiver.wait_until_drained().await?;
        let mut pieces = store.segments_of(uuid).await;
        pieces.reverse();
        pieces.retain(|piece| !piece.gtids.is_empty());
        let held = state.held.clone().unwrap_or_default();
        let Some(common) = self.common_gtids(&pieces, &held).await? else { return Ok(None) };
        let common = common.intersect(&held);
        let left = held.subtract(&common);
        Ok((!left.is_empty()).then_some(Divergence { common, left }))
    }

    /// Returns the transactions that the source shares with the archive. `pieces` are the archived
    /// segments of its files, oldest first. Returns `None` if it shares all of them. The
    /// source's own GTIDs count as shared only if their transactions were compared, or if an
    /// operator set them as executed.
    async fn common_gtids(&self, pieces: &[ArchivedSegment], held: &GtidSet) -> Result<Option<GtidSet>> {
        // Segments are equal up to one point: step back from the end in growing steps, then bisect.
        let (mut before, mut same, mut differs, mut step) = (None, false, pieces.len(), 1);
        while before.map_or(0, |at: usize| at + 1) < differs {
            let first = before.map_or(0, |at: usize| at + 1);
            let at =
                if before.is_none() { differs.saturating_sub(step) } else { usize::midpoint(first, differs) };
            let at = at.min(differs - 1);
            step *= 2;
            match self.compare(&pieces[at].segment).await? {
                SegmentComparison::Differs => differs = at,
                look => (before, same) = (Some(at), look == SegmentComparison::Same),
            }
        }
        let reached = self.source.open().await?.history.reached;
        let Some(parting) = pieces.get(differs) else {
            return if same { Ok(None) } else { self.assumed_common(held, &reached).await.map(Some) };
        };
        let shared = self.shared_beginning(parting).await?;
        if same || !shared.is_empty() {
            return Ok(Some(parting.previous.intersect(&reached).union(&shared)));
        }
        self.assumed_common(held, &reached).await.map(Some)
    }

    /// Returns the shared transactions if none could be compared: those of other servers, and the
    /// source's own that are executed though its binlogs never contained them.
    async fn assumed_common(&self, held: &GtidSet, reached: &GtidSet) -> Result<GtidSet> {
        let others = reached.subtract(&reached.of_uuid(self.source.from.server_uuid));
        Ok(held.intersect(&others.union(&self.purged_by_hand().await?)))
    }

    /// Returns the part of `gtid_purged` that was set and not purged: the Previous-GTIDs of the
    /// source's files lack it.
    async fn purged_by_hand(&self) -> Result<GtidSet> {
        let source = self.source.open().await?;
        let purged = source.history.purged.clone();
        if purged.is_empty() {
            return Ok(purged);
        }
        let mut segmenter = Segmenter::new(self.source.from.server_uuid, purged.clone());
        let mut stream = source.resend(self.source.identity, purged.clone()).await?;
        while !segmenter.is_described() {
            match segmenter.step(&mut stream, &mut DiscardSink, SOURCE_SILENCE_TIMEOUT).await? {
                SegmenterStep::End | SegmenterStep::Refused(_) | SegmenterStep::Hole { .. } => {
                    return Ok(GtidSet::new());
                }
                SegmenterStep::Quiet => return Err(self.silence_error()),
                _ => {}
            }
        }
        Ok(purged.subtract(segmenter.held()))
    }

    /// True if the source has reset its binlog since it wrote this segment.
    async fn binlog_was_reset(&self, piece: &Segment) -> Result<bool> {
        let mut session = self.source.session().await?;
        let now = stream_position::binlog_position(&mut session).await?;
        let before = BinlogPosition { file: piece.file.clone(), offset: piece.end };
        Ok(now.is_some_and(|now| now.begins_again_after(&before)))
    }

    fn silence_error(&self) -> Error {
        let message =
            format!("cannot compare {} with the archive: it sends nothing", self.source.from.endpoint);
        Error::failed(message).hint("the archiver retries")
    }

    /// Has the source resend a segment, and compares the two.
    async fn compare(&self, piece: &Segment) -> Result<SegmentComparison> {
        let Some(sent) = self.resend(piece).await? else { return Ok(SegmentComparison::Unknown) };
        // Bytes are not compared: a stream that begins in the middle of a file omits the creation
        // time from its first event.
        let same = |sent: &Segment| sent.gtids == piece.gtids && sent.committed == piece.committed;
        Ok(if sent.segment.as_ref().is_some_and(same) {
            SegmentComparison::Same
        } else {
            SegmentComparison::Differs
        })
    }

    /// Returns the transactions that the archived segment and the source's begin with.
    async fn shared_beginning(&self, piece: &ArchivedSegment) -> Result<GtidSet> {
        let Some(sent) = self.resend(&piece.segment).await? else { return Ok(GtidSet::new()) };
        let read = async {
            let bytes = self.archiver.shared.store.reader().open(piece).await?;
            segment_commits(bytes, piece.start, piece.end).await
        };
        let archived = match read.await {
            Err(error) if error.kind == ErrorKind::Damaged => Vec::new(),
            read => read?,
        };
        let same = sent.commits.iter().zip(&archived).take_while(|(here, there)| here == there);
        let mut shared = GtidSet::new();
        same.for_each(|(commit, _)| shared.insert(&commit.gtid));
        Ok(shared)
    }

    /// Returns the source's transactions at a segment's place; `None` if that is unknown, since the
    /// source has purged them.
    async fn resend(&self, piece: &Segment) -> Result<Option<SentSegment>> {
        let source = self.source.open().await?;
        let mut sent = SentSegment::default();
        let SourceHistory { reached, purged } = &source.history;
        if !piece.gtids.intersect(purged).is_empty() {
            return Ok(None);
        }
        if !piece.previous.is_subset_of(reached) {
            return Ok(Some(sent)); // it lacks earlier transactions
        }
        let before = Segment { end: piece.start, gtids: GtidSet::new(), committed: None, ..piece.clone() };
        let mut segmenter = Segmenter::after(&before);
        segmenter.based_on(purged);
        let executed = piece.previous.union(purged);
        let mut stream = source.resend(self.source.identity, executed).await?;
        loop {
            let arrived = match segmenter.step(&mut stream, &mut DiscardSink, SOURCE_SILENCE_TIMEOUT).await {
                Err(error) if error.kind == ErrorKind::Damaged => return Ok(None),
                arrived => arrived?,
            };
            let (file, end) = segmenter.position().unwrap_or((&piece.file, piece.start));
            match arrived {
                SegmenterStep::Refused(_) | SegmenterStep::Hole { .. } => return Ok(None),
                _ if file != piece.file || end > piece.end => return Ok(Some(sent)),
                SegmenterStep::Transaction { gtid, committed, .. } => {
                    sent.commits
                        .push(Commit { gtid, committed: committed.filter(|at| at.timestamp_micros() > 0) });
                }
                SegmenterStep::End => return Ok(Some(sent)),
                SegmenterStep::Quiet => return Err(self.silence_error()),
                _ => {}
            }
            if end == piece.end {
                sent.segment = segmenter.cut(&mut DiscardSink).await?;
                return Ok(Some(sent));
            }
        }
    }
}

/// True if the segment has transactions; the source can be asked for transactions only.
fn has_transactions(piece: &Segment) -> bool {
    !piece.gtids.is_empty()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SegmentComparison {
    Same,
    Differs,
    /// The source no longer has the file.
    Unknown,
}

/// Transactions sent by the source.
#[derive(Default)]
struct SentSegment {
    /// The transactions, in order.
    commits: Vec<Commit>,
    /// The whole segment, if it ends where the archived one does.
    segment: Option<Segment>,
}

/// Discards the bytes, which are archived already.
struct DiscardSink;

#[async_trait]
impl SegmentSink for DiscardSink {
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
