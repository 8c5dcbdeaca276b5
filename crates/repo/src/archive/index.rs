//! Combines the objects of an archive into its contents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use backstop_types::archive::{
    Archive, ArchiveDamage, ArchivedSegment, ArchiverHeartbeat, Segment, SegmentState, Timeline,
};
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use futures::{StreamExt, TryStreamExt};

use super::archive_index::ArchiveIndex;
use super::entry::{EntryKind, StoredEntry};
use super::horizon::{self, Horizon};
use super::journal::ArchiveJournal;
use crate::keys;
use crate::object::{ExpectedObject, ObjectError, ObjectKind, ObjectResult};

/// Number of concurrent requests.
const PARALLEL_READS: usize = 128;
/// Number of attempts to read the archive when objects disappear during the read.
const MAX_ATTEMPTS: usize = 8;

/// Objects of an archive, as read.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArchiveContents {
    pub(crate) archive: Archive,
    /// Entries that are in the journal, including those that an index covers already.
    pub(crate) entries: BTreeMap<u64, StoredEntry>,
    /// Entries that each index covers.
    pub(crate) spans: Vec<(u64, u64)>,
    /// The indexes.
    pub(crate) rolled: Vec<Arc<ArchiveIndex>>,
    /// Highest number that was given.
    pub(crate) newest: u64,
    pub(crate) horizon: Horizon,
    /// Numbers that nothing readable explains.
    pub(crate) missing: BTreeSet<u64>,
}

/// Cache of entries and indexes, which never change.
#[derive(Clone, Default)]
pub(crate) struct ArchiveCache {
    read: Arc<Mutex<ReadState>>,
}

#[derive(Default)]
struct ReadState {
    entries: BTreeMap<u64, StoredEntry>,
    indexes: BTreeMap<(u64, u64), Arc<ArchiveIndex>>,
}

