//! Removes unneeded objects: planned first, then executed, under the shard's lease.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_types::error::{Error, Result};
use backstop_types::ids::BackupId;
use chrono::{DateTime, Utc};

use crate::block_extents::Extents;
use crate::keys::{self, ShardKeys};
use crate::object::ReadHeader;
use crate::shard_log::{ENTRIES_KEPT, LogEvent, ShardLog, ShardState};
use crate::store_clock::is_grace_over;
use crate::{CatalogEntry, Condemned, GcPlan, GcResult, ShardReader, ShardWriter, Storage, stale_uploads};

impl ShardWriter {
    /// Returns the objects that could be removed: no backup needs them, nor one that was deleted
    /// less than `grace` ago.
    ///
    /// # Errors
    /// Returns [`Kind::Damaged`](backstop_types::error::ErrorKind::Damaged) if a manifest or its extents cannot be read: the needed
    /// objects are then unknown.
    pub async fn gc_plan(&self, now: DateTime<Utc>, grace: Duration) -> Result<GcPlan> {
        let log = &self.reader.log;
        let newest =
            log.newest().await?.ok_or_else(|| Error::failed("cannot plan a sweep: the shard has no log"))?;
        let (over, kept): (Vec<&Condemned>, Vec<&Condemned>) =
            newest.state.condemned.iter().partition(|condemned| is_grace_over(condemned.at, now, grace));
        let mut needed = BTreeSet::new();
        for entry in newest.state.backups.iter().chain(kept.iter().map(|condemned| &condemned.entry)) {
            needed.extend(needed_objects(&self.reader, entry).await?);
        }
        let mut stored = log.store.list(log.keys.base()).await?;
        stored.extend(stale_uploads::list_stale_uploads(log.local_store.as_ref(), &log.keys).await?);
        let kept_ids: Vec<_> = newest
            .state
            .backups
            .iter()
            .chain(kept.iter().map(|condemned| &condemned.entry))
            .map(id)
            .collect();
        needed.extend(kept_ids.iter().map(|id| log.keys.completion(id)));
        let mut objects: Vec<(String, u64)> = stored
            .into_iter()
            .filter(|(key, _)| {
                !needed.contains(key) && is_garbage(&log.keys, key, self.lease.number, newest.number)
            })
            .collect();
        objects.sort_by_key(|(key, _)| (delete_order(&log.keys, key), key.clone()));
        Ok(GcPlan { lease: self.lease.number, objects, backups: over.iter().map(|c| id(&c.entry)).collect() })
    }

    /// Removes the objects that the plan names.
    ///
    /// # Errors
    /// Returns [`Kind::Held`](backstop_types::error::ErrorKind::Held) if another run has acquired the shard's lease since;
    /// [`Kind::Refused`](backstop_types::error::ErrorKind::Refused) if the plan was made under another lease.
    pub async fn sweep(&mut self, plan: GcPlan) -> Result<GcResult> {
        if plan.lease != self.lease.number {
            return Err(
                Error::refused("cannot sweep: the plan was made under another lease").hint("make a new plan")
            );
        }
        forget_backups(self, &plan.backups).await?;
        let mut swept = GcResult::default();
        for (key, size) in &plan.objects {
            remove(&self.reader.log, key).await?;
            swept.objects += 1;
            swept.bytes += size;
        }
        Ok(swept)
    }
}

fn id(entry: &CatalogEntry) -> BackupId {
    entry.facts.backup_id.clone()
}

/// Returns every object that a backup needs.
pub(crate) async fn needed_objects(reader: &ShardReader, entry: &CatalogEntry) -> Result<Vec<String>> {
    let mut needed = vec![entry.manifest.key.clone()];
    let manifest = reader.manifest_of(entry).await?;
    if let Storage::Blocks { extents, fingerprints, .. } = &manifest.storage {
        let index = Extents::open(&reader.log.store, extents, ReadHeader::Tail).await?;
        needed.extend(index.packs.iter().map(|pack| reader.log.keys.pack(pack.id)));
        needed.extend([extents.key.clone(), fingerprints.key.clone()]);
    }
    Ok(needed)
}

/// Returns true for an object that may be removed: only a lease before this one may have written
/// it. A later lease cannot come to need it: it builds on backups that existed at the time of this
/// decision, or on its own.
fn is_garbage(keys: &ShardKeys, key: &str, lease: u64, newest: u64) -> bool {
    let key = stale_uploads::final_name(key).unwrap_or(key);
    match (keys::lease_of(keys, key), keys::log_number(keys, key)) {
        (Some(written), _) => written < lease,
        (None, Some(number)) => number + ENTRIES_KEPT <= newest,
        // The end of a backup that is not listed: under this lease none can be committed any more.
        (None, None) => key.starts_with(&format!("{}/", keys.completions())),
    }
}

/// Returns the rank of an object in the order of deletion, which reverses that of creation:
/// manifests, then indexes, then packs; logs and heartbeats last.
fn delete_order(keys: &ShardKeys, key: &str) -> u8 {
    if key.ends_with("/manifest") {
        0
    } else if key.starts_with(&format!("{}/", keys.backups())) {
        1
    } else if key.starts_with(&format!("{}/", keys.packs())) {
        2
    } else {
        3
    }
}

async fn remove(log: &ShardLog, key: &str) -> Result<()> {
    match &log.local_store {
        Some(local_store) if stale_uploads::final_name(key).is_some() => {
            stale_uploads::remove_stale_upload(local_store, key).await
        }
        _ => log.store.delete(key).await,
    }
}

/// Removes the backups from the log first: after a crash, no backup needs the remaining objects,
/// and the next run finds them again.
async fn forget_backups(writer: &ShardWriter, backups: &[BackupId]) -> Result<()> {
    let forget = |state: &mut ShardState| {
        state.condemned.retain(|condemned| !backups.contains(&id(&condemned.entry)));
        Ok(())
    };
    writer.append(LogEvent::Swept { backups: backups.to_vec() }, &forget).await
}
