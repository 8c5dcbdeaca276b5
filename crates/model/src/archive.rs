//! What an archive holds: lines of history, and the pieces of binlog files that they are made of.
//!
//! A *line* is a history that only grows: the binlogs of one server after the other, each of which had everything that was archived
//! when it took over. A server that lacks some of it begins a new line, which goes off the old one at what both have in common.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::gtid::GtidSet;
use crate::ids::ServerUuid;

/// A line of history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Its number, from 1. The one with the highest number is the current one.
    pub number: u32,
    /// The line it goes off; `None` for one that begins by itself.
    pub parent: Option<u32>,
    /// When it was begun, by the archiver's clock.
    pub begun_at: DateTime<Utc>,
    /// The server whose history it is.
    pub source: ServerUuid,
    /// What it has in common with its parent: of the parent's transactions, it holds only these.
    pub common: GtidSet,
    /// Archived transactions of the parent that it lacks: they were acknowledged, perhaps, and are left on a dead line.
    pub lacks: GtidSet,
}

/// A piece of a server's binlog file that is stored: whole transactions, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedSegment {
    /// Its number in the archive. Pieces are stored in the order of these.
    pub number: u64,
    /// The line it was stored for.
    #[serde(rename = "line")]
    pub timeline: u32,
    /// Whose file it is.
    pub source: ServerUuid,
    /// The file's name there.
    pub file: String,
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Offset behind its last byte.
    pub end: u64,
    /// All that the server had executed before it.
    pub previous: GtidSet,
    /// The transactions in it.
    pub gtids: GtidSet,
    /// The earliest and the latest commit of a transaction in it, on the servers they were made on, to the µs. `None`: it holds none.
    pub committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// BLAKE3 of its bytes.
    pub hash: SegmentHash,
    /// Whether it will be replaced.
    pub state: SegmentState,
    /// Key of the object it is in.
    pub object: String,
    /// Size of that object, in bytes.
    pub stored_bytes: u64,
    /// Identifies the content of that object.
    pub digest: String,
}

impl ArchivedSegment {
    /// Its size in bytes, before compression.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// All that the server had executed at its end.
    #[must_use]
    pub fn held_after(&self) -> GtidSet {
        self.previous.union(&self.gtids)
    }

    /// `UUID FILE START-END`, for messages.
    pub fn name(&self) -> String {
        format!("{} of server {}, bytes {} to {}", self.file, self.source, self.start, self.end)
    }
}

/// Whether a stored piece will be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// A sealed segment with the same bytes, and more, will take its place.
    Tail,
    /// It stays as it is.
    Sealed,
}

/// 32 bytes of BLAKE3; hex in text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentHash(pub [u8; 32]);

impl fmt::Display for SegmentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SegmentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<SegmentHash> for String {
    fn from(hash: SegmentHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for SegmentHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err("a hash has 64 hexadecimal digits");
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| "a hash is hexadecimal")?;
        }
        Ok(Self(bytes))
    }
}

/// What an archiver last told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiverHeartbeat {
    /// When, by the archiver's clock.
    pub at: DateTime<Utc>,
    /// Who is streamed from; `None` while nobody can be.
    pub source: Option<ServerUuid>,
    /// Everything up to this set is stored.
    pub archived: GtidSet,
    /// Up to this moment, by the archiver's clock, everything that was committed on the source is stored: also when nothing was.
    /// `None`: it is not known to have everything.
    pub complete_to: Option<DateTime<Utc>>,
    /// When the last transaction that is stored was committed.
    pub last_commit: Option<DateTime<Utc>>,
    /// Why nothing is streamed or stored, if that is so.
    pub trouble: Option<String>,
}

/// Something of an archive that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveDamage {
    /// Key of the object.
    pub object: String,
    /// What is wrong with it.
    pub wrong: String,
    /// The line it belongs to, if that is known.
    #[serde(rename = "line")]
    pub timeline: Option<u32>,
    /// The commits that were in it, if that is known: the earliest and the latest.
    pub committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The transactions that were in it, if that is known.
    pub gtids: GtidSet,
}

/// What an archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// Its lines, in the order they were begun. Empty: nothing is archived yet.
    pub timelines: Vec<Timeline>,
    /// Its pieces, in the order they were stored. A sealed one stands where its first tail did.
    pub segments: Vec<ArchivedSegment>,
    /// What cannot be used, and is not among the segments.
    pub damaged: Vec<ArchiveDamage>,
    /// Numbers of pieces that were removed because nobody needs them any more, as spans.
    pub forgotten: Vec<(u64, u64)>,
    /// What the archiver last told of itself.
    pub alive: Option<ArchiverHeartbeat>,
}

impl Archive {
    /// The line that `latest` follows.
    pub fn current(&self) -> Option<&Timeline> {
        self.timelines.last()
    }

    /// The line of a number.
    pub fn timeline(&self, number: u32) -> Option<&Timeline> {
        self.timelines.iter().find(|timeline| timeline.number == number)
    }

