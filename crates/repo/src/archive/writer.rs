//! Writes to the archive of one shard under its lease.

mod lost_entries;

use std::collections::BTreeSet;

use backstop_types::archive::{
    Archive, ArchivedSegment, ArchiverHeartbeat, Segment, SegmentHash, SegmentState, Timeline,
};
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use chrono::{DateTime, Utc};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Mutex;

use super::compaction::{self, SEGMENTS_PER_INDEX};
use super::entry::{EntryKind, SegmentFacts, StoredEntry};
use super::index::{self, ArchiveContents};
use super::journal::Appended;
use super::reader::ArchiveReader;
use super::segment_bytes::SegmentBytes;
use super::stored_segment::{self, SegmentTrailer, store};
use crate::lease::{HeartbeatTask, PreviousHolder};
use crate::object::ObjectKind;
use crate::shard_log::{Lease, LogEvent, ShardLog};
use crate::{ObjectRef, lease};

pub use lost_entries::LostEntry;

const MAX_APPEND_ATTEMPTS: usize = 10;

/// Holder of the archive lease of one shard. If it is dropped without [`ArchiveWriter::release`],
/// it only stops its heartbeat.
///
/// Everything is durable when a call returns. A failed call may have stored its segment: repeat it
/// with the same arguments. Once another writer has the lease, every call fails with
/// [`Kind::Held`](backstop_types::error::ErrorKind::Held) and has stored nothing.
pub struct ArchiveWriter {
    reader: ArchiveReader,
    log: ShardLog,
    lease: Lease,
    _heartbeat: HeartbeatTask,
    /// Held while an entry gets its number, and while a number is promised to one. Taken before
    /// `state`.
    numbers: Mutex<()>,
    state: Mutex<WriterState>,
}

/// Segment that the archive lists and that the store lacks or holds damaged.
#[derive(Debug, Clone)]
pub struct LostSegment {
    stored: ArchivedSegment,
}

impl LostSegment {
    /// Returns the lost segment.
    pub fn segment(&self) -> &Segment {
        &self.stored.segment
    }

    /// Returns its number in the archive.
    pub fn number(&self) -> u64 {
        self.stored.number
    }
}

struct WriterState {
    contents: ArchiveContents,
    /// Number of segments stored under this lease.
    segments: u64,
    /// Number of segments sealed since the last index.
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

    /// Returns a reader of the same archive.
    pub fn reader(&self) -> &ArchiveReader {
        &self.reader
    }

    /// Returns the contents of the archive: those found when the lease was acquired, and those
    /// stored since. Sends no request to the store.
    pub async fn contents(&self) -> Archive {
        self.state.lock().await.contents.archive.clone()
    }

    /// Returns the current timeline in the form of the binlog layer: its GTID set, and the last
    /// segment of each server's files. `None`: nothing is archived yet.
    pub async fn held(&self) -> (Option<GtidSet>, Vec<Segment>) {
        let state = self.state.lock().await;
        let archive = &state.contents.archive;
        let Some(timeline) = archive.current() else { return (None, Vec::new()) };
        let last = archive.last_segments(timeline.number);
        let last = last.into_iter().map(|stored| stored.segment.clone()).collect();
        (archive.held(timeline.number), last)
    }

    /// Returns the segments of a server's files in the current timeline, newest first; of the
    /// ancestors' segments, those that belong to the timeline as a whole.
    pub async fn segments_of(&self, source: ServerUuid) -> Vec<ArchivedSegment> {
        self.state.lock().await.contents.archive.segments_of(source)
    }

