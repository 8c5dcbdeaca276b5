//! Writing to the archive of one shard, under its claim.

mod lost;

use std::collections::BTreeSet;
use std::path::Path;

use backstop_binlog::Segment;
use backstop_model::archive::{Alive, Archive, ArchivedSegment, Hash, Line, SegmentState};
use backstop_model::fault::{Context, Fault, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use chrono::{DateTime, Utc};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Mutex;

use super::contents::{self, Contents};
use super::entry::{Piece, StoredEntry, What};
use super::journal::Appended;
use super::reader::ArchiveReader;
use super::roll::{self, ROLL};
use super::segment::{self, Facts, store};
use super::source::plain;
use crate::claim::{Before, Life};
use crate::log::{Claim, Event, Log};
use crate::object::ObjectKind;
use crate::{ObjectRef, claim};

pub use lost::LostEntry;

const ATTEMPTS: usize = 10;

/// Holds the claim on the archive of one shard. Dropped without [`ArchiveWriter::release`] it just stops its heartbeat.
///
/// What is stored when a call returns is durable. A call that failed may have stored its piece: repeat it as it was. Once another
/// has claimed the archive every call fails with [`Kind::Held`](backstop_model::fault::Kind::Held), and has stored nothing.
pub struct ArchiveWriter {
    reader: ArchiveReader,
    log: Log,
    claim: Claim,
    _life: Life,
    /// Held by who gives the next number to an entry, and while a number is promised to one. Taken before `state`.
    numbers: Mutex<()>,
    state: Mutex<State>,
}

/// A piece that is in the books and not in the store, or damaged there.
#[derive(Debug, Clone)]
pub struct LostPiece {
    segment: Segment,
    stored: ArchivedSegment,
}

impl LostPiece {
    /// What it was.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Its number in the archive.
    pub fn number(&self) -> u64 {
        self.stored.number
    }
}

struct State {
    contents: Contents,
    /// Segments that this claim has stored.
    segments: u64,
    /// Sealed since the last index.
    unrolled: usize,
}

impl ArchiveWriter {
    pub(crate) async fn begin(reader: ArchiveReader, log: Log, claim: Claim, before: Before) -> Result<Self> {
        let life = Life::begin(&log, claim.number).await?;
        let contents = fence(&reader, claim.number, before).await?;
        let is_sealed = |stored: &&StoredEntry| matches!(stored.entry.what, What::Sealed { .. });
        let unrolled = contents.entries.values().filter(is_sealed).count();
        let state = Mutex::new(State { contents, segments: 0, unrolled });
        Ok(Self { reader, log, claim, _life: life, numbers: Mutex::default(), state })
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
        let Some(line) = archive.current() else { return (None, Vec::new()) };
        let last = archive.last_of_each(line.number).into_iter().map(plain).collect();
        (archive.held(line.number), last)
    }

    /// The pieces of a server's files in the current line, the newest first; of its ancestors' those that belong to it as a whole.
    pub async fn pieces_of(&self, source: ServerUuid) -> Vec<ArchivedSegment> {
        self.state.lock().await.contents.archive.pieces_of(source)
    }

    /// The pieces whose objects are missing, have another size, or were found damaged.
    ///
    /// # Errors
    /// The store's.
    pub async fn lost_pieces(&self) -> Result<Vec<LostPiece>> {
        let contents = self.reader.contents().await?;
        let damaged: BTreeSet<String> =
            self.reader.checked().await?.damaged.into_iter().map(|damage| damage.object).collect();
        let lost = contents.segments.into_iter().filter(|segment| damaged.contains(&segment.object));
        Ok(lost.map(|stored| LostPiece { segment: plain(&stored), stored }).collect())
    }

    /// Stores a lost piece again, in its place: its bytes are the whole of a file.
    ///
    /// # Errors
    /// As [`ArchiveWriter::seal`].
    pub async fn seal_again(&self, lost: &LostPiece, segment: &Segment, bytes: &Path) -> Result<()> {
        let file = File::open(bytes).await.failed(format!("read {}", bytes.display()))?;
        let piece = Piece::new(lost.stored.line, segment);
        // It bears the number of what is lost, and so stands in its place.
        let number = lost.stored.number;
        let facts = self.facts(&mut *self.state.lock().await, piece.clone(), vec![number]);
        // The tail continues meanwhile.
        let object = store(&self.reader.journal, &facts, vec![Box::new(file)]).await?;
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        let what = What::Sealed { piece: piece.clone(), object: object.clone(), replaces: facts.replaces };
        self.append(&mut state, what, &[]).await?;
        let again = piece.stored(number, SegmentState::Sealed, &object);
        if let Some(segment) =
            state.contents.archive.segments.iter_mut().find(|segment| segment.number == number)
        {
            *segment = again;
        }
        state.unrolled += 1;
        Ok(())
    }

    /// Stores a piece of the tail: one request.
    ///
    /// # Errors
    /// The store's, and [`Kind::Held`](backstop_model::fault::Kind::Held).
    pub async fn put_tail(&self, piece: &Segment, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != piece.size() || *blake3::hash(bytes).as_bytes() != piece.hash {
            return Err(Fault::failed(format!(
                "store {} at {}: the bytes are not those of the piece",
                piece.file, piece.start
            )));
        }
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        let line = self.line(&mut state, piece.source).await?;
        let stored = self.append(&mut state, What::Tail(Piece::new(line, piece)), bytes).await?;
        if let What::Tail(piece) = &stored.entry.what {
            let tail = piece.stored(stored.entry.number, SegmentState::Tail, &stored.object);
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
        for _ in 0..ATTEMPTS {
            let file = File::open(bytes).await.failed(&doing)?;
            let numbers = self.numbers.lock().await;
            let facts = {
                let mut state = self.state.lock().await;
                let line = self.line(&mut state, segment.source).await?;
                self.facts_of(&mut state, Piece::new(line, segment))
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
        Err(Fault::failed(format!("seal {} at {}: its number was taken", segment.file, segment.start)))
    }

    /// Makes segments of the pieces of the tail, one for each run of bytes of a file: those of an archiver that was killed.
    ///
    /// # Errors
    /// As [`ArchiveWriter::seal`]; [`Kind::Damaged`](backstop_model::fault::Kind::Damaged) when a piece is.
    pub async fn seal_tail(&self) -> Result<()> {
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        for run in runs(&state.contents.archive.segments) {
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
            if let Some(piece) = joined(&run, Hash(*hasher.finalize().as_bytes())) {
                let facts = self.facts_of(&mut state, piece);
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
    pub async fn begin_line(
        &self,
        source: ServerUuid,
        common: &GtidSet,
        lacks: &GtidSet,
        now: DateTime<Utc>,
    ) -> Result<u32> {
        let _numbers = self.numbers.lock().await;
        let mut state = self.state.lock().await;
        let parent = state.contents.archive.current().map(|line| line.number);
        let number = parent.unwrap_or(0) + 1;
        let line =
            Line { number, parent, begun_at: now, source, common: common.clone(), lacks: lacks.clone() };
        self.append(&mut state, What::Line(line.clone()), &[]).await?;
        state.contents.archive.lines.push(line);
        Ok(number)
    }

    /// Tells how the archiver is. Overwrites what it told before.
    ///
    /// # Errors
    /// The store's.
    pub async fn heartbeat(&self, alive: &Alive) -> Result<()> {
        let journal = &self.reader.journal;
        let key = journal.keys.alive_of(self.claim.number);
        journal.shelf.put_soon(ObjectKind::Alive, &key, alive).await?;
        self.state.lock().await.contents.archive.alive = Some(alive.clone());
        Ok(())
    }

    /// Gives the archive back.
    ///
    /// # Errors
    /// [`Kind::Held`](backstop_model::fault::Kind::Held) when another has claimed it since.
    pub async fn release(self) -> Result<()> {
        let release = |state: &mut crate::log::State| {
            state.claim = None;
            Ok(())
        };
        self.log.append_under(self.claim.number, &Event::Release, &release).await.map(drop)
    }

    /// The number of the current line; the first one begins with the first piece.
    async fn line(&self, state: &mut State, source: ServerUuid) -> Result<u32> {
        if let Some(line) = state.contents.archive.current() {
            return Ok(line.number);
        }
        let line = Line {
            number: 1,
            parent: None,
            begun_at: self.claim.holder.since,
            source,
            common: GtidSet::new(),
            lacks: GtidSet::new(),
        };
        self.append(state, What::Line(line.clone()), &[]).await?;
        state.contents.archive.lines.push(line);
        Ok(1)
    }

    /// Appends to the journal. What an earlier, failed call of this claim stored is taken in first.
    async fn append(&self, state: &mut State, what: What, piece: &[u8]) -> Result<StoredEntry> {
        let appended = self.append_as(state, what, piece, None).await?;
        appended.ok_or_else(|| Fault::failed("append to the journal: the number was taken"))
    }

    /// As [`ArchiveWriter::append`]. `None`: the next number is not the one that was promised.
    async fn append_as(
        &self,
        state: &mut State,
        what: What,
        piece: &[u8],
        promised: Option<u64>,
    ) -> Result<Option<StoredEntry>> {
        let journal = &self.reader.journal;
        for _ in 0..ATTEMPTS {
            let number = state.contents.newest + 1;
            if promised.is_some_and(|promised| promised != number) {
                return Ok(None);
            }
            match journal.append(number, self.claim.number, what.clone(), piece).await? {
                Appended::Yes(stored) => return Ok(Some(self.appended(state, stored))),
                Appended::Taken(other) if other.entry.claim == self.claim.number => {
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
        Err(Fault::failed(format!("append to {}: its end cannot be found", journal.keys.journal())))
    }

    fn appended(&self, state: &mut State, stored: StoredEntry) -> StoredEntry {
        state.contents.newest = stored.entry.number;
        state.contents.entries.insert(stored.entry.number, stored.clone());
        stored
    }

    async fn reload(&self, state: &mut State) -> Result<()> {
        let alive = state.contents.archive.alive.take();
        state.contents = contents::read(&self.reader.journal, &self.reader.memory).await?;
        state.contents.archive.alive = alive;
        Ok(())
    }

    /// What a segment says of itself that takes the place of the pieces of the tail that it contains.
    fn facts_of(&self, state: &mut State, piece: Piece) -> Facts {
        let nowhere = ObjectRef { key: String::new(), size: 0, digest: String::new() };
        let like = piece.stored(0, SegmentState::Sealed, &nowhere);
        let tails = state.contents.archive.segments.iter().filter(|tail| tail.state == SegmentState::Tail);
        let replaces = tails.filter(|tail| contents::contains(&like, tail)).map(|tail| tail.number).collect();
        self.facts(state, piece, replaces)
    }

    fn facts(&self, state: &mut State, piece: Piece, replaces: Vec<u64>) -> Facts {
        state.segments += 1;
        Facts {
            object: self.reader.journal.keys.segment(self.claim.number, state.segments),
            number: replaces.first().copied().unwrap_or(state.contents.newest + 1),
            replaces,
            piece,
            lines: state.contents.archive.lines.clone(),
        }
    }

    /// Enters a segment. False: it would bear another number than its object says.
    async fn seal_stored(&self, state: &mut State, facts: &Facts, object: ObjectRef) -> Result<bool> {
        let Facts { number, replaces, piece, .. } = facts;
        let what = What::Sealed { piece: piece.clone(), object, replaces: replaces.clone() };
        let promised = replaces.is_empty().then_some(*number);
        let Some(stored) = self.append_as(state, what, &[], promised).await? else { return Ok(false) };
        let What::Sealed { object, .. } = &stored.entry.what else { return Ok(false) };
        let segments = &mut state.contents.archive.segments;
        segments.retain(|segment| !replaces.contains(&segment.number) && segment.number != *number);
        let at = segments.partition_point(|segment| segment.number < *number);
        segments.insert(at, piece.stored(*number, SegmentState::Sealed, object));
        state.unrolled += 1;
        // It is stored. What cannot be tidied up now is tidied up later.
        if let Err(fault) = self.tidy(state, replaces).await {
            tracing::warn!("tidy up the archive of shard {}: {fault}", self.reader.journal.shard);
        }
        Ok(true)
    }

    async fn tidy(&self, state: &mut State, replaced: &[u64]) -> Result<()> {
        let journal = &self.reader.journal;
        let replaced_keys: Vec<String> = replaced.iter().map(|number| journal.keys.entry(*number)).collect();
        roll::remove(journal, replaced_keys.into_iter()).await?;
        for number in replaced {
            state.contents.entries.remove(number);
        }
        if state.unrolled >= ROLL {
            if !state.contents.missing.is_empty() {
                // What was missing may have been put again.
                self.reload(state).await?;
            }
            roll::roll(journal, &state.contents).await?;
            self.reload(state).await?;
            state.unrolled = 0;
        }
        Ok(())
    }
}

/// Makes everything that an earlier holder stores from here on void: its next number is taken.
async fn fence(reader: &ArchiveReader, claim: u64, before: Before) -> Result<Contents> {
    let journal = &reader.journal;
    let mut least = 0;
    for _ in 0..ATTEMPTS {
        let mut contents = contents::read_to(journal, &reader.memory, least).await?;
        if contents.entries.values().any(|stored| stored.entry.claim > claim) {
            return Err(journal.superseded());
        }
        // No number is given twice, also where the index of the newest entries is lost.
        let told = segment::newest_told(journal, &contents).await?;
        if told > contents.newest {
            least = told;
            continue;
        }
        let last = contents.newest_claim().map(|(_, claim)| claim);
        // One that was given back, or whose process is gone, stores nothing any more. A claim between that never got here proves nothing.
        let fences = match before {
            Before::Free => false,
            Before::Dead(number) => last != Some(number),
            Before::Silent => true,
        };
        if let Appended::Yes(stored) = journal.fence(contents.newest + 1, claim, fences).await? {
            contents.newest = stored.entry.number;
            contents.entries.insert(stored.entry.number, stored);
            return Ok(contents);
        }
    }
    Err(Fault::failed(format!("claim the archive of shard {}: another keeps storing", journal.shard)))
}

/// True if an entry is what is repeated: a segment was stored a second time under another name.
fn same(stored: &What, repeated: &What) -> bool {
    match (stored, repeated) {
        (What::Sealed { piece, replaces, .. }, What::Sealed { piece: again, replaces: as_before, .. }) => {
            piece == again && replaces == as_before
        }
        _ => stored == repeated,
    }
}

/// The tails, in runs of bytes that follow each other in a file.
fn runs(segments: &[ArchivedSegment]) -> Vec<Vec<ArchivedSegment>> {
    let mut runs: Vec<Vec<ArchivedSegment>> = Vec::new();
    for tail in segments.iter().filter(|segment| segment.state == SegmentState::Tail) {
        let follows = |run: &&mut Vec<ArchivedSegment>| {
            run.last().is_some_and(|last| {
                (last.line, last.source, &last.file, last.end)
                    == (tail.line, tail.source, &tail.file, tail.start)
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
fn joined(run: &[ArchivedSegment], hash: Hash) -> Option<Piece> {
    let (first, last) = (run.first()?, run.last()?);
    let times = || run.iter().filter_map(|tail| tail.committed);
    let (from, to) = (times().map(|(from, _)| from).min(), times().map(|(_, to)| to).max());
    Some(Piece {
        line: first.line,
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
pub(crate) async fn claim(reader: ArchiveReader, log: Log, operation: &str) -> Result<ArchiveWriter> {
    let (claim, before) = claim::claim_after(&log, operation).await?;
    ArchiveWriter::begin(reader, log, claim, before).await
}
