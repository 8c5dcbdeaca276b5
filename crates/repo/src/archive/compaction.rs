//! Compacts journal entries into index objects; records the segments that pruning dropped.

use std::collections::BTreeSet;

use backstop_types::archive::{ArchivedSegment, SegmentState, Timeline};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::ShardName;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::entry::EntryKind;
use super::index::ArchiveContents;
use super::journal::ArchiveJournal;
use crate::encrypted_store::Created;
use crate::keys;
use crate::object::{ExpectedObject, ObjectError, ObjectKind, ObjectResult};

/// Number of sealed segments in one index.
pub(crate) const SEGMENTS_PER_INDEX: usize = 128;
/// Number of newest leases that stay in the journal, so that a holder that slept finds its
/// successor's lease. All leases whose previous holder was only silent stay as well, whatever their
/// number.
const LEASES_KEPT: usize = 64;
const PARALLEL_DELETES: usize = 32;

/// Content of the journal entries from `first` to `last`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ArchiveIndex {
    pub(crate) shard: ShardName,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Every timeline begun up to entry `last`.
    #[serde(rename = "lines")]
    pub(crate) timelines: Vec<Timeline>,
    /// The sealed segments.
    pub(crate) segments: Vec<ArchivedSegment>,
    /// Tail segments that no segment has replaced yet. They stay in the journal.
    pub(crate) tails: Vec<u64>,
    /// Tail segments from before `first` that these segments replace.
    pub(crate) replaced: Vec<u64>,
    /// In a rebuilt index: objects of segments that may belong to it but have no readable trailer.
    /// They are kept until the index is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unread: Vec<String>,
}

impl ArchiveIndex {
    /// Builds the index of the journal entries from `first` to `last`.
    pub(crate) fn of(shard: &ShardName, contents: &ArchiveContents, first: u64, last: u64) -> Self {
        let within = |number: u64| (first..=last).contains(&number);
        let (mut segments, mut replaced) = (Vec::new(), Vec::new());
        for stored in contents.entries.range(first..=last).map(|(_, stored)| stored) {
            segments.extend(stored.entry.sealed());
            if let EntryKind::Sealed { replaces, .. } = &stored.entry.what {
                replaced.extend(replaces.iter().filter(|number| !within(**number)));
            }
        }
        segments.retain(|segment| !contents.horizon.is_dropped(segment.number));
        Self {
            shard: shard.clone(),
            first,
            last,
            timelines: contents.archive.timelines.clone(),
            segments,
            tails: tails(contents).filter(|number| within(*number)).collect(),
            replaced,
            unread: Vec::new(),
        }
    }

    /// Returns the index if its content matches its name.
    pub(crate) fn checked(self, span: (u64, u64), shard: &ShardName, key: &str) -> ObjectResult<Self> {
        if (self.first, self.last) == span && self.shard == *shard {
            return Ok(self);
        }
        Err(ObjectError::damaged(key, "it is the index of other entries or of another shard"))
    }

    /// Returns true for an entry that the index covers and does not leave in the journal.
    pub(crate) fn replaces_within(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number) && !self.tails.contains(&number)
    }
}

/// Record of the segments and indexes that pruning dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Horizon {
    /// Its number: each horizon holds all that the earlier ones do.
    pub(crate) number: u64,
    /// Numbers of segments, as spans.
    pub(crate) dropped: Vec<(u64, u64)>,
    /// Recently dropped segments, whose objects may still exist.
    pub(crate) recent: Vec<DroppedSegments>,
    /// Numbers of entries whose index was removed, as spans.
    pub(crate) gone: Vec<(u64, u64)>,
}

/// Segments that were dropped at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DroppedSegments {
    pub(crate) at: DateTime<Utc>,
    /// Numbers of segments, as spans.
    pub(crate) segments: Vec<(u64, u64)>,
}

impl Horizon {
    pub(crate) fn is_dropped(&self, number: u64) -> bool {
        within(&self.dropped, number)
    }

    pub(crate) fn is_recent(&self, number: u64) -> bool {
        self.recent.iter().any(|dropped| within(&dropped.segments, number))
    }

    /// Drops segments.
    pub(crate) fn drop(&mut self, numbers: &BTreeSet<u64>, at: DateTime<Utc>) {
        if numbers.is_empty() {
            return;
        }
        let segments = merge_spans(numbers.iter().map(|number| (*number, *number)));
        self.dropped = merge_spans(self.dropped.iter().chain(&segments).copied());
        self.recent.push(DroppedSegments { at, segments });
    }

    pub(crate) fn is_gone(&self, number: u64) -> bool {
        within(&self.gone, number)
    }

