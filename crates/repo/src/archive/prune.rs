//! Removes unneeded segments of an archive: planned first, then executed, under the shard's lease
//! and beside its archiver.
//!
//! The prune first creates a horizon that names the segments: from then on no reader finds them.
//! When the grace period is over, it removes their objects, then the indexes that name nothing
//! else, which the next horizon records.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_types::archive::{Archive, ArchivedSegment};
use backstop_types::error::{Error, ErrorKind, Result};
use chrono::{DateTime, Utc};

use super::archive_index::ArchiveIndex;
use super::compaction;
use super::horizon::Horizon;
use super::index::{self, ArchiveContents};
use super::reader::ArchiveReader;
use crate::encrypted_store::Created;
use crate::keys::{self, ArchiveKeys};
use crate::local_store::LocalStore;
use crate::object::ObjectKind;
use crate::shard_log::ENTRIES_KEPT;
use crate::stale_uploads;
use crate::store_clock::is_grace_over;

/// Plan to prune an archive. Made by [`ArchiveView::plan`], consumed by
/// `ShardWriter::prune_archive`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchivePrunePlan {
    /// Segments to drop: no reader finds them any more. In an undo plan: the segments that readers
    /// find again.
    pub segments: BTreeSet<u64>,
    /// Objects to remove, each with its size: those of dropped segments whose grace
    /// period is over, and those that dead archivers left behind.
    pub objects: Vec<(String, u64)>,
    horizon: Option<Horizon>,
}

impl ArchivePrunePlan {
    /// Returns the number of bytes that the plan would free.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|(_, size)| size).sum()
    }
}

/// Consistent view of an archive, the basis of every pruning decision. With two views of different
/// age, a plan would take segments stored in between for leftovers of a dead archiver.
pub struct ArchiveView {
    contents: ArchiveContents,
    /// Objects listed before the journal and indexes were read, with sizes.
    stored: Vec<(String, u64)>,
    keys: ArchiveKeys,
}

impl ArchiveView {
    /// Reads the view. `local_store` is the directory with the staged files, if the store is a
    /// directory.
    pub(crate) async fn read(reader: &ArchiveReader, local_store: Option<&LocalStore>) -> Result<Self> {
        let journal = &reader.journal;
        // Listed before the journal and indexes are read: objects stored later are in neither, or
        // only in the journal and indexes.
        let mut stored = journal.store.list(journal.keys.base()).await?;
        stored.extend(stale_uploads::list_stale_uploads(local_store, &journal.keys.leases()).await?);
        let contents = index::read_archive(journal, &reader.cache).await?;
        Ok(Self { contents, stored, keys: journal.keys.clone() })
    }

    /// Returns the contents of the archive.
    pub fn archive(&self) -> &Archive {
        &self.contents.archive
    }

    /// Plans a prune. `drop` are the numbers of the unneeded segments. Their objects are removed
    /// `grace` after the drop, because a recovery may still read them. The archiver continues at
    /// the same time.
    pub fn plan(&self, drop: &BTreeSet<u64>, now: DateTime<Utc>, grace: Duration) -> ArchivePrunePlan {
        let mut horizon = self.contents.horizon.clone();
        // A segment that was dropped after `now`, by another clock, counts as recent.
        horizon.recent.retain(|dropped| !is_grace_over(dropped.at, now, grace));
        horizon.drop(drop, now);
        let over = |number: u64| horizon.is_dropped(number) && !horizon.is_recent(number);
        let (dropped, referenced): (Vec<_>, Vec<_>) =
            self.contents.named().into_iter().partition(|segment| over(segment.number));
        let keys = |named: Vec<ArchivedSegment>| {
            named.into_iter().map(|segment| segment.object).collect::<BTreeSet<_>>()
        };
        let (dropped, mut referenced) = (keys(dropped), keys(referenced));
        referenced.extend(self.contents.rolled.iter().flat_map(|index| index.unread.iter().cloned()));
        let goes = |key: &str| !referenced.contains(key) && (dropped.contains(key) || self.is_left(key));
        let mut objects: Vec<(String, u64)> =
            self.stored.iter().filter(|(key, _)| goes(key)).cloned().collect();
        let mut gone = Vec::new();
        for index in self.empty_indexes(&over) {
            gone.push((index.first, index.last));
            // This index recorded that these entries were replaced.
            gone.extend(index.replaced.iter().map(|number| (*number, *number)));
            objects.push((self.keys.index(index.first, index.last), 0));
        }
        let changed = !drop.is_empty() || !gone.is_empty();
        horizon.go(gone);
        horizon.number += 1;
        ArchivePrunePlan { segments: drop.clone(), objects, horizon: changed.then_some(horizon) }
    }

