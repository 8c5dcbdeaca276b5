//! Contents of an archive: timelines, and the segments of binlog files that they consist of.
//!
//! A *timeline* is a history that only grows: the binlogs of one server after the other, each of
//! which had everything that was archived when it took over. A server that lacks some of it begins
//! a new timeline, which branches off the old one at the transactions that both have in common.

use std::fmt;
use std::ops::Deref;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::gtid::{Gtid, GtidSet};
use crate::ids::ServerUuid;

/// A timeline of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Its number, from 1. The current timeline has the highest number.
    pub number: u32,
    /// The timeline it branches off; `None` if it has no parent.
    pub parent: Option<u32>,
    /// Time of its beginning, by the archiver's clock.
    pub begun_at: DateTime<Utc>,
    /// The server whose history it is.
    pub source: ServerUuid,
    /// Transactions it has in common with its parent: of the parent's transactions, it holds only
    /// these.
    pub common: GtidSet,
    /// Archived transactions of the parent that it lacks. They may have been acknowledged, and are
    /// only on the abandoned timeline.
    pub lacks: GtidSet,
}

/// A part of a server's binlog file: whole transactions, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The server whose file it is.
    pub source: ServerUuid,
    /// Name of the file on the server.
    pub file: String,
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Offset after its last byte.
    pub end: u64,
    /// All that the server had executed before it: the file's Previous_gtids and the transactions
    /// in the file before `start`.
    pub previous: GtidSet,
    /// The transactions in it.
    pub gtids: GtidSet,
    /// Times of the earliest and the latest commit in it, by the clocks of the servers that
    /// executed them, in µs. `None`: it holds no transaction.
    pub committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// BLAKE3 of its bytes.
    pub hash: SegmentHash,
}

impl Segment {
    /// Returns its size in bytes, before compression.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Returns all that the server had executed at its end.
    #[must_use]
    pub fn held_after(&self) -> GtidSet {
        self.previous.union(&self.gtids)
    }

    /// Returns `FILE of server UUID, bytes START to END`, for messages.
    pub fn name(&self) -> String {
        format!("{} of server {}, bytes {} to {}", self.file, self.source, self.start, self.end)
    }
}

/// A segment in an archive, and where it is stored. Its facts are those of the [`Segment`], to which
/// it dereferences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedSegment {
    /// Its number in the archive. Segments are stored in the order of their numbers.
    pub number: u64,
    /// The timeline it was stored for.
    #[serde(rename = "line")]
    pub timeline: u32,
    /// The segment.
    #[serde(flatten)]
    pub segment: Segment,
    /// State of the segment: tail or sealed.
    pub state: SegmentState,
    /// Key of the object that holds it.
    pub object: String,
    /// Size of that object, in bytes.
    pub stored_bytes: u64,
    /// Identifies the content of that object.
    pub digest: String,
}

impl Deref for ArchivedSegment {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.segment
    }
}

/// State of a stored segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// A sealed segment with the same bytes, and more, will replace it.
    Tail,
    /// It does not change any more.
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

/// The last heartbeat of an archiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiverHeartbeat {
    /// Time of the heartbeat, by the archiver's clock.
    pub at: DateTime<Utc>,
    /// The server it streams from; `None` while no server is usable.
    pub source: Option<ServerUuid>,
    /// All transactions of the timeline that are stored, and those before its beginning or in its
    /// gaps.
    pub archived: GtidSet,
    /// Time, by the archiver's clock, up to which every commit of the source is stored. It advances
    /// even without commits. `None`: the archiver may not have everything.
    pub complete_to: Option<DateTime<Utc>>,
    /// Commit time of the last stored transaction.
    pub last_commit: Option<DateTime<Utc>>,
    /// Reason why it does not stream or store.
    pub trouble: Option<String>,
}