    /// Restores the segments that were dropped at times for which `young` holds, and returns their
    /// numbers.
    pub(crate) fn take_back(&mut self, young: &dyn Fn(DateTime<Utc>) -> bool) -> BTreeSet<u64> {
        let (back, stays): (Vec<_>, Vec<_>) =
            self.recent.iter().cloned().partition(|dropped| young(dropped.at));
        let numbers = back.iter().flat_map(|dropped| dropped.segments.iter().copied());
        let numbers: BTreeSet<u64> = numbers.flat_map(|(first, last)| first..=last).collect();
        self.recent = stays;
        let left = self.dropped.iter().flat_map(|(first, last)| *first..=*last);
        let left = left.filter(|number| !numbers.contains(number));
        self.dropped = merge_spans(left.map(|number| (number, number)));
        numbers
    }

    /// Records that the indexes of these entries were removed.
    pub(crate) fn go(&mut self, gone: Vec<(u64, u64)>) {
        self.gone = merge_spans(self.gone.iter().copied().chain(gone));
    }

    /// Returns the highest number that it knows of.
    pub(crate) fn newest(&self) -> u64 {
        self.gone.iter().chain(&self.dropped).map(|(_, last)| *last).max().unwrap_or(0)
    }
}

/// Sorts spans and joins those that touch.
fn merge_spans(all: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = all.collect();
    all.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in all {
        match joined.last_mut() {
            Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

fn within(spans: &[(u64, u64)], number: u64) -> bool {
    spans.iter().any(|(first, last)| (*first..=*last).contains(&number))
}

/// Returns the newest horizon.
pub(crate) async fn newest_horizon(journal: &ArchiveJournal) -> Result<Horizon> {
    let directory = journal.keys.horizons();
    for _ in 0..8 {
        let listed = journal.store.list(&directory).await?;
        let newest = listed.iter().filter_map(|(key, _)| keys::number_in(&directory, key)).next_back();
        let Some(number) = newest else { return Ok(Horizon::default()) };
        let key = journal.keys.horizon(number);
        match journal
            .store
            .get(ExpectedObject { kind: ObjectKind::Horizon, key: &key, reference: None })
            .await
        {
            // A newer one replaced it.
            Err(ObjectError::Missing { .. }) => {}
            read => return Ok(read?),
        }
    }
    Ok(Horizon::default())
}

/// Writes the index of all journal entries that no index covers yet, then removes those entries.
pub(crate) async fn compact(journal: &ArchiveJournal, contents: &ArchiveContents) -> Result<()> {
    let first = contents.spans.iter().map(|(_, last)| last + 1).max().unwrap_or(1);
    let first = first.max(contents.horizon.gone.iter().map(|(_, last)| last + 1).max().unwrap_or(1));
    // A repair handles numbers that nothing explains, and the entries before them.
    let first = first.max(contents.missing.last().map_or(1, |last| last + 1));
    let last = contents.newest;
    let index = ArchiveIndex::of(&journal.shard, contents, first, last);
    let key = journal.keys.index(first, last);
    let made = journal.store.create(ObjectKind::Index, &key, &index).await?;
    // Read it back whatever the store said, because the entries are removed next. A process that
    // wrote it before saw the same entries, which never change.
    let kept: ArchiveIndex =
        journal.store.get(ExpectedObject { kind: ObjectKind::Index, key: &key, reference: None }).await?;
    if kept != index {
        let made = if made == Created::Exists { "it exists already" } else { "the store has another object" };
        return Err(Error::new(ErrorKind::Damaged, format!("cannot compact the journal into {key}: {made}"))
            .hint("run `backstop verify` to list the damage; the entries are unchanged"));
    }
    let leases = contents.entries.iter().rev().filter(|(_, stored)| stored.entry.what == EntryKind::Lease);
    let leases: BTreeSet<u64> = leases
        .enumerate()
        .filter(|(nth, (_, stored))| *nth < LEASES_KEPT || stored.entry.fences)
        .map(|(_, (number, _))| *number)
        .collect();
    let stay: BTreeSet<u64> = tails(contents).collect();
    let covered = |number: u64| {
        let rolled = contents.rolled.iter().map(|index| (index.first, index.last)).chain([(first, last)]);
        rolled.into_iter().any(|(first, last)| (first..=last).contains(&number))
    };
    let over = contents.entries.keys().copied();
    let over = over.filter(|number| covered(*number) && !stay.contains(number) && !leases.contains(number));
    remove_objects(journal, over.map(|number| journal.keys.entry(number))).await
}

/// Returns the tail segments that no segment has replaced yet.
fn tails(contents: &ArchiveContents) -> impl Iterator<Item = u64> {
    let segments = contents.archive.segments.iter();
    segments.filter(|segment| segment.state == SegmentState::Tail).map(|segment| segment.number)
}

/// Removes objects, several at a time.
pub(crate) async fn remove_objects(
    journal: &ArchiveJournal,
    keys: impl Iterator<Item = String>,
) -> Result<()> {
    let deletes = keys.map(|key| async move { journal.store.delete(&key).await });
    futures::stream::iter(deletes).buffer_unordered(PARALLEL_DELETES).try_collect().await
}
