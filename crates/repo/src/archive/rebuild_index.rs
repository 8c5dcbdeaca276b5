//! Rebuilds a lost or damaged index of the archive from the trailers of its segments.
//!
//! The rebuild holds the leases of the shard and of its archive, so that neither a prune nor an
//! archiver changes the archive at the same time. It removes nothing: it copies the bytes of a
//! damaged index before it replaces the index.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backstop_types::archive::{Archive, ArchivedSegment, SegmentState};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use futures::StreamExt;

use super::archive_index::ArchiveIndex;
use super::index::{self, ArchiveContents, contains_tail, missing_numbers};
use super::journal::ArchiveJournal;
use super::reader::ArchiveReader;
use super::stored_segment::{self, FoundSegment};
use crate::encrypted_store::Created;
use crate::encryption::digest;
use crate::keys;
use crate::object::{ExpectedObject, ObjectError, ObjectKind, digest_text};

/// Number of segments read at a time.
const PARALLEL_READS: usize = 64;

/// Lost or damaged index of the archive, and the plan to rebuild it.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexRepair {
    /// Its key.
    pub index: String,
    /// Description of the damage.
    pub wrong: String,
    /// Key under which the bytes of a damaged index are kept.
    pub aside: Option<String>,
    /// Number of segments that the rebuilt index names.
    pub found: u64,
    /// Transactions of segments that are lost as well: they remain a gap.
    pub lost: GtidSet,
    /// Segments that may belong to the index but have no readable trailer, each with the reason.
    /// They are kept.
    pub left: Vec<(String, String)>,
    /// Reason why the index cannot be rebuilt; `None` if it can.
    pub cannot: Option<String>,
    content: ArchiveIndex,
}

/// Entries that no readable index covers, and some of which nothing explains.
struct Lost {
    first: u64,
    last: u64,
    /// Fault of the index of exactly these entries and the digest of its bytes, if the index
    /// exists.
    damaged: Option<(String, String)>,
}

impl Lost {
    /// Returns true if the entry that names a segment may have been one of these.
    fn may_name(&self, segment: &FoundSegment) -> bool {
        self.last >= segment.facts.reaches()
    }
}

/// Segments that nothing readable names.
#[derive(Default)]
struct Unnamed {
    /// Those with a readable trailer, in the order of their keys.
    found: Vec<FoundSegment>,
    /// The others, each with the reason.
    left: Vec<(String, String)>,
}

/// Plans how to rebuild the indexes of an archive. The plan is empty if no index is missing.
///
/// # Errors
/// Returns the store's error.
pub(crate) async fn plan(reader: &ArchiveReader) -> Result<Vec<IndexRepair>> {
    let journal = &reader.journal;
    // Listed before the journal and indexes are read: segments stored later are in neither, or only
    // in the journal and indexes.
    let stored = journal.store.list(&journal.keys.segments()).await?;
    let mut contents = index::read_archive(journal, &reader.cache).await?;
    let unnamed = unnamed(journal, &contents, stored).await?;
    let told = unnamed.found.iter().map(|segment| segment.facts.reaches()).max().unwrap_or(0);
    // The entry of the segment that was stored last may never have been written. Here, more than
    // that was lost.
    if told > contents.newest + 1 {
        contents = index::read_to(journal, &reader.cache, told).await?;
    }
    let lost = lost(journal, &contents).await?;
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let mut repairs: Vec<IndexRepair> = lost.iter().map(|lost| empty(journal, &contents, lost)).collect();
    for segment in sealed(&contents, &unnamed.found) {
        let home = lost.iter().position(|lost| lost.may_name(segment));
        if let Some(repair) = home.and_then(|home| repairs.get_mut(home)) {
            repair.name(segment);
        }
    }
    for repair in &mut repairs {
        repair.content.segments.sort_by_key(|segment| segment.number);
        repair.content.unread = unnamed.left.iter().map(|(key, _)| key.clone()).collect();
        repair.left.clone_from(&unnamed.left);
    }
    judge(journal, &contents, &mut repairs);
    Ok(repairs)
}

