//! Writing to the archive of one shard, under its claim.

mod lost_entries;

use std::collections::BTreeSet;
use std::path::Path;

use backstop_binlog::Segment;
use backstop_model::archive::{
    Archive, ArchivedSegment, ArchiverHeartbeat, SegmentHash, SegmentState, Timeline,
};
use backstop_model::error::{Error, Result, ResultExt};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use chrono::{DateTime, Utc};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Mutex;

use super::compaction::{self, SEGMENTS_PER_INDEX};
use super::entry::{EntryKind, SegmentFacts, StoredEntry};
use super::index::{self, ArchiveContents};
use super::journal::Appended;
use super::reader::ArchiveReader;
use super::stored_segment::{self, SegmentTrailer, store};
use super::timeline_source::binlog_segment;
use crate::lease::{HeartbeatTask, PreviousHolder};
use crate::object::ObjectKind;
use crate::shard_log::{Lease, LogEvent, ShardLog};
use crate::{ObjectRef, lease};

pub use lost_entries::LostEntry;

const MAX_APPEND_ATTEMPTS: usize = 10;

/// Holds the claim on the archive of one shard. Dropped without [`ArchiveWriter::release`] it just stops its heartbeat.
///
/// What is stored when a call returns is durable. A call that failed may have stored its piece: repeat it as it was. Once another
/// has claimed the archive every call fails with [`Kind::Held`](backstop_model::error::ErrorKind::Held), and has stored nothing.
pub struct ArchiveWriter {
    reader: ArchiveReader,
    log: ShardLog,
    lease: Lease,
    _heartbeat: HeartbeatTask,
    /// Held by who gives the next number to an entry, and while a number is promised to one. Taken before `state`.
    numbers: Mutex<()>,
    state: Mutex<WriterState>,
}

/// A piece that is in the books and not in the store, or damaged there.
#[derive(Debug, Clone)]
pub struct LostSegment {
    segment: Segment,
    stored: ArchivedSegment,
}

impl LostSegment {
    /// What it was.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Its number in the archive.
    pub fn number(&self) -> u64 {
        self.stored.number
    }
}

struct WriterState {
    contents: ArchiveContents,
    /// Segments that this claim has stored.
    segments: u64,
    /// Sealed since the last index.
    uncompacted: usize,
}

impl ArchiveWriter {
    pub(crate) async fn begin(
        reader: ArchiveReader,
        log: ShardLog,
        lease: Lease,
        before: PreviousHolder,
    ) -> Result<Self> {
        let heartbeat = HeartbeatTask::begin(&log, lease.number).await?;
        let contents = fence_predecessors(&reader, lease.number, before).await?;
        let is_sealed = |stored: &&StoredEntry| matches!(stored.entry.what, EntryKind::Sealed { .. });
        let uncompacted = contents.entries.values().filter(is_sealed).count();
        let state = Mutex::new(WriterState { contents, segments: 0, uncompacted });
        Ok(Self { reader, log, lease, _heartbeat: heartbeat, numbers: Mutex::default(), state })
    }

    /// Reads the same archive.
    pub fn reader(&self) -> &ArchiveReader {
        &self.reader
    }

    /// What the archive holds: what was there when it was claimed, and what was stored since. Asks the store for nothing.
    pub async fn contents(&self) -> Archive {
        self.state.lock().await.contents.archive.clone()
    }

    /// The current line as the binlog layer knows it: everything it holds, and the last piece of each server's files. `None`: nothing is
    /// archived yet.
    pub async fn held(&self) -> (Option<GtidSet>, Vec<Segment>) {
        let state = self.state.lock().await;
        let archive = &state.contents.archive;
        let Some(timeline) = archive.current() else { return (None, Vec::new()) };
        let last = archive.last_segments(timeline.number).into_iter().map(binlog_segment).collect();
        (archive.held(timeline.number), last)
    }

    /// The pieces of a server's files in the current line, the newest first; of its ancestors' those that belong to it as a whole.
    pub async fn segments_of(&self, source: ServerUuid) -> Vec<ArchivedSegment> {
        self.state.lock().await.contents.archive.segments_of(source)
    }

