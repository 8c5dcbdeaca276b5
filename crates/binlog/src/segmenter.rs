//! Segmenter: cuts a source's stream into segments.

use std::time::Duration;

use backstop_types::archive::SegmentHash;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::{Gtid, GtidSet};
use backstop_types::ids::ServerUuid;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::event::{self, EventHeader, FILE_MAGIC, kind};
use crate::gtid_event::GtidEvent;
use crate::incremental_hash::IncrementalHash;
use crate::segment::{Segment, SegmentSink};
use crate::stream::{EventStream, StreamEvent, StreamItem, garbled};

/// Cuts the stream of one source into segments. It outlives the stream: after a reconnect, the
/// caller requests what is not in [`Segmenter::held`] and continues. The offset of an event decides
/// its place, never the order of arrival.
pub struct Segmenter {
    source: ServerUuid,
    /// The source's transactions up to here.
    held: GtidSet,
    /// Transactions that the source has executed and that no file of its binlog names: the part of
    /// its `@@GLOBAL.gtid_purged` that was set, not purged.
    base: GtidSet,
    file: Option<StreamedFile>,
    open: Option<OpenSegment>,
    /// True if the sink may have received a partial transaction: a step failed or was cancelled.
    torn: bool,
}

/// The file being streamed.
struct StreamedFile {
    name: String,
    /// Offset after the last whole transaction written.
    offset: u64,
    /// Offset after the format description at the beginning of the stream.
    described: u64,
    /// The GTIDs that the source had executed before the file.
    previous: GtidSet,
}

/// The segment being written, up to its last whole transaction.
struct OpenSegment {
    start: u64,
    previous: GtidSet,
    gtids: GtidSet,
    committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    hash: IncrementalHash,
}

/// Result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmenterStep {
    /// Nothing arrived within the given time; the source may be alive.
    Quiet,
    /// The source has sent everything, and the request said not to wait.
    End,
    /// The source is alive and has sent everything up to this offset of its file.
    Heartbeat {
        /// Name of the source's file.
        file: String,
        /// Offset in it.
        offset: u64,
    },
    /// A file begins or continues.
    File(String),
    /// A whole transaction was written to the sink. It is not sealed yet.
    Transaction {
        /// Its identifier.
        gtid: Gtid,
        /// Name of the source's file.
        file: String,
        /// Offset after it.
        end: u64,
        /// Commit time on its original server; `None` if its GTID event does not contain the time.
        committed: Option<DateTime<Utc>>,
        /// True if the source waits for an acknowledgement.
        acknowledge: bool,
    },
    /// The source cannot send the requested transactions, because it has purged or never had them.
    /// Its GTID sets show which.
    Refused(Error),
    /// Another event was written, or an existing one skipped.
    Other,
    /// The source left out transactions from before its stream, so that its file would have a gap.
    /// Nothing was written. The caller must reconnect with a segmenter that holds exactly these:
    /// then the source sends the whole file.
    Hole {
        /// The GTIDs that the source had executed before the file.
        previous: GtidSet,
    },
}

impl Segmenter {
    /// Returns a segmenter for a source without segments. `held` is excluded from the request: the
    /// source's `@@GLOBAL.gtid_purged` to begin with its oldest file, or the archived transactions
    /// of other sources to begin as late as possible.
    pub fn new(source: ServerUuid, held: GtidSet) -> Self {
        Self { source, held, base: GtidSet::new(), file: None, open: None, torn: false }
    }

    /// Returns a segmenter that resumes after a source's last sealed segment.
    pub fn after(segment: &Segment) -> Self {
        let file = StreamedFile {
            name: segment.file.clone(),
            offset: segment.end,
            described: 0,
            previous: segment.previous.clone(),
        };
        Self { file: Some(file), ..Self::new(segment.source, segment.held_after()) }
    }

    /// Treats the source's purged transactions as executed before each of its files from now on.
    /// The Previous-GTIDs of a file lack those that a recovery, a clone or an operator set as
    /// `gtid_purged`.
    pub fn based_on(&mut self, purged: &GtidSet) {
        self.base.clone_from(purged);
    }

    /// Returns the transactions that the request for the stream excludes.
    pub fn held(&self) -> &GtidSet {
        &self.held
    }

