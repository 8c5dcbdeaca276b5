//! Removing the pieces of an archive that nobody needs: planned first, then done, under the shard's claim and beside its archiver.
//!
//! First a horizon is created, which names them: from then on nobody finds them. When the grace is over their objects go, then the
//! indexes that name nothing else, which the next horizon tells.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_model::archive::{Archive, ArchivedSegment};
use backstop_model::error::{Error, ErrorKind, Result};
use chrono::{DateTime, Utc};

use super::compaction::{self, ArchiveIndex, Horizon};
use super::index::{self, ArchiveContents};
use super::reader::ArchiveReader;
use crate::encrypted_store::Created;
use crate::gc::is_grace_over;
use crate::keys::{self, ArchiveKeys};
use crate::local_store::LocalStore;
use crate::object::ObjectKind;
use crate::shard_log::ENTRIES_KEPT;
use crate::stale_uploads;

/// What pruning an archive would do. Made by [`ArchiveView::plan`], consumed by `Writer::prune_archive`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchivePrunePlan {
    /// Pieces that are dropped: no one finds them any more. Of a plan to take back: those that are found again.
    pub segments: BTreeSet<u64>,
    /// Objects that are removed: of pieces that were dropped before the grace, and what dead archivers left. Each with its size.
    pub objects: Vec<(String, u64)>,
    horizon: Option<Horizon>,
}

impl ArchivePrunePlan {
    /// Bytes it would free.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|(_, size)| size).sum()
    }
}

/// One look at an archive, from which everything is decided: what no one needs, and what was left behind. Deciding by two looks of
/// different age would take what was stored between them for what a dead archiver left.
pub struct ArchiveView {
    contents: ArchiveContents,
    /// What was stored before the books were read, with sizes.
    stored: Vec<(String, u64)>,
    keys: ArchiveKeys,
}

impl ArchiveView {
    /// Looks. `held` is where staged files are, if the store is a directory.
    pub(crate) async fn read(reader: &ArchiveReader, local_store: Option<&LocalStore>) -> Result<Self> {
        let journal = &reader.journal;
        // Before the books: what comes later is in neither, or in the books alone.
        let mut stored = journal.store.list(journal.keys.base()).await?;
        stored.extend(stale_uploads::list_stale_uploads(local_store, &journal.keys.leases()).await?);
        let contents = index::read_archive(journal, &reader.cache).await?;
        Ok(Self { contents, stored, keys: journal.keys.clone() })
    }

    /// What the archive holds.
    pub fn archive(&self) -> &Archive {
        &self.contents.archive
    }

    /// Plans. `drop` are the numbers of the pieces that no one needs. Objects go when they were dropped longer ago than `grace`, for a
    /// recovery that is reading them right now. The archiver continues meanwhile.
    pub fn plan(&self, drop: &BTreeSet<u64>, now: DateTime<Utc>, grace: Duration) -> ArchivePrunePlan {
        let mut horizon = self.contents.horizon.clone();
        // One that was dropped after `now`, by another clock, is young.
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
            // It was what said of these that they were replaced.
            gone.extend(index.replaced.iter().map(|number| (*number, *number)));
            objects.push((self.keys.index(index.first, index.last), 0));
        }
        let changed = !drop.is_empty() || !gone.is_empty();
        horizon.go(gone);
        horizon.number += 1;
        ArchivePrunePlan { segments: drop.clone(), objects, horizon: changed.then_some(horizon) }
    }

    /// Plans to take back what was dropped and whose grace is not over.
    pub fn undo_plan(&self, now: DateTime<Utc>, grace: Duration) -> ArchivePrunePlan {
        let mut horizon = self.contents.horizon.clone();
        let segments = horizon.take_back(&|at| !is_grace_over(at, now, grace));
        horizon.number += 1;
        let horizon = (!segments.is_empty()).then_some(horizon);
        ArchivePrunePlan { segments, objects: Vec::new(), horizon }
    }

    /// True for what no one names and no one can come to name: objects of a claim before the newest one that is in the books that were
    /// read. Books with a hole do not say what is named.
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

    /// Indexes that name only what is gone. The newest stays: it knows the lines.
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

/// Does what the plan says.
pub(crate) async fn prune_archive(
    reader: &ArchiveReader,
    local_store: Option<&LocalStore>,
    plan: ArchivePrunePlan,
) -> Result<()> {
    let journal = &reader.journal;
    if let Some(horizon) = &plan.horizon {
        let key = journal.keys.horizon(horizon.number);
        if journal.store.create(ObjectKind::Horizon, &key, horizon).await? == Created::Exists {
            let message = format!("prune the archive of shard {}: another prune is under way", journal.shard);
            return Err(Error::new(ErrorKind::Held, message).hint("repeat it when that one is done"));
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
