//! Compacts journal entries into index objects.

use std::collections::BTreeSet;

use backstop_types::archive::SegmentState;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::ShardName;
use futures::{StreamExt, TryStreamExt};

use super::archive_index::ArchiveIndex;
use super::entry::EntryKind;
use super::index::ArchiveContents;
use super::journal::ArchiveJournal;
use crate::encrypted_store::Created;
use crate::object::{ExpectedObject, ObjectKind};

/// Number of sealed segments in one index.
pub(crate) const SEGMENTS_PER_INDEX: usize = 128;
/// Number of newest leases that stay in the journal, so that a holder that slept finds its
/// successor's lease. All leases whose previous holder was only silent stay as well, whatever their
/// number.
const LEASES_KEPT: usize = 64;
const PARALLEL_DELETES: usize = 32;

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