    /// True if the GTIDs before the streamed file are known, since its beginning was read.
    pub fn is_described(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.offset > file.described)
    }

    /// Returns the file, and the offset up to which the sink received it.
    pub fn position(&self) -> Option<(&str, u64)> {
        self.file.as_ref().map(|file| (file.name.as_str(), file.offset))
    }

    /// Returns the size of the segment being written, in bytes.
    pub fn unsealed(&self) -> u64 {
        match (&self.open, &self.file) {
            (Some(open), Some(file)) => file.offset - open.start,
            _ => 0,
        }
    }

    /// Processes the next item: an event outside of transactions or a whole transaction, which the
    /// sink receives in parts. Seals the segment when the file ends. Waits `quiet` for the item to
    /// begin.
    ///
    /// # Errors
    /// Returns an error if the stream ended or is dead: a partial transaction is truncated, and
    /// another stream can continue. Returns [`ErrorKind::Damaged`] if the stream contradicts
    /// itself, [`ErrorKind::Refused`] for a source without GTIDs, and the errors of the sink.
    pub async fn step(
        &mut self,
        stream: &mut EventStream,
        sink: &mut dyn SegmentSink,
        quiet: Duration,
    ) -> Result<SegmenterStep> {
        match stream.next(quiet).await? {
            StreamItem::Nothing => Ok(SegmenterStep::Quiet),
            StreamItem::End => Ok(SegmenterStep::End),
            StreamItem::Refused(error) => Ok(SegmenterStep::Refused(error)),
            StreamItem::Heartbeat(place) => {
                Ok(SegmenterStep::Heartbeat { file: place.file, offset: place.offset })
            }
            StreamItem::File(place) => {
                self.enter(&place.file, sink).await?;
                Ok(SegmenterStep::File(place.file))
            }
            StreamItem::Event(event) => self.event(event, stream, sink).await,
        }
    }

    /// Ends the open segment here, if there is one. Between two steps is always a transaction
    /// boundary.
    ///
    /// # Errors
    /// Returns the errors of the sink.
    pub async fn cut(&mut self, sink: &mut dyn SegmentSink) -> Result<Option<Segment>> {
        let (Some(open), Some(file)) = (&self.open, &self.file) else { return Ok(None) };
        if open.start == 0 && file.offset <= file.described {
            return Ok(None); // what was executed before the file comes with the next event
        }
        if std::mem::take(&mut self.torn) {
            sink.cut_back(file.offset - open.start).await?;
        }
        let segment = Segment {
            source: self.source,
            file: file.name.clone(),
            start: open.start,
            end: file.offset,
            previous: open.previous.clone(),
            gtids: open.gtids.clone(),
            committed: open.committed,
            hash: SegmentHash(open.hash.finish()),
        };
        sink.seal(&segment).await?;
        self.open = None;
        Ok(Some(segment))
    }

    async fn enter(&mut self, name: &str, sink: &mut dyn SegmentSink) -> Result<()> {
        if self.file.as_ref().is_some_and(|file| file.name == name) {
            return Ok(());
        }
        self.cut(sink).await?;
        let previous = self.held.clone();
        self.file = Some(StreamedFile { name: name.to_owned(), offset: 0, described: 0, previous });
        Ok(())
    }

    async fn event(
        &mut self,
        event: StreamEvent,
        stream: &mut EventStream,
        sink: &mut dyn SegmentSink,
    ) -> Result<SegmenterStep> {
        let file = self.file.as_mut().ok_or_else(|| garbled("an event comes before the name of its file"))?;
        let size = u64::from(event.header.size);
        match event.header.kind {
            kind::FORMAT_DESCRIPTION => {
                file.described = FILE_MAGIC.len() as u64 + size;
                if file.offset > 0 {
                    return pass_over(stream).await;
                }
            }
            kind::PREVIOUS_GTIDS => {
                let read = event.whole.as_ref().and_then(|whole| stream.checksums().body(whole));
                let previous = read.and_then(event::previous_gtids);
                let previous = previous.ok_or_else(|| garbled("the previous GTIDs cannot be read"))?;
                file.previous = previous.union(&self.base);
                if file.offset > file.described {
                    return pass_over(stream).await;
                }
                self.held = file.previous.clone();
                if let Some(open) = &mut self.open {
                    open.previous = file.previous.clone();
                }
            }
            kind::ANONYMOUS_GTID => return Err(anonymous(&file.name)),
            _ if !follows_at(&event.header, file.offset) => {
                return Ok(SegmenterStep::Hole { previous: file.previous.clone() });
            }
            _ => {}
        }
        match gtid_of(&event, stream)? {
            Some(gtid) => self.transaction(gtid, event, stream, sink).await,
            None => {
                self.write(event, size, stream, sink).await?;
                Ok(SegmenterStep::Other)
            }
        }
    }

    async fn transaction(
        &mut self,
        gtid: GtidEvent,
        event: StreamEvent,
        stream: &mut EventStream,
        sink: &mut dyn SegmentSink,
    ) -> Result<SegmenterStep> {
        let acknowledge = self.write(event, gtid.length, stream, sink).await?;
        self.held.insert(&gtid.gtid);
        let at = i64::try_from(gtid.original_commit).ok().and_then(DateTime::from_timestamp_micros);
        if let (Some(open), Some(at)) = (&mut self.open, at) {
            open.gtids.insert(&gtid.gtid);
            open.committed =
                Some(open.committed.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        }
        let position = self.position().map(|(name, end)| (name.to_owned(), end));
        let (file, end) = position.ok_or_else(|| garbled("no binlog file is named"))?;
        Ok(SegmenterStep::Transaction { gtid: gtid.gtid, file, end, committed: at, acknowledge })
    }

    /// Writes the event and those after it, `length` bytes in all. Truncates what cannot be
    /// completed.
    async fn write(
        &mut self,
        event: StreamEvent,
        length: u64,
        stream: &mut EventStream,
        sink: &mut dyn SegmentSink,
    ) -> Result<bool> {
        let (start, offset) = self.opened(sink).await?;
        if self.torn {
            sink.cut_back(offset - start).await?;
        }
        self.torn = true;
        let written = self.write_from(offset, event, length, stream, sink).await;
        if written.is_err() {
            sink.cut_back(offset - start).await?;
        }
        self.torn = false;
        written
    }

    async fn write_from(
        &mut self,
        offset: u64,
        event: StreamEvent,
        length: u64,
        stream: &mut EventStream,
        sink: &mut dyn SegmentSink,
    ) -> Result<bool> {
        let (Some(open), Some(file)) = (&mut self.open, &mut self.file) else {
            return Err(garbled("no binlog file is named"));
        };
        open.hash.begin();
        let mut from = offset;
        if offset == 0 {
            from = FILE_MAGIC.len() as u64;
            open.hash.update(&FILE_MAGIC);
            sink.write(&FILE_MAGIC).await?;
        }
        let acknowledge = write_events(event, from, from + length, stream, sink, &mut open.hash).await?;
        open.hash.complete();
        file.offset = from + length;
        Ok(acknowledge)
    }

    /// Begins a segment unless one is open. Returns its start, and the offset in the file.
    async fn opened(&mut self, sink: &mut dyn SegmentSink) -> Result<(u64, u64)> {
        let file = self.file.as_ref().ok_or_else(|| garbled("no binlog file is named"))?;
        if let Some(open) = &self.open {
            return Ok((open.start, file.offset));
        }
        sink.begin(self.source, &file.name, file.offset).await?;
        self.torn = false;
        self.open = Some(OpenSegment {
            start: file.offset,
            previous: self.held.clone(),
            gtids: GtidSet::new(),
            committed: None,
            hash: IncrementalHash::default(),
        });
        Ok((file.offset, file.offset))
    }
}

