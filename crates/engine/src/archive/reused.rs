//! A source that lost the end of its binlog, in a crash or with an older copy of its files, and has used the numbers again: its GTIDs look as
//! if nothing had happened. What tells is its own file, in which the transactions must still end where they did, with the same times of commit.

use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{Acknowledge, AtEnd, Cutter, Segment, SegmentSink, Step};
use backstop_model::archiving::StreamFrom;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;

use super::source::{Identity, Source};
use super::{Archiving, Beside, State, drained, finish_file};

/// A source may read for a while until it comes to what it was asked for.
const QUIET: Duration = Duration::from_secs(60);

/// Where the source went another way than the archive.
pub(super) struct Parted {
    /// What both have.
    pub(super) common: GtidSet,
    /// What the archive has behind that. The source has others under these numbers, or none.
    pub(super) left: GtidSet,
}

/// Compares what was archived of this source's files with what it has: the newest piece, and the ones before it if that differs. `None`: it is
/// the same, or can no longer be compared since the source has purged it.
///
/// # Errors
/// The source's; nothing was decided then.
pub(super) async fn parted(
    a: &Archiving<'_>,
    beside: &Beside,
    state: &mut State,
    from: &StreamFrom,
    identity: Identity,
) -> Result<Option<Parted>> {
    let uuid = from.server_uuid;
    if state.cutter.as_ref().is_some_and(|(cutter, of)| *of == uuid && cutter.position().is_none()) {
        return Ok(None); // it begins a file anew
    }
    finish_file(state).await?;
    let newest = state.last.iter().find(|segment| segment.source == uuid).cloned();
    let pieces = a.store.pieces_of(uuid).await;
    let Some(newest) = newest.into_iter().chain(pieces).find(has_transactions) else { return Ok(None) };
    // Twice: a source that shuts down ends its stream as one that has no more.
    for _ in 0..2 {
        if look(a, from, identity, &newest).await? != Look::Differs {
            return Ok(None);
        }
    }
    // Only now: while the store does not answer, streaming goes on.
    drained(a, beside).await?;
    let mut parted: Option<Parted> = None;
    for piece in a.store.pieces_of(uuid).await.iter().filter(|piece| has_transactions(piece)) {
        if look(a, from, identity, piece).await? != Look::Differs {
            break;
        }
        let left = parted.map_or_else(GtidSet::new, |parted| parted.left).union(&piece.gtids);
        parted = Some(Parted { common: piece.previous.clone(), left });
    }
    Ok(parted)
}

/// A source can be asked for transactions only.
fn has_transactions(piece: &Segment) -> bool {
    !piece.gtids.is_empty()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Same,
    Differs,
    /// The source no longer has the file.
    Unknown,
}

/// Has the source send a piece once more.
async fn look(a: &Archiving<'_>, from: &StreamFrom, identity: Identity, piece: &Segment) -> Result<Look> {
    let source = Source::open(from, a.credentials).await?;
    let before = Segment { end: piece.start, gtids: GtidSet::new(), committed: None, ..piece.clone() };
    let executed = piece.previous.clone();
    let (mut stream, _) = source.stream(identity, executed, Acknowledge::Never, AtEnd::Stop).await?;
    let mut cutter = Cutter::after(&before);
    loop {
        let arrived = match cutter.step(&mut stream, &mut Nowhere, QUIET).await {
            Err(fault) if fault.kind == Kind::Damaged => return Ok(Look::Unknown),
            arrived => arrived?,
        };
        let (file, end) = cutter.position().unwrap_or((&piece.file, piece.start));
        match arrived {
            Step::Refused(_) | Step::Hole { .. } => return Ok(Look::Unknown),
            _ if file != piece.file || end > piece.end => return Ok(Look::Differs),
            _ if end == piece.end => {
                // Not the bytes: when a file was begun is left out of its first event where a stream begins in its middle.
                let sent = cutter.cut(&mut Nowhere).await?;
                let same = |sent: &Segment| sent.gtids == piece.gtids && sent.committed == piece.committed;
                return Ok(if sent.as_ref().is_some_and(same) { Look::Same } else { Look::Differs });
            }
            Step::End => return Ok(Look::Differs),
            Step::Quiet => {
                return Err(Fault::failed(format!(
                    "ask {} for what is archived of it: it is silent",
                    from.endpoint
                ))
                .hint("it is asked again"));
            }
            _ => {}
        }
    }
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