    /// Returns the segments whose objects are missing, have another size, or were found damaged.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn lost_segments(&self) -> Result<Vec<LostSegment>> {
        let contents = self.reader.contents().await?;
        let damaged: BTreeSet<String> =
            self.reader.checked().await?.damaged.into_iter().map(|damage| damage.object).collect();
        let lost = contents.segments.into_iter().filter(|segment| damaged.contains(&segment.object));
        Ok(lost.map(|stored| LostSegment { stored }).collect())
    }

    /// Stores a lost segment again in its place.
    ///
    /// # Errors
    /// Returns the errors of [`ArchiveWriter::seal`].
    pub async fn seal_again(
        &self,
        lost: &LostSegment,
        segment: &Segment,
        bytes: &dyn SegmentBytes,
    ) -> Result<()> {
        let bytes = bytes.open().await?;
        let segment_facts = SegmentFacts { timeline: lost.stored.timeline, segment: segment.clone() };
        // It has the number of the lost segment, and so replaces it.
        let number = lost.stored.number;
        let facts = self.facts(&mut *self.state.lock().await, segment_facts.clone(), vec![number]);
        // The tail continues in the meantime.
        let object = store(&self.reader.journal, &facts, vec![bytes]).await?;
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        let what = EntryKind::Sealed {
            facts: segment_facts.clone(),
            object: object.clone(),
            replaces: facts.replaces,
        };
        self.append(&mut state, what, &[]).await?;
        let again = segment_facts.stored(number, SegmentState::Sealed, &object);
        if let Some(segment) =
            state.contents.archive.segments.iter_mut().find(|segment| segment.number == number)
        {
            *segment = again;
        }
        state.uncompacted += 1;
        Ok(())
    }

    /// Stores a segment of the tail: one request.
    ///
    /// # Errors
    /// Returns the store's error, and [`Kind::Held`](backstop_types::error::ErrorKind::Held) if
    /// another writer has the lease.
    pub async fn put_tail(&self, facts: &Segment, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != facts.size() || SegmentHash(*blake3::hash(bytes).as_bytes()) != facts.hash {
            return Err(Error::failed(format!(
                "cannot store {} at {}: the bytes are not those of the segment",
                facts.file, facts.start
            )));
        }
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        let timeline = self.timeline(&mut state, facts.source).await?;
        let facts = SegmentFacts { timeline, segment: facts.clone() };
        let stored = self.append(&mut state, EntryKind::Tail(facts), bytes).await?;
        if let EntryKind::Tail(facts) = stored.entry.what {
            let tail = facts.stored(stored.entry.number, SegmentState::Tail, &stored.object);
            state.contents.archive.segments.push(tail);
        }
        Ok(())
    }

    /// Stores a segment, and removes the tail segments that it contains. If the tail contains all of
    /// it, segments that follow may be stored at the same time.
    ///
    /// # Errors
    /// Returns the errors of [`ArchiveWriter::put_tail`]; fails if the bytes are not those of the
    /// segment.
    pub async fn seal(&self, segment: &Segment, bytes: &dyn SegmentBytes) -> Result<()> {
        for _ in 0..MAX_APPEND_ATTEMPTS {
            let bytes = bytes.open().await?;
            let numbers = self.numbers.lock().await;
            let facts = {
                let mut state = self.state.lock().await;
                let timeline = self.timeline(&mut state, segment.source).await?;
                self.facts_of(&mut state, SegmentFacts { timeline, segment: segment.clone() })
            };
            // A segment that replaces nothing bears the number of its entry. Otherwise the tail
            // continues in the meantime.
            let promised = facts.replaces.is_empty().then_some(numbers);
            let object = store(&self.reader.journal, &facts, vec![bytes]).await?;
            let _numbers = match promised {
                Some(numbers) => numbers,
                None => self.numbers.lock().await,
            };
            let mut state = self.state.lock().await;
            if self.seal_stored(&mut state, &facts, object).await? {
                return Ok(());
            }
        }
        Err(Error::failed(format!(
            "cannot seal {} at {}: its number is already taken",
            segment.file, segment.start
        )))
    }

    /// Builds segments from the tail segments that a killed archiver left, one for each run of
    /// bytes of a file.
    ///
    /// # Errors
    /// Returns the errors of [`ArchiveWriter::seal`];
    /// [`Kind::Damaged`](backstop_types::error::ErrorKind::Damaged) if a tail segment is damaged.
    pub async fn seal_tail(&self) -> Result<()> {
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        for run in tail_runs(&state.contents.archive.segments) {
            let mut bytes: Vec<Box<dyn AsyncRead + Send + Unpin>> = Vec::new();
            let mut hasher = blake3::Hasher::new();
            for tail in &run {
                let mut whole = Vec::new();
                let mut input = self.reader.open(tail).await?;
                input.read_to_end(&mut whole).await.failed(format!("cannot read {}", tail.object))?;
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

    /// Begins a timeline that leaves the current one: the server shares only `common` with it, and
    /// lacks `lacks`.
    ///
    /// # Errors
    /// Returns the errors of [`ArchiveWriter::put_tail`].
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

    /// Writes the archiver's heartbeat, replacing the one before.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn heartbeat(&self, alive: &ArchiverHeartbeat) -> Result<()> {
        let journal = &self.reader.journal;
        let key = journal.keys.alive_of(self.lease.number);
        journal.store.put_with_timeout(ObjectKind::Alive, &key, alive).await?;
        self.state.lock().await.contents.archive.alive = Some(alive.clone());
        Ok(())
    }

    /// Releases the archive lease.
    ///
    /// # Errors
    /// Returns [`Kind::Held`](backstop_types::error::ErrorKind::Held) if another writer has
    /// acquired it since.
    pub async fn release(self) -> Result<()> {
        let release = |state: &mut crate::shard_log::ShardState| {
            state.lease = None;
            Ok(())
        };
        self.log.append_under(self.lease.number, &LogEvent::Release, &release).await.map(drop)
    }

    /// Returns the number of the current timeline; the first segment begins the first one.
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

    /// Appends to the journal. First takes in the entries that an earlier, failed call under this
    /// lease stored.
    async fn append(&self, state: &mut WriterState, what: EntryKind, facts: &[u8]) -> Result<StoredEntry> {
        let appended = self.append_as(state, what, facts, None).await?;
        appended.ok_or_else(|| Error::failed("cannot append to the journal: the number is already taken"))
    }

    /// Appends as [`ArchiveWriter::append`] does. `None`: the next number is not the promised one.
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
        Err(Error::failed(format!("cannot append to {}: its end was not found", journal.keys.journal())))
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

    /// Builds the trailer of a segment that replaces the tail segments it contains.
    fn facts_of(&self, state: &mut WriterState, segment_facts: SegmentFacts) -> SegmentTrailer {
        let SegmentFacts { timeline, segment } = &segment_facts;
        let tails = state.contents.archive.segments.iter().filter(|tail| tail.state == SegmentState::Tail);
        let within = tails.filter(|tail| tail.timeline == *timeline && index::contains(segment, tail));
        let replaces = within.map(|tail| tail.number).collect();
        self.facts(state, segment_facts, replaces)
    }

    fn facts(&self, state: &mut WriterState, segment: SegmentFacts, replaces: Vec<u64>) -> SegmentTrailer {
        state.segments += 1;
        SegmentTrailer {
            object: self.reader.journal.keys.segment(self.lease.number, state.segments),
            number: replaces.first().copied().unwrap_or(state.contents.newest + 1),
            replaces,
            segment,
            timelines: state.contents.archive.timelines.clone(),
        }
    }

    /// Enters a segment in the journal. False: it would get another number than its object says.
    async fn seal_stored(
        &self,
        state: &mut WriterState,
        facts: &SegmentTrailer,
        object: ObjectRef,
    ) -> Result<bool> {
        let SegmentTrailer { number, replaces, segment, .. } = facts;
        let what = EntryKind::Sealed { facts: segment.clone(), object, replaces: replaces.clone() };
        let promised = replaces.is_empty().then_some(*number);
        let Some(stored) = self.append_as(state, what, &[], promised).await? else { return Ok(false) };
        let EntryKind::Sealed { object, .. } = &stored.entry.what else { return Ok(false) };
        let segments = &mut state.contents.archive.segments;
        segments.retain(|segment| !replaces.contains(&segment.number) && segment.number != *number);
        let at = segments.partition_point(|segment| segment.number < *number);
        segments.insert(at, segment.clone().stored(*number, SegmentState::Sealed, object));
        state.uncompacted += 1;
        // The segment is stored. A failed clean-up is repeated later.
        if let Err(error) = self.tidy(state, replaces).await {
            tracing::warn!("cannot clean up the archive of shard {}: {error}", self.reader.journal.shard);
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
                // Missing entries may have been put again.
                self.reload(state).await?;
            }
            compaction::compact(journal, &state.contents).await?;
            self.reload(state).await?;
            state.uncompacted = 0;
        }
        Ok(())
    }
}