    /// The pieces whose objects are missing, have another size, or were found damaged.
    ///
    /// # Errors
    /// The store's.
    pub async fn lost_segments(&self) -> Result<Vec<LostSegment>> {
        let contents = self.reader.contents().await?;
        let damaged: BTreeSet<String> =
            self.reader.checked().await?.damaged.into_iter().map(|damage| damage.object).collect();
        let lost = contents.segments.into_iter().filter(|segment| damaged.contains(&segment.object));
        Ok(lost.map(|stored| LostSegment { segment: binlog_segment(&stored), stored }).collect())
    }

    /// Stores a lost piece again, in its place: its bytes are the whole of a file.
    ///
    /// # Errors
    /// As [`ArchiveWriter::seal`].
    pub async fn seal_again(&self, lost: &LostSegment, segment: &Segment, bytes: &Path) -> Result<()> {
        let file = File::open(bytes).await.failed(format!("read {}", bytes.display()))?;
        let piece = SegmentFacts::new(lost.stored.timeline, segment);
        // It bears the number of what is lost, and so stands in its place.
        let number = lost.stored.number;
        let facts = self.facts(&mut *self.state.lock().await, piece.clone(), vec![number]);
        // The tail continues meanwhile.
        let object = store(&self.reader.journal, &facts, vec![Box::new(file)]).await?;
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        let what =
            EntryKind::Sealed { facts: piece.clone(), object: object.clone(), replaces: facts.replaces };
        self.append(&mut state, what, &[]).await?;
        let again = piece.stored(number, SegmentState::Sealed, &object);
        if let Some(segment) =
            state.contents.archive.segments.iter_mut().find(|segment| segment.number == number)
        {
            *segment = again;
        }
        state.uncompacted += 1;
        Ok(())
    }

    /// Stores a piece of the tail: one request.
    ///
    /// # Errors
    /// The store's, and [`Kind::Held`](backstop_model::error::ErrorKind::Held).
    pub async fn put_tail(&self, facts: &Segment, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != facts.size() || *blake3::hash(bytes).as_bytes() != facts.hash {
            return Err(Error::failed(format!(
                "store {} at {}: the bytes are not those of the piece",
                facts.file, facts.start
            )));
        }
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        let timeline = self.timeline(&mut state, facts.source).await?;
        let stored =
            self.append(&mut state, EntryKind::Tail(SegmentFacts::new(timeline, facts)), bytes).await?;
        if let EntryKind::Tail(facts) = &stored.entry.what {
            let tail = facts.stored(stored.entry.number, SegmentState::Tail, &stored.object);
            state.contents.archive.segments.push(tail);
        }
        Ok(())
    }

    /// Stores a segment whose bytes are the whole of a file. The pieces of the tail that it contains are removed. If all of it is in the
    /// tail, pieces that follow it may be stored meanwhile.
    ///
    /// # Errors
    /// As [`ArchiveWriter::put_tail`]; failed if the file's bytes are not those of the segment.
    pub async fn seal(&self, segment: &Segment, bytes: &Path) -> Result<()> {
        let doing = format!("read {}", bytes.display());
        for _ in 0..MAX_APPEND_ATTEMPTS {
            let file = File::open(bytes).await.failed(&doing)?;
            let numbers = self.numbers.lock().await;
            let facts = {
                let mut state = self.state.lock().await;
                let timeline = self.timeline(&mut state, segment.source).await?;
                self.facts_of(&mut state, SegmentFacts::new(timeline, segment))
            };
            // One that replaces nothing says the number of its entry. Otherwise the tail continues meanwhile.
            let promised = facts.replaces.is_empty().then_some(numbers);
            let object = store(&self.reader.journal, &facts, vec![Box::new(file)]).await?;
            let _numbers = match promised {
                Some(numbers) => numbers,
                None => self.numbers.lock().await,
            };
            let mut state = self.state.lock().await;
            if self.seal_stored(&mut state, &facts, object).await? {
                return Ok(());
            }
        }
        Err(Error::failed(format!("seal {} at {}: its number was taken", segment.file, segment.start)))
    }