impl ArchiveCache {
    fn with<T>(&self, work: impl FnOnce(&mut ReadState) -> T) -> T {
        // Each change is complete before anything can panic.
        work(&mut self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads an archive. If another process replaces objects during the read, reads the objects that
/// replace them.
///
/// The lists are requested in this order, one after the other, because each kind of object replaces
/// the kind before it: an entry that is no longer in the journal is in an index that exists by the
/// time the indexes are listed, and an index that is gone is in the horizon.
pub(crate) async fn read_archive(journal: &ArchiveJournal, cache: &ArchiveCache) -> Result<ArchiveContents> {
    read_to(journal, cache, 0).await
}

/// Reads as [`read_archive`] does, when an entry of the number `least` is known to have existed.
pub(crate) async fn read_to(
    journal: &ArchiveJournal,
    cache: &ArchiveCache,
    least: u64,
) -> Result<ArchiveContents> {
    let mut last = None;
    for attempt in 1..=MAX_ATTEMPTS {
        // First: entries that the heartbeat counts are stored before it, so a later list holds at
        // least those.
        let alive = archiver_heartbeat(journal).await?;
        let numbers = journal.numbers().await?;
        let spans = spans(journal).await?;
        let horizon = horizon::newest_horizon(journal).await?;
        let mut gone = BTreeSet::new();
        let (entries, damaged) = entries(journal, cache, &numbers, &mut gone).await?;
        let (rolled, broken) = rolled(journal, cache, &spans, &mut gone).await?;
        let mut contents =
            ArchiveContents { entries, spans, rolled, horizon, newest: least, ..ArchiveContents::default() };
        contents.archive.alive = alive;
        contents.archive.damaged = [damaged, broken].concat();
        let is_gone = |number: u64| gone.contains(&journal.keys.entry(number));
        let twice = last.as_ref().is_some_and(|(before, _)| *before == gone);
        contents.put_together(journal, &numbers, &|number| twice && is_gone(number));
        // An object that two lists name and that does not exist, or a number missing twice, is
        // lost, not replaced.
        let found = (gone, contents.missing.clone());
        let sound = found.0.is_empty() && found.1.is_empty();
        if sound || last.as_ref() == Some(&found) || attempt == MAX_ATTEMPTS {
            return Ok(contents);
        }
        last = Some(found);
    }
    Ok(ArchiveContents::default())
}

async fn spans(journal: &ArchiveJournal) -> Result<Vec<(u64, u64)>> {
    let directory = journal.keys.indexes();
    let listed = journal.store.list(&directory).await?;
    Ok(listed.iter().filter_map(|(key, _)| keys::span_in(&directory, key)).collect())
}

pub(super) async fn archiver_heartbeat(journal: &ArchiveJournal) -> Result<Option<ArchiverHeartbeat>> {
    let listed = journal.store.list(&journal.keys.alive()).await?;
    let Some((key, _)) = listed.last() else { return Ok(None) };
    match journal.store.get(ExpectedObject { kind: ObjectKind::Alive, key, reference: None }).await {
        Ok(alive) => Ok(Some(alive)),
        Err(ObjectError::Store(error)) => Err(error),
        // The heartbeat is only a hint, and is soon overwritten: a damaged one is ignored.
        Err(_) => Ok(None),
    }
}

type Found<T> = (T, Vec<ArchiveDamage>);

async fn entries(
    journal: &ArchiveJournal,
    cache: &ArchiveCache,
    numbers: &[u64],
    gone: &mut BTreeSet<String>,
) -> Result<Found<BTreeMap<u64, StoredEntry>>> {
    let listed: BTreeSet<u64> = numbers.iter().copied().collect();
    cache.with(|read| read.entries.retain(|number, _| listed.contains(number)));
    let known: BTreeSet<u64> = cache.with(|read| read.entries.keys().copied().collect());
    let wanted: Vec<u64> = listed.difference(&known).copied().collect();
    let wanted = wanted.into_iter().map(|number| async move { (number, journal.entry(number).await) });
    let mut damaged = Vec::new();
    let mut reads = futures::stream::iter(wanted).buffer_unordered(PARALLEL_READS);
    while let Some((number, entry)) = reads.next().await {
        match entry {
            Ok(entry) => cache.with(|read| drop(read.entries.insert(number, entry))),
            Err(error) => note(error, gone, &mut damaged)?,
        }
    }
    Ok((cache.with(|read| read.entries.clone()), damaged))
}

async fn rolled(
    journal: &ArchiveJournal,
    cache: &ArchiveCache,
    spans: &[(u64, u64)],
    gone: &mut BTreeSet<String>,
) -> Result<Found<Vec<Arc<ArchiveIndex>>>> {
    cache.with(|read| read.indexes.retain(|span, _| spans.contains(span)));
    let known: BTreeSet<(u64, u64)> = cache.with(|read| read.indexes.keys().copied().collect());
    let wanted: Vec<(u64, u64)> = spans.iter().copied().filter(|span| !known.contains(span)).collect();
    let wanted =
        wanted.into_iter().map(|span| async move { Ok::<_, Error>((span, index(journal, span).await)) });
    let read: Vec<_> = futures::stream::iter(wanted).buffer_unordered(PARALLEL_READS).try_collect().await?;
    let mut damaged = Vec::new();
    for (span, index) in read {
        match index {
            Ok(index) => cache.with(|read| drop(read.indexes.insert(span, Arc::new(index)))),
            Err(error) => note(error, gone, &mut damaged)?,
        }
    }
    let all = cache.with(|read| spans.iter().filter_map(|span| read.indexes.get(span).cloned()).collect());
    Ok((all, damaged))
}

async fn index(journal: &ArchiveJournal, span: (u64, u64)) -> ObjectResult<ArchiveIndex> {
    let key = journal.keys.index(span.0, span.1);
    let expected = ExpectedObject { kind: ObjectKind::Index, key: &key, reference: None };
    let index: ArchiveIndex = journal.store.get(expected).await?;
    index.checked(span, &journal.shard, &key)
}

fn note(error: ObjectError, gone: &mut BTreeSet<String>, damaged: &mut Vec<ArchiveDamage>) -> Result<()> {
    let (object, wrong) = match error {
        ObjectError::Store(error) => return Err(error),
        ObjectError::Missing { key } => {
            gone.insert(key);
            return Ok(());
        }
        ObjectError::Damaged { key, wrong } => (key, wrong),
    };
    damaged.push(ArchiveDamage { object, wrong, timeline: None, committed: None, gtids: GtidSet::new() });
    Ok(())
}

impl ArchiveContents {
    /// Returns the newest lease in the journal: the number of its entry, and of the lease. All
    /// entries of earlier leases are in these contents: their holders can no longer add any.
    pub(crate) fn newest_lease(&self) -> Option<(u64, u64)> {
        let mut leases =
            self.entries.iter().rev().filter(|(_, stored)| stored.entry.what == EntryKind::Lease);
        leases.next().map(|(number, stored)| (*number, stored.entry.lease))
    }

    /// Returns true if no entry or index is missing or damaged.
    pub(crate) fn is_whole(&self) -> bool {
        self.archive.damaged.is_empty()
    }

    /// Returns the sealed segments that entries and indexes name, including those that were
    /// dropped. A segment that was stored again is named twice.
    pub(super) fn named(&self) -> Vec<ArchivedSegment> {
        let rolled = self.rolled.iter().flat_map(|index| index.segments.iter().cloned());
        let fresh = self.entries.values().filter_map(|stored| stored.entry.sealed());
        rolled.chain(fresh).collect()
    }

    /// Builds the archive from the objects read, and lists the missing ones.
    pub(super) fn put_together(
        &mut self,
        journal: &ArchiveJournal,
        numbers: &[u64],
        lost: &dyn Fn(u64) -> bool,
    ) {
        let spans = self.spans.iter().map(|(_, last)| *last);
        let known = spans.chain(numbers.last().copied()).chain([self.horizon.newest()]).max();
        self.newest = self.newest.max(known.unwrap_or(0));
        let mut timelines: BTreeMap<u32, Timeline> = BTreeMap::new();
        let mut segments: BTreeMap<u64, ArchivedSegment> = BTreeMap::new();
        let mut replaced: BTreeSet<u64> = BTreeSet::new();
        for index in &self.rolled {
            timelines.extend(index.timelines.iter().map(|timeline| (timeline.number, timeline.clone())));
            segments.extend(index.segments.iter().map(|segment| (segment.number, segment.clone())));
        }
        for stored in self.entries.values() {
            match &stored.entry.what {
                EntryKind::Lease | EntryKind::Tail(_) => {}
                EntryKind::Timeline(timeline) => drop(timelines.insert(timeline.number, timeline.clone())),
                EntryKind::Sealed { replaces, .. } => {
                    segments.extend(stored.entry.sealed().map(|segment| (segment.number, segment)));
                    replaced.extend(replaces);
                }
            }
        }
        self.missing = self.miss(journal, numbers, &replaced, lost);
        for (number, stored) in &self.entries {
            if let EntryKind::Tail(facts) = &stored.entry.what
                && !replaced.contains(number)
            {
                let tail = facts.clone().stored(*number, SegmentState::Tail, &stored.object);
                if !segments.values().any(|sealed| contains_tail(sealed, &tail)) {
                    segments.insert(*number, tail);
                }
            }
        }
        let dropped = |segment: &ArchivedSegment| self.horizon.is_dropped(segment.number);
        self.archive.segments = segments.into_values().filter(|segment| !dropped(segment)).collect();
        self.archive.timelines = timelines.into_values().collect();
        self.archive.forgotten.clone_from(&self.horizon.dropped);
    }

    /// Lists the missing entries: every number should be in the journal, compacted, replaced or
    /// dropped.
    fn miss(
        &mut self,
        journal: &ArchiveJournal,
        numbers: &[u64],
        replaced: &BTreeSet<u64>,
        lost: &dyn Fn(u64) -> bool,
    ) -> BTreeSet<u64> {
        let rolled = self.rolled.clone();
        let there: BTreeSet<u64> = numbers.iter().copied().filter(|number| !lost(*number)).collect();
        let mut later: BTreeSet<u64> =
            rolled.iter().flat_map(|index| index.replaced.iter().copied()).collect();
        for one in &rolled {
            // An index that covers a number and does not keep it shows that the number was
            // replaced, whatever an older index says.
            let replaced = |number: &&u64| rolled.iter().any(|other| other.replaces_within(**number));
            later.extend(one.tails.iter().filter(replaced));
        }
        let damaged: BTreeSet<String> =
            self.archive.damaged.iter().map(|damage| damage.object.clone()).collect();
        let explained = |number: u64| {
            let gone = replaced.contains(&number) || later.contains(&number) || self.horizon.is_gone(number);
            there.contains(&number) || gone || damaged.contains(&journal.keys.entry(number))
        };
        let spans = rolled.iter().map(|index| (index.first, index.last));
        let holes = missing_numbers(spans.chain(self.horizon.gone.iter().copied()), self.newest);
        let live = rolled.iter().flat_map(|index| index.tails.iter().copied());
        let expected = holes.into_iter().flat_map(|(first, last)| first..=last).chain(live);
        let missing: BTreeSet<u64> = expected.filter(|number| !explained(*number)).collect();
        // Adjacent entries may have been in one index: one item describes a whole run.
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for number in &missing {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => runs.push((*number, *number)),
            }
        }
        self.archive.damaged.extend(runs.into_iter().map(|(first, last)| missing_run(journal, first, last)));
        missing
    }
}

fn missing_run(journal: &ArchiveJournal, first: u64, last: u64) -> ArchiveDamage {
    let (object, wrong) = if first == last {
        (journal.keys.entry(first), "it is missing".to_owned())
    } else {
        let wrong = format!("it or the entries {first} to {last} of the journal are missing");
        (journal.keys.index(first, last), wrong)
    };
    ArchiveDamage { object, wrong, timeline: None, committed: None, gtids: GtidSet::new() }
}

/// Returns the numbers in `1..=newest` that none of these spans contains.
pub(super) fn missing_numbers(spans: impl Iterator<Item = (u64, u64)>, newest: u64) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = spans.collect();
    spans.sort_unstable();
    let (mut next, mut holes) = (1, Vec::new());
    for (first, last) in spans {
        if next < first {
            holes.push((next, first - 1));
        }
        next = next.max(last + 1);
    }
    if next <= newest {
        holes.push((next, newest));
    }
    holes
}

/// Returns true if a sealed segment contains the bytes of a tail of the same timeline.
pub(super) fn contains_tail(sealed: &ArchivedSegment, tail: &ArchivedSegment) -> bool {
    sealed.timeline == tail.timeline && contains(sealed, tail)
}

/// Returns true if a segment contains the bytes of another. A server that has lost its binlogs uses
/// their names again: by its name alone a segment could be taken for another.
pub(super) fn contains(whole: &Segment, part: &Segment) -> bool {
    whole.source == part.source
        && whole.file == part.file
        && whole.start <= part.start
        && part.end <= whole.end
        && whole.previous.is_subset_of(&part.previous)
        && part.held_after().is_subset_of(&whole.held_after())
}