/// Makes void everything that an earlier holder stores from here on: its next number is taken.
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
        // No number is given twice, even if the index of the newest entries is lost.
        let told = stored_segment::newest_told(journal, &contents).await?;
        if told > contents.newest {
            least = told;
            continue;
        }
        let last = contents.newest_lease().map(|(_, lease)| lease);
        // A holder that released the lease, or whose process is gone, stores nothing any more. A
        // lease in between that left no entry here proves nothing.
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
    Err(Error::failed(format!(
        "cannot claim the archive of shard {}: another archiver keeps storing",
        journal.shard
    )))
}

/// Returns true if an entry is the repeated one: a segment may be stored twice under different
/// names.
fn same(stored: &EntryKind, repeated: &EntryKind) -> bool {
    match (stored, repeated) {
        (
            EntryKind::Sealed { facts, replaces, .. },
            EntryKind::Sealed { facts: again, replaces: as_before, .. },
        ) => facts == again && replaces == as_before,
        _ => stored == repeated,
    }
}

/// Groups the tail segments into runs of consecutive bytes of a file.
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

/// Joins a run into one segment.
fn join_run(run: &[ArchivedSegment], hash: SegmentHash) -> Option<SegmentFacts> {
    let (first, last) = (run.first()?, run.last()?);
    let times = || run.iter().filter_map(|tail| tail.committed);
    let (from, to) = (times().map(|(from, _)| from).min(), times().map(|(_, to)| to).max());
    let segment = Segment {
        end: last.end,
        gtids: run.iter().fold(GtidSet::new(), |all, tail| all.union(&tail.gtids)),
        committed: from.zip(to),
        hash,
        ..first.segment.clone()
    };
    Some(SegmentFacts { timeline: first.timeline, segment })
}

/// Acquires the archive lease of a shard.
pub(crate) async fn acquire_archive_lease(
    reader: ArchiveReader,
    log: ShardLog,
    operation: &str,
) -> Result<ArchiveWriter> {
    let (lease, before) = lease::acquire_after(&log, operation).await?;
    ArchiveWriter::begin(reader, log, lease, before).await
}