    /// Makes segments of the pieces of the tail, one for each run of bytes of a file: those of an archiver that was killed.
    ///
    /// # Errors
    /// As [`ArchiveWriter::seal`]; [`Kind::Damaged`](backstop_model::error::ErrorKind::Damaged) when a piece is.
    pub async fn seal_tail(&self) -> Result<()> {
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        for run in tail_runs(&state.contents.archive.segments) {
            let mut bytes: Vec<Box<dyn AsyncRead + Send + Unpin>> = Vec::new();
            let mut hasher = blake3::Hasher::new();
            for tail in &run {
                let mut whole = Vec::new();
                let mut input = self.reader.open(tail).await?;
                input.read_to_end(&mut whole).await.failed(format!("read {}", tail.object))?;
                hasher.update(&whole);
            }
            for tail in &run {
                bytes.push(self.reader.open(tail).await?);
            }
            if let Some(facts) = join_run(&run, SegmentHash(*hasher.finalize().as_bytes())) {
                let facts = self.facts_of(&mut state, facts);
                let object = store(&self.reader.journal, &facts, bytes).await?;
                self.seal_stored(&mut state, &facts, object).await?;
            }
        }
        Ok(())
    }

    /// Begins a line that goes off the current one: this server has of it only `common`, and lacks `lacks`.
    ///
    /// # Errors
    /// As [`ArchiveWriter::put_tail`].
    pub async fn begin_timeline(
        &self,
        source: ServerUuid,
        common: &GtidSet,
        lacks: &GtidSet,
        now: DateTime<Utc>,
    ) -> Result<u32> {
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        let parent = state.contents.archive.current().map(|timeline| timeline.number);
        let number = parent.unwrap_or(0) + 1;
        let timeline =
            Timeline { number, parent, begun_at: now, source, common: common.clone(), lacks: lacks.clone() };
        self.append(&mut state, EntryKind::Timeline(timeline.clone()), &[]).await?;
        state.contents.archive.timelines.push(timeline);
        Ok(number)
    }

    /// Tells how the archiver is. Overwrites what it told before.
    ///
    /// # Errors
    /// The store's.
    pub async fn heartbeat(&self, alive: &ArchiverHeartbeat) -> Result<()> {
        let journal = &self.reader.journal;
        let key = journal.keys.alive_of(self.lease.number);
        journal.store.put_with_timeout(ObjectKind::Alive, &key, alive).await?;
        self.state.lock().await.contents.archive.alive = Some(alive.clone());
        Ok(())
    }

    /// Gives the archive back.
    ///
    /// # Errors
    /// [`Kind::Held`](backstop_model::error::ErrorKind::Held) when another has claimed it since.
    pub async fn release(self) -> Result<()> {
        let release = |state: &mut crate::shard_log::ShardState| {
            state.lease = None;
            Ok(())
        };
        self.log.append_under(self.lease.number, &LogEvent::Release, &release).await.map(drop)
    }

    /// The number of the current line; the first one begins with the first piece.
    async fn timeline(&self, state: &mut WriterState, source: ServerUuid) -> Result<u32> {
        if let Some(timeline) = state.contents.archive.current() {
            return Ok(timeline.number);
        }
        let timeline = Timeline {
            number: 1,
            parent: None,
            begun_at: self.lease.holder.since,
            source,
            common: GtidSet::new(),
            lacks: GtidSet::new(),
        };
        self.append(state, EntryKind::Timeline(timeline.clone()), &[]).await?;
        state.contents.archive.timelines.push(timeline);
        Ok(1)
    }

    /// Appends to the journal. What an earlier, failed call of this claim stored is taken in first.
    async fn append(&self, state: &mut WriterState, what: EntryKind, facts: &[u8]) -> Result<StoredEntry> {
        let appended = self.append_as(state, what, facts, None).await?;
        appended.ok_or_else(|| Error::failed("append to the journal: the number was taken"))
    }