/// Rebuilds the indexes that [`plan`] shows as possible, and returns that plan. The caller holds
/// the leases of the shard and of its archive.
///
/// # Errors
/// Returns the store's error; [`ErrorKind::Held`] if another writer stored an index in between.
pub(crate) async fn apply(reader: &ArchiveReader) -> Result<Vec<IndexRepair>> {
    let repairs = plan(reader).await?;
    for repair in repairs.iter().filter(|repair| repair.cannot.is_none()) {
        repair.write(&reader.journal).await?;
    }
    Ok(repairs)
}

/// Returns an index of the entries that are still in the journal.
fn empty(journal: &ArchiveJournal, contents: &ArchiveContents, lost: &Lost) -> IndexRepair {
    let Lost { first, last, damaged } = lost;
    let missing = || match first == last {
        true => format!("the entry {first} of the journal is missing"),
        false => format!("it or the entries {first} to {last} of the journal are missing"),
    };
    IndexRepair {
        index: journal.keys.index(*first, *last),
        wrong: damaged.as_ref().map_or_else(missing, |(wrong, _)| wrong.clone()),
        aside: damaged.as_ref().map(|(_, digest)| journal.keys.aside(*first, *last, digest)),
        found: 0,
        lost: GtidSet::new(),
        left: Vec::new(),
        cannot: None,
        content: ArchiveIndex::of(&journal.shard, contents, *first, *last),
    }
}

impl IndexRepair {
    /// Adds a segment that was found.
    fn name(&mut self, segment: &FoundSegment) {
        let (facts, content) = (&segment.facts, &mut self.content);
        self.found += 1;
        content.segments.push(segment.stored());
        content.tails.retain(|number| !facts.replaces.contains(number));
        content.replaced.extend(facts.replaces.iter().filter(|number| **number < content.first));
        for timeline in &facts.timelines {
            if content.timelines.iter().all(|known| known.number != timeline.number) {
                content.timelines.push(timeline.clone());
            }
        }
        content.timelines.sort_by_key(|timeline| timeline.number);
    }

    async fn write(&self, journal: &ArchiveJournal) -> Result<()> {
        let (store, key) = (&journal.store, &self.index);
        if let Some(aside) = &self.aside {
            let bytes = store.bytes(key).await?.unwrap_or_default();
            // The name is derived from the content, so that a repetition writes the same object.
            if journal.keys.aside(self.content.first, self.content.last, &bytes_digest(&bytes)) != *aside {
                return Err(written_by_another(key));
            }
            store.put_bytes(aside, bytes).await?;
            store.put(ObjectKind::Index, key, &self.content).await?;
        } else if store.create(ObjectKind::Index, key, &self.content).await? == Created::Exists {
            return Err(written_by_another(key));
        }
        let kept: ArchiveIndex =
            store.get(ExpectedObject { kind: ObjectKind::Index, key, reference: None }).await?;
        if kept == self.content {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Store, format!("cannot write {key}: the store did not keep it")))
    }
}

fn written_by_another(key: &str) -> Error {
    Error::new(ErrorKind::Held, format!("cannot rebuild {key}: another process has written it"))
        .hint("repeat the repair")
}

fn bytes_digest(bytes: &[u8]) -> String {
    digest_text(&digest(bytes))
}