/// Writes events until `end`, each at the end of the previous one. Returns true if the source waits
/// for an acknowledgement.
async fn write_events(
    first: StreamEvent,
    start: u64,
    end: u64,
    stream: &mut EventStream,
    sink: &mut dyn SegmentSink,
    hash: &mut IncrementalHash,
) -> Result<bool> {
    let (mut event, mut offset, mut acknowledge) = (first, start, false);
    loop {
        if !follows_at(&event.header, offset) {
            return Err(garbled("the events of a transaction are not contiguous"));
        }
        while let Some(chunk) = stream.read_chunk().await? {
            hash.update(&chunk);
            sink.write(&chunk).await?;
        }
        offset += u64::from(event.header.size);
        acknowledge |= event.acknowledge;
        if offset == end {
            return Ok(acknowledge);
        }
        if offset > end {
            return Err(garbled("a transaction is longer than its GTID event says"));
        }
        event = next_in_transaction(stream).await?;
    }
}

/// Returns the next event of a transaction that has begun.
async fn next_in_transaction(stream: &mut EventStream) -> Result<StreamEvent> {
    loop {
        match stream.next(Duration::MAX).await? {
            StreamItem::Event(event) => return Ok(event),
            StreamItem::Heartbeat(_) | StreamItem::Nothing => {}
            // The source had begun to send this transaction: a reconnect may help.
            StreamItem::Refused(error) => return Err(Error { kind: ErrorKind::Failed, ..error }),
            StreamItem::End | StreamItem::File(_) => return Err(garbled("a transaction ends too early")),
        }
    }
}

async fn pass_over(stream: &mut EventStream) -> Result<SegmenterStep> {
    let none = |_: Bytes| ();
    while stream.read_chunk().await?.map(none).is_some() {}
    Ok(SegmenterStep::Other)
}

fn gtid_of(event: &StreamEvent, stream: &EventStream) -> Result<Option<GtidEvent>> {
    if !matches!(event.header.kind, kind::GTID | kind::TAGGED_GTID) {
        return Ok(None);
    }
    let read = event.whole.as_ref().and_then(|whole| stream.checksums().body(whole));
    let gtid = read.and_then(|body| event::gtid(event.header.kind, body));
    match gtid {
        Some(gtid) if gtid.length >= u64::from(event.header.size) => Ok(Some(gtid)),
        _ => Err(garbled("a GTID event has an unknown format")),
    }
}

/// True if the event begins at this offset. The offset field of the event wraps above 4 GiB.
fn follows_at(header: &EventHeader, offset: u64) -> bool {
    let offset = offset.max(FILE_MAGIC.len() as u64);
    header.end == (offset as u32).wrapping_add(header.size)
}

fn anonymous(file: &str) -> Error {
    let message = format!("cannot archive the binlog: {file} contains a transaction without a GTID");
    Error::new(ErrorKind::Refused, message)
        .hint("set gtid_mode=ON on every member, and take a backup after the last transaction without one")
}