    /// As [`ArchiveWriter::append`]. `None`: the next number is not the one that was promised.
    async fn append_as(
        &self,
        state: &mut WriterState,
        what: EntryKind,
        facts: &[u8],
        promised: Option<u64>,
    ) -> Result<Option<StoredEntry>> {
        let journal = &self.reader.journal;
        for _ in 0..MAX_APPEND_ATTEMPTS {
            let number = state.contents.newest + 1;
            if promised.is_some_and(|promised| promised != number) {
                return Ok(None);
            }
            match journal.append(number, self.lease.number, what.clone(), facts).await? {
                Appended::Yes(stored) => return Ok(Some(self.appended(state, stored))),
                Appended::Taken(other) if other.entry.lease == self.lease.number => {
                    let same = same(&other.entry.what, &what);
                    let stored = self.appended(state, other);
                    if same {
                        return Ok(Some(stored));
                    }
                    self.reload(state).await?;
                }
                Appended::Taken(_) => return Err(journal.superseded()),
            }
        }
        Err(Error::failed(format!("append to {}: its end cannot be found", journal.keys.journal())))
    }

    fn appended(&self, state: &mut WriterState, stored: StoredEntry) -> StoredEntry {
        state.contents.newest = stored.entry.number;
        state.contents.entries.insert(stored.entry.number, stored.clone());
        stored
    }

    async fn reload(&self, state: &mut WriterState) -> Result<()> {
        let alive = state.contents.archive.alive.take();
        state.contents = index::read_archive(&self.reader.journal, &self.reader.cache).await?;
        state.contents.archive.alive = alive;
        Ok(())
    }

    /// What a segment says of itself that takes the place of the pieces of the tail that it contains.
    fn facts_of(&self, state: &mut WriterState, piece: SegmentFacts) -> SegmentTrailer {
        let nowhere = ObjectRef { key: String::new(), size: 0, digest: String::new() };
        let like = piece.stored(0, SegmentState::Sealed, &nowhere);
        let tails = state.contents.archive.segments.iter().filter(|tail| tail.state == SegmentState::Tail);
        let replaces =
            tails.filter(|tail| index::contains_tail(&like, tail)).map(|tail| tail.number).collect();
        self.facts(state, piece, replaces)
    }

    fn facts(&self, state: &mut WriterState, piece: SegmentFacts, replaces: Vec<u64>) -> SegmentTrailer {
        state.segments += 1;
        SegmentTrailer {
            object: self.reader.journal.keys.segment(self.lease.number, state.segments),
            number: replaces.first().copied().unwrap_or(state.contents.newest + 1),
            replaces,
            piece,
            timelines: state.contents.archive.timelines.clone(),
        }
    }

    /// Enters a segment. False: it would bear another number than its object says.
    async fn seal_stored(
        &self,
        state: &mut WriterState,
        facts: &SegmentTrailer,
        object: ObjectRef,
    ) -> Result<bool> {
        let SegmentTrailer { number, replaces, piece, .. } = facts;
        let what = EntryKind::Sealed { facts: piece.clone(), object, replaces: replaces.clone() };
        let promised = replaces.is_empty().then_some(*number);
        let Some(stored) = self.append_as(state, what, &[], promised).await? else { return Ok(false) };
        let EntryKind::Sealed { object, .. } = &stored.entry.what else { return Ok(false) };
        let segments = &mut state.contents.archive.segments;
        segments.retain(|segment| !replaces.contains(&segment.number) && segment.number != *number);
        let at = segments.partition_point(|segment| segment.number < *number);
        segments.insert(at, piece.stored(*number, SegmentState::Sealed, object));
        state.uncompacted += 1;
        // It is stored. What cannot be tidied up now is tidied up later.
        if let Err(error) = self.tidy(state, replaces).await {
            tracing::warn!("tidy up the archive of shard {}: {error}", self.reader.journal.shard);
        }
        Ok(true)
    }