    /// The pieces of a line's history, in its order, from where nothing behind it was forgotten.
    pub fn history(&self, number: u32) -> Vec<ArchivedSegment> {
        let mut all = self.segments_on(number);
        let begins = self.begins(&all);
        all.drain(..begins);
        all
    }

    /// The pieces of a line, in its order: of its ancestors' pieces those that hold something of it, then its own. Of an
    /// ancestor's piece only what is in `common` belongs to the line: `gtids` and `previous` are cut down to that. Among them are
    /// beginnings of files that are kept only because they describe what follows.
    pub fn segments_on(&self, number: u32) -> Vec<ArchivedSegment> {
        let mut all = Vec::new();
        for (number, limit) in self.descent(number) {
            for segment in self.segments.iter().filter(|segment| segment.timeline == number) {
                match &limit {
                    None => all.push(segment.clone()),
                    Some(limit) => {
                        let gtids = segment.gtids.intersect(limit);
                        let empty = gtids.is_empty() && !segment.gtids.is_empty();
                        if !empty {
                            let previous = segment.previous.intersect(limit);
                            all.push(ArchivedSegment { gtids, previous, ..segment.clone() });
                        }
                    }
                }
            }
        }
        all
    }

    /// Which of these pieces is the first that everything kept follows: what is missing before it was forgotten.
    fn begins(&self, all: &[ArchivedSegment]) -> usize {
        let (mut begins, mut held, mut last) = (0, GtidSet::new(), 0);
        for (at, segment) in all.iter().enumerate() {
            let between = (last + 1, segment.number);
            let forgotten = self.forgotten.iter().any(|(first, end)| *first < between.1 && between.0 <= *end);
            if at > 0 && forgotten && !segment.previous.is_subset_of(&held) {
                begins = at;
            }
            held = held.union(&segment.held_after());
            last = segment.number;
        }
        begins
    }

    /// Everything that a line holds, with what came before its first piece. `None`: nothing is archived for it.
    pub fn held(&self, number: u32) -> Option<GtidSet> {
        let timeline = self.timeline(number)?;
        let mut held = timeline.common.clone();
        let all = self.segments_on(number);
        let begins = self.begins(&all);
        // What was forgotten was there.
        let mut any = timeline.parent.is_some() && begins == 0;
        for segment in &all[begins..] {
            held = if any { held.union(&segment.gtids) } else { held.union(&segment.held_after()) };
            any = true;
        }
        any.then_some(held)
    }

    /// What is known to have been in objects of a line, or of its ancestors as far as they belong to it, that cannot be used.
    #[must_use]
    pub fn lost(&self, number: u32) -> GtidSet {
        let mut lost = GtidSet::new();
        for (number, limit) in self.descent(number) {
            for damage in self.damaged.iter().filter(|damage| damage.timeline == Some(number)) {
                let gtids =
                    limit.as_ref().map_or_else(|| damage.gtids.clone(), |l| damage.gtids.intersect(l));
                lost = lost.union(&gtids);
            }
        }
        lost
    }

    /// The last piece of each server's files in a line, without its ancestors.
    pub fn last_segments(&self, number: u32) -> Vec<&ArchivedSegment> {
        let mut last: Vec<&ArchivedSegment> = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.timeline == number) {
            match last.iter_mut().find(|other| other.source == segment.source) {
                Some(other) => *other = segment,
                None => last.push(segment),
            }
        }
        last
    }

    /// The pieces of a server's files in the current line, the newest first; of its ancestors' those that belong to it as a whole.
    pub fn segments_of(&self, source: ServerUuid) -> Vec<ArchivedSegment> {
        let Some(timeline) = self.current().map(|timeline| timeline.number) else { return Vec::new() };
        let stored = |number: u64| {
            let at = self.segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
            self.segments.get(at)
        };
        let whole = |segment: &ArchivedSegment| {
            segment.timeline == timeline
                || stored(segment.number).is_some_and(|all| all.gtids == segment.gtids)
        };
        let mut segments = self.segments_on(timeline);
        segments.retain(|segment| segment.source == source && whole(segment));
        segments.reverse();
        segments
    }

    /// The line and its ancestors, eldest first, each with what of it belongs to the line; `None`: all.
    fn descent(&self, number: u32) -> Vec<(u32, Option<GtidSet>)> {
        let (mut all, mut next, mut limit) = (Vec::new(), self.timeline(number), None::<GtidSet>);
        while let Some(timeline) = next {
            all.push((timeline.number, limit.clone()));
            limit = Some(
                limit.map_or_else(|| timeline.common.clone(), |limit| limit.intersect(&timeline.common)),
            );
            // A parent is always older, so this ends.
            next = timeline
                .parent
                .filter(|parent| *parent < timeline.number)
                .and_then(|parent| self.timeline(parent));
        }
        all.reverse();
        all
    }
}