    /// Plans to undo drops whose grace period is not over.
    pub fn undo_plan(&self, now: DateTime<Utc>, grace: Duration) -> ArchivePrunePlan {
        let mut horizon = self.contents.horizon.clone();
        let segments = horizon.take_back(&|at| !is_grace_over(at, now, grace));
        horizon.number += 1;
        let horizon = (!segments.is_empty()).then_some(horizon);
        ArchivePrunePlan { segments, objects: Vec::new(), horizon }
    }

    /// Returns true for a leftover object, which no entry names or can come to name: one of a lease
    /// before the newest lease that was read. If entries are missing, the named objects are
    /// unknown.
    fn is_left(&self, key: &str) -> bool {
        let Some((_, newest)) = self.contents.newest_lease() else { return false };
        let named = stale_uploads::final_name(key).unwrap_or(key);
        let leases = self.keys.leases();
        let of = |directory: &str| keys::number_in(directory, named);
        let by_number = |number: Option<u64>, limit: u64| number.is_some_and(|number| number < limit);
        (self.contents.is_whole() && by_number(of(&self.keys.segments()), newest))
            || by_number(of(&self.keys.alive()).or_else(|| of(&leases.heartbeats())), newest)
            || by_number(of(&self.keys.horizons()), self.contents.horizon.number)
            || keys::log_number(&leases, named).is_some_and(|number| number + ENTRIES_KEPT <= newest)
    }

    /// Returns the indexes that name only removed segments. The newest stays: it lists the
    /// timelines.
    fn empty_indexes(&self, over: &dyn Fn(u64) -> bool) -> Vec<&ArchiveIndex> {
        let newest = self.contents.spans.iter().max().copied();
        let empty = self.contents.rolled.iter().filter(|index| {
            Some((index.first, index.last)) != newest
                && index.segments.iter().all(|segment| over(segment.number))
                && index.tails.iter().all(|number| !self.contents.entries.contains_key(number))
        });
        empty.map(|index| &**index).collect()
    }
}

/// Executes the plan.
pub(crate) async fn prune_archive(
    reader: &ArchiveReader,
    local_store: Option<&LocalStore>,
    plan: ArchivePrunePlan,
) -> Result<()> {
    let journal = &reader.journal;
    if let Some(horizon) = &plan.horizon {
        let key = journal.keys.horizon(horizon.number);
        if journal.store.create(ObjectKind::Horizon, &key, horizon).await? == Created::Exists {
            let message =
                format!("cannot prune the archive of shard {}: another prune is running", journal.shard);
            return Err(
                Error::new(ErrorKind::Held, message).hint("repeat the prune when the other one has finished")
            );
        }
    }
    let (staged, objects): (Vec<String>, Vec<String>) = plan
        .objects
        .into_iter()
        .map(|(key, _)| key)
        .partition(|key| stale_uploads::final_name(key).is_some());
    for key in staged {
        if let Some(local_store) = local_store {
            stale_uploads::remove_stale_upload(local_store, &key).await?;
        }
    }
    compaction::remove_objects(journal, objects.into_iter()).await
}