    async fn tidy(&self, state: &mut WriterState, replaced: &[u64]) -> Result<()> {
        let journal = &self.reader.journal;
        let replaced_keys: Vec<String> = replaced.iter().map(|number| journal.keys.entry(*number)).collect();
        compaction::remove_objects(journal, replaced_keys.into_iter()).await?;
        for number in replaced {
            state.contents.entries.remove(number);
        }
        if state.uncompacted >= SEGMENTS_PER_INDEX {
            if !state.contents.missing.is_empty() {
                // What was missing may have been put again.
                self.reload(state).await?;
            }
            compaction::compact(journal, &state.contents).await?;
            self.reload(state).await?;
            state.uncompacted = 0;
        }
        Ok(())
    }
}

/// Makes everything that an earlier holder stores from here on void: its next number is taken.
async fn fence_predecessors(
    reader: &ArchiveReader,
    lease: u64,
    before: PreviousHolder,
) -> Result<ArchiveContents> {
    let journal = &reader.journal;
    let mut least = 0;
    for _ in 0..MAX_APPEND_ATTEMPTS {
        let mut contents = index::read_to(journal, &reader.cache, least).await?;
        if contents.entries.values().any(|stored| stored.entry.lease > lease) {
            return Err(journal.superseded());
        }
        // No number is given twice, also where the index of the newest entries is lost.
        let told = stored_segment::newest_told(journal, &contents).await?;
        if told > contents.newest {
            least = told;
            continue;
        }
        let last = contents.newest_lease().map(|(_, lease)| lease);
        // One that was given back, or whose process is gone, stores nothing any more. A claim between that never got here proves nothing.
        let fences = match before {
            PreviousHolder::Free => false,
            PreviousHolder::Dead(number) => last != Some(number),
            PreviousHolder::Silent => true,
        };
        if let Appended::Yes(stored) = journal.fence(contents.newest + 1, lease, fences).await? {
            contents.newest = stored.entry.number;
            contents.entries.insert(stored.entry.number, stored);
            return Ok(contents);
        }
    }
    Err(Error::failed(format!("claim the archive of shard {}: another keeps storing", journal.shard)))
}

/// True if an entry is what is repeated: a segment was stored a second time under another name.
fn same(stored: &EntryKind, repeated: &EntryKind) -> bool {
    match (stored, repeated) {
        (
            EntryKind::Sealed { facts, replaces, .. },
            EntryKind::Sealed { facts: again, replaces: as_before, .. },
        ) => facts == again && replaces == as_before,
        _ => stored == repeated,
    }
}

/// The tails, in runs of bytes that follow each other in a file.
fn tail_runs(segments: &[ArchivedSegment]) -> Vec<Vec<ArchivedSegment>> {
    let mut runs: Vec<Vec<ArchivedSegment>> = Vec::new();
    for tail in segments.iter().filter(|segment| segment.state == SegmentState::Tail) {
        let follows = |run: &&mut Vec<ArchivedSegment>| {
            run.last().is_some_and(|last| {
                (last.timeline, last.source, &last.file, last.end)
                    == (tail.timeline, tail.source, &tail.file, tail.start)
            })
        };
        match runs.last_mut().filter(follows) {
            Some(run) => run.push(tail.clone()),
            None => runs.push(vec![tail.clone()]),
        }
    }
    runs
}

/// One piece of a run.
fn join_run(run: &[ArchivedSegment], hash: SegmentHash) -> Option<SegmentFacts> {
    let (first, last) = (run.first()?, run.last()?);
    let times = || run.iter().filter_map(|tail| tail.committed);
    let (from, to) = (times().map(|(from, _)| from).min(), times().map(|(_, to)| to).max());
    Some(SegmentFacts {
        timeline: first.timeline,
        source: first.source,
        file: first.file.clone(),
        start: first.start,
        end: last.end,
        previous: first.previous.clone(),
        gtids: run.iter().fold(GtidSet::new(), |all, tail| all.union(&tail.gtids)),
        committed: from.zip(to),
        hash,
    })
}

/// Claims the archive of a shard.
pub(crate) async fn acquire_archive_lease(
    reader: ArchiveReader,
    log: ShardLog,
    operation: &str,
) -> Result<ArchiveWriter> {
    let (lease, before) = lease::acquire_after(&log, operation).await?;
    ArchiveWriter::begin(reader, log, lease, before).await
}