/// Reads the trailers of the segments that nothing readable names.
async fn unnamed(
    journal: &ArchiveJournal,
    contents: &ArchiveContents,
    stored: Vec<(String, u64)>,
) -> Result<Unnamed> {
    let directory = journal.keys.segments();
    let named: BTreeSet<String> = contents.named().into_iter().map(|segment| segment.object).collect();
    let keys = stored.into_iter().map(|(key, _)| key);
    let keys = keys.filter(|key| keys::number_in(&directory, key).is_some() && !named.contains(key));
    let looks = keys.map(|key| async move {
        let found = stored_segment::find(journal, &key).await;
        (key, found)
    });
    let mut unnamed = Unnamed::default();
    let mut looks = futures::stream::iter(looks).buffered(PARALLEL_READS);
    while let Some((key, found)) = looks.next().await {
        match found {
            Ok(Some(found)) => unnamed.found.push(found),
            Ok(None) => unnamed.left.push((key, "an older version stored it without a description".into())),
            Err(ObjectError::Store(error)) => return Err(error),
            // A prune removed it.
            Err(ObjectError::Missing { .. }) => {}
            Err(ObjectError::Damaged { wrong, .. }) => unnamed.left.push((key, wrong)),
        }
    }
    Ok(unnamed)
}

/// Returns the entries whose index is lost or damaged, and the entries that are lost themselves.
async fn lost(journal: &ArchiveJournal, contents: &ArchiveContents) -> Result<Vec<Lost>> {
    let sound: BTreeSet<(u64, u64)> = contents.rolled.iter().map(|index| (index.first, index.last)).collect();
    let mut lost = Vec::new();
    for (first, last) in contents.spans.iter().copied().filter(|span| !sound.contains(span)) {
        let key = journal.keys.index(first, last);
        let damage = contents.archive.damaged.iter().find(|damage| damage.object == key);
        if let (Some(damage), Some(bytes)) = (damage, journal.store.bytes(&key).await?) {
            lost.push(Lost { first, last, damaged: Some((damage.wrong.clone(), bytes_digest(&bytes))) });
        }
    }
    let damaged = lost.iter().map(|lost| (lost.first, lost.last));
    let spans: BTreeSet<(u64, u64)> = sound.into_iter().chain(damaged).collect();
    let kept = |number: &u64| !contents.horizon.is_gone(*number);
    let mut left = contents.missing.clone();
    left.retain(|number| !lost.iter().any(|lost: &Lost| (lost.first..=lost.last).contains(number)));
    for (first, end) in missing_numbers(spans.into_iter(), contents.newest) {
        let missing: Vec<u64> = left.range(first..=end).copied().collect();
        let (Some(one), Some(other)) = (missing.first(), missing.last()) else { continue };
        left.retain(|number| !missing.contains(number));
        // The lost range begins where the previous index ends, because the following index begins
        // behind it: the entries in between would be skipped. Where no index follows, it reaches to
        // the last lost entry.
        let end = if end == contents.newest { *other } else { end };
        let first = (first..=*one).find(kept).unwrap_or(*one);
        let last = (*other..=end).rfind(kept).unwrap_or(*other);
        lost.push(Lost { first, last, damaged: None });
    }
    lost.sort_by_key(|lost| (lost.first, lost.last));
    // Tail segments that an index left in the journal.
    lost.extend(left.into_iter().map(|number| Lost { first: number, last: number, damaged: None }));
    Ok(lost)
}