/// An object of an archive that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveDamage {
    /// Key of the object.
    pub object: String,
    /// Description of the damage.
    pub wrong: String,
    /// The timeline it belongs to, if known.
    #[serde(rename = "line")]
    pub timeline: Option<u32>,
    /// Times of the earliest and the latest commit in it, if known.
    pub committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The transactions in it, if known.
    pub gtids: GtidSet,
}

/// Contents of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// Its timelines, in the order of their beginning. Empty: the archive is empty.
    pub timelines: Vec<Timeline>,
    /// Its segments, in the order they were stored. A sealed segment takes the place of its first
    /// tail.
    pub segments: Vec<ArchivedSegment>,
    /// Objects that cannot be used; they are not among the segments.
    pub damaged: Vec<ArchiveDamage>,
    /// Numbers of removed segments that are no longer needed, as spans.
    pub forgotten: Vec<(u64, u64)>,
    /// The last heartbeat of the archiver.
    pub alive: Option<ArchiverHeartbeat>,
}

impl Archive {
    /// Returns the timeline that `latest` follows.
    pub fn current(&self) -> Option<&Timeline> {
        self.timelines.last()
    }

    /// Returns the timeline with this number.
    pub fn timeline(&self, number: u32) -> Option<&Timeline> {
        self.timelines.iter().find(|timeline| timeline.number == number)
    }

    /// Returns the segments of a timeline's history in order, starting after the last forgotten
    /// one.
    pub fn history(&self, number: u32) -> Vec<ArchivedSegment> {
        let mut all = self.segments_on(number);
        let begins = self.begins(&all);
        all.drain(..begins);
        all
    }

    /// Returns the segments of a timeline in order: the ancestors' segments that hold some of it,
    /// then its own. Of an ancestor's segment only the transactions in `common` belong to the
    /// timeline: `gtids` and `previous` are reduced to them. The result includes beginnings of
    /// files that are kept only because they describe the events after them.
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
                            let mut part = segment.clone();
                            (part.segment.gtids, part.segment.previous) = (gtids, previous);
                            all.push(part);
                        }
                    }
                }
            }
        }
        all
    }

    /// Returns the index of the first segment after the last forgotten part of the timeline.
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

    /// Returns everything that a timeline holds, including what preceded its first segment. `None`:
    /// nothing is archived for it.
    pub fn held(&self, number: u32) -> Option<GtidSet> {
        let timeline = self.timeline(number)?;
        let mut held = timeline.common.clone();
        let all = self.segments_on(number);
        let begins = self.begins(&all);
        // Forgotten transactions were archived.
        let mut any = timeline.parent.is_some() && begins == 0;
        for segment in &all[begins..] {
            held = if any { held.union(&segment.gtids) } else { held.union(&segment.held_after()) };
            any = true;
        }
        any.then_some(held)
    }

    /// Returns the known transactions of unusable objects of a timeline, and of its ancestors as
    /// far as they belong to it.
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

    /// Returns the last segment of each server's files in a timeline, without its ancestors.
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

    /// Returns the segments of a server's files in the current timeline, newest first. Of the
    /// ancestors' segments it includes those that belong to the timeline as a whole.
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

    /// Returns the timeline and its ancestors, eldest first, each with the transactions that belong
    /// to the timeline; `None`: all.
    fn descent(&self, number: u32) -> Vec<(u32, Option<GtidSet>)> {
        let (mut all, mut next, mut limit) = (Vec::new(), self.timeline(number), None::<GtidSet>);
        while let Some(timeline) = next {
            all.push((timeline.number, limit.clone()));
            limit = Some(
                limit.map_or_else(|| timeline.common.clone(), |limit| limit.intersect(&timeline.common)),
            );
            // Terminates, since a parent is always older.
            next = timeline
                .parent
                .filter(|parent| *parent < timeline.number)
                .and_then(|parent| self.timeline(parent));
        }
        all.reverse();
        all
    }
}

/// A transaction in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its identifier.
    pub gtid: Gtid,
    /// Commit time on the server that executed it first; `None`: its event does not contain the
    /// time.
    pub committed: Option<DateTime<Utc>>,
}
