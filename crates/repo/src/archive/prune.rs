//! Removing the pieces of an archive that nobody needs: planned first, then done, under the shard's claim and beside its archiver.
//!
//! First a horizon is created, which names them: from then on nobody finds them. When the grace is over their objects go, then the
//! indexes that name nothing else, which the next horizon tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstop_model::fault::{Fault, Kind, Result};
use chrono::{DateTime, Utc};

use super::contents::{self, Contents};
use super::entry::What;
use super::reader::ArchiveReader;
use super::roll::{self, Horizon};
use crate::keys;
use crate::log::{KEPT, Log};
use crate::object::ObjectKind;
use crate::shelf::Created;
use crate::staged;

/// What pruning an archive would do. Made by `Writer::archive_prune_plan`, consumed by `Writer::prune_archive`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchivePrunePlan {
    /// Pieces that are dropped: nobody finds them any more.
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

/// Plans. `drop` are the numbers of the pieces that nobody needs.
pub(crate) async fn plan(
    reader: &ArchiveReader,
    claims: &Log,
    drop: &BTreeSet<u64>,
    now: DateTime<Utc>,
    grace: Duration,
) -> Result<ArchivePrunePlan> {
    let contents = contents::read(&reader.journal, &reader.memory).await?;
    let indexes = reader.memory.indexes();
    let mut horizon = contents.horizon.clone();
    horizon.recent.retain(|dropped| (now - dropped.at).to_std().is_ok_and(|age| age < grace));
    horizon.drop(drop, now);
    let over = |number: u64| horizon.is_dropped(number) && !horizon.is_recent(number);
    let mut objects = Vec::new();
    let mut referenced: BTreeSet<String> = BTreeSet::new();
    let sealed =
        indexes.values().flat_map(|index| index.segments.iter().map(|s| (s.number, s.object.clone())));
    let fresh = contents.entries.values().filter_map(|stored| match &stored.entry.what {
        What::Sealed { object, replaces, .. } => {
            Some((replaces.first().copied().unwrap_or(stored.entry.number), object.key.clone()))
        }
        _ => None,
    });
    let mut dropped: BTreeSet<String> = BTreeSet::new();
    for (number, object) in sealed.chain(fresh) {
        if over(number) {
            dropped.insert(object)
        } else {
            referenced.insert(object)
        };
    }
    let journal = &reader.journal;
    let newest = claims.newest().await?.map_or(0, |entry| {
        // Of a claim that was given back everything is older.
        entry.state.claim.map_or(entry.number, |claim| claim.number)
    });
    let own = [journal.keys.segments(), journal.keys.alive(), journal.keys.claims().heartbeats()];
    let mut stored = journal.shelf.list(journal.keys.base()).await?;
    stored.extend(staged::list(claims.held.as_ref(), &journal.keys.claims()).await?);
    for (key, size) in stored {
        let named = staged::destined(&key).unwrap_or(&key);
        let claim = own.iter().find_map(|directory| keys::number_in(directory, named));
        let left = claim.is_some_and(|claim| claim < newest) && !referenced.contains(&key);
        let old = keys::number_in(&journal.keys.horizons(), &key)
            .is_some_and(|n| n < contents.horizon.number)
            || keys::log_number(&claims.keys, &key).is_some_and(|number| number + KEPT <= newest);
        if left || old || dropped.contains(&key) {
            objects.push((key, size));
        }
    }
    for (first, last) in empty_indexes(&contents, &indexes, &over) {
        horizon.gone.push((first, last));
        objects.push((journal.keys.index(first, last), 0));
    }
    horizon.number += 1;
    let changed = !drop.is_empty() || horizon.gone != contents.horizon.gone;
    Ok(ArchivePrunePlan { segments: drop.clone(), objects, horizon: changed.then_some(horizon) })
}

/// Indexes that name only what is gone. The newest stays: it knows the lines.
fn empty_indexes(
    contents: &Contents,
    indexes: &BTreeMap<(u64, u64), std::sync::Arc<super::roll::Index>>,
    over: &dyn Fn(u64) -> bool,
) -> Vec<(u64, u64)> {
    let newest = contents.spans.iter().max().copied();
    let empty = indexes.iter().filter(|(span, index)| {
        Some(**span) != newest && index.segments.iter().all(|segment| over(segment.number)) && {
            index.tails.iter().all(|number| !contents.entries.contains_key(number))
        }
    });
    empty.map(|(span, _)| *span).collect()
}

/// Does what the plan says.
pub(crate) async fn prune(reader: &ArchiveReader, plan: ArchivePrunePlan) -> Result<()> {
    let journal = &reader.journal;
    if let Some(horizon) = &plan.horizon {
        let key = journal.keys.horizon(horizon.number);
        if journal.shelf.create(ObjectKind::Horizon, &key, horizon).await? == Created::Exists {
            let message = format!("prune the archive of shard {}: another prune is under way", journal.shard);
            return Err(Fault::new(Kind::Held, message).hint("repeat it when that one is done"));
        }
    }
    let objects: Vec<String> = plan.objects.into_iter().map(|(key, _)| key).collect();
    roll::remove(journal, objects.into_iter()).await
}