/// Returns, of the segments that nothing names, those that an entry named: not those that a killed
/// archiver left behind or stored a second time.
fn sealed<'f>(contents: &ArchiveContents, found: &'f [FoundSegment]) -> Vec<&'f FoundSegment> {
    let named = contents.named();
    let stored: Vec<ArchivedSegment> = found.iter().map(FoundSegment::stored).collect();
    let tails = contents.archive.segments.iter().filter(|segment| segment.state == SegmentState::Tail);
    let mut of_file: BTreeMap<_, Vec<&ArchivedSegment>> = BTreeMap::new();
    let mut newest: BTreeMap<u64, &str> = BTreeMap::new();
    for segment in named.iter().chain(&stored).chain(tails) {
        of_file.entry((segment.source, &segment.file)).or_default().push(segment);
        if segment.state == SegmentState::Sealed {
            let object = newest.entry(segment.number).or_insert(&segment.object);
            *object = (*object).max(&segment.object);
        }
    }
    let is_named: BTreeSet<&str> = named.iter().map(|segment| segment.object.as_str()).collect();
    let was_named = |(one, found): &(&ArchivedSegment, &FoundSegment)| {
        let others = of_file.get(&(one.source, &one.file)).map_or(&[][..], Vec::as_slice);
        let is_tail = |other: &&&ArchivedSegment| other.state == SegmentState::Tail;
        let in_tail = others.iter().filter(is_tail).filter(|tail| contains_tail(one, tail));
        let in_tail: u64 = in_tail.map(|tail| tail.size()).sum();
        let again = |other: &&ArchivedSegment| {
            let counts = is_named.contains(other.object.as_str()) || other.object > one.object;
            !is_tail(&other) && other.number != one.number && counts && contains_tail(other, one)
        };
        // A segment that replaces nothing bears the number of the entry that named it.
        let entered = !found.facts.replaces.is_empty() || contents.missing.contains(&one.number);
        entered
            && newest.get(&one.number).is_none_or(|newest| *newest == one.object)
            && in_tail < one.size()
            && !others.iter().any(again)
    };
    stored.iter().zip(found).filter(was_named).map(|(_, found)| found).collect()
}

/// Determines the transactions that would still be lost, and the indexes that cannot be rebuilt.
fn judge(journal: &ArchiveJournal, contents: &ArchiveContents, repairs: &mut [IndexRepair]) {
    let after = after(journal, contents, repairs);
    let timelines = after
        .timelines
        .iter()
        .map(|timeline| timeline.number)
        .chain(after.segments.iter().map(|one| one.timeline));
    let last = timelines.max().unwrap_or(0);
    let unknown = (1..=last).find(|number| after.timeline(*number).is_none());
    let end = repairs.iter().map(|repair| repair.content.last).max();
    for repair in repairs {
        let (first, last) = (repair.content.first, repair.content.last);
        repair.lost = holes_in(&after, first, if Some(last) == end { u64::MAX } else { last });
        repair.cannot = match unknown {
            Some(timeline) => Some(format!("no remaining object describes timeline {timeline}")),
            None if repair.found == 0 && !repair.left.is_empty() => {
                Some("no segment belongs to it, and some segments have no description".to_owned())
            }
            None => None,
        };
    }
}

/// Returns the archive with the indexes that would be rebuilt.
fn after(journal: &ArchiveJournal, contents: &ArchiveContents, repairs: &[IndexRepair]) -> Archive {
    let mut after =
        ArchiveContents { missing: BTreeSet::new(), archive: Archive::default(), ..contents.clone() };
    after.rolled.extend(repairs.iter().map(|repair| Arc::new(repair.content.clone())));
    after.rolled.sort_by_key(|index| (index.first, index.last));
    after.archive.alive.clone_from(&contents.archive.alive);
    let numbers: Vec<u64> = after.entries.keys().copied().collect();
    after.put_together(journal, &numbers, &|_| false);
    after.archive
}

/// Returns the transactions that are missing from the timelines of an archive between segments of
/// these numbers.
fn holes_in(archive: &Archive, first: u64, last: u64) -> GtidSet {
    let mut missing = GtidSet::new();
    for timeline in &archive.timelines {
        let history = archive.history(timeline.number);
        let mut held = history.first().map_or_else(GtidSet::new, |first| first.held_after());
        for pair in history.windows(2) {
            let [before, next] = pair else { continue };
            if before.number < last && first < next.number {
                missing = missing.union(&next.previous.subtract(&held));
            }
            held = held.union(&next.held_after());
        }
        let current = archive.current().is_some_and(|current| current.number == timeline.number);
        if let Some(alive) =
            archive.alive.as_ref().filter(|_| current && last == u64::MAX && !history.is_empty())
        {
            missing = missing.union(&alive.archived.subtract(&held));
        }
    }
    missing
}
