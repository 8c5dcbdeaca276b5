//! Removing what nobody needs: planned first, then done, under the shard's claim.

use std::collections::HashSet;
use std::time::Duration;

use backstop_model::fault::{Fault, Result};
use backstop_model::ids::BackupId;
use chrono::{DateTime, Utc};

use crate::extents::Extents;
use crate::keys::{self, ShardKeys};
use crate::log::{Event, KEPT, Log, State};
use crate::object::Ends;
use crate::{CatalogEntry, Condemned, Reader, Storage, SweepPlan, Swept, Writer, staged};

/// What could be removed.
pub(crate) async fn plan(writer: &Writer, now: DateTime<Utc>, grace: Duration) -> Result<SweepPlan> {
    let log = &writer.reader.log;
    let newest = log.newest().await?.ok_or_else(|| Fault::failed("plan a sweep: the shard has no log"))?;
    let (over, kept): (Vec<&Condemned>, Vec<&Condemned>) =
        newest.state.condemned.iter().partition(|condemned| is_over(condemned.at, now, grace));
    let mut needed = HashSet::new();
    for entry in newest.state.backups.iter().chain(kept.iter().map(|condemned| &condemned.entry)) {
        needed.extend(needs(&writer.reader, entry).await?);
    }
    let mut stored = log.shelf.list(log.keys.base()).await?;
    stored.extend(staged::list(log.held.as_ref(), &log.keys).await?);
    let mut objects: Vec<(String, u64)> = stored
        .into_iter()
        .filter(|(key, _)| {
            !needed.contains(key) && is_dead(&log.keys, key, writer.claim.number, newest.number)
        })
        .collect();
    objects.sort_by_key(|(key, _)| (rank(&log.keys, key), key.clone()));
    Ok(SweepPlan {
        claim: writer.claim.number,
        objects,
        backups: over.iter().map(|c| id(&c.entry)).collect(),
    })
}

/// True if the grace of what was deleted `at` is over.
pub(crate) fn is_over(at: DateTime<Utc>, now: DateTime<Utc>, grace: Duration) -> bool {
    (now - at).to_std().is_ok_and(|age| age >= grace)
}

fn id(entry: &CatalogEntry) -> BackupId {
    entry.facts.backup_id.clone()
}

/// Every object that a backup cannot do without.
pub(crate) async fn needs(reader: &Reader, entry: &CatalogEntry) -> Result<Vec<String>> {
    let mut needed = vec![entry.manifest.key.clone()];
    let manifest = reader.manifest_of(entry).await?;
    if let Storage::Blocks { extents, fingerprints, .. } = &manifest.storage {
        let index = Extents::open(&reader.log.shelf, extents, Ends::Tail).await?;
        needed.extend(index.packs.iter().map(|pack| reader.log.keys.pack(pack.id)));
        needed.extend([extents.key.clone(), fingerprints.key.clone()]);
    }
    Ok(needed)
}

/// Only what a claim before this one wrote may go. A later claim cannot come to need it: it builds on backups
/// that were there when this was decided, or on its own.
fn is_dead(keys: &ShardKeys, key: &str, claim: u64, newest: u64) -> bool {
    let key = staged::destined(key).unwrap_or(key);
    match (keys::claim_of(keys, key), keys::log_number(keys, key)) {
        (Some(written), _) => written < claim,
        (None, Some(number)) => number + KEPT <= newest,
        (None, None) => false,
    }
}

/// Deletion is creation in reverse: manifests, then indexes, then packs; logs and heartbeats last.
fn rank(keys: &ShardKeys, key: &str) -> u8 {
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

/// Removes what the plan names.
pub(crate) async fn sweep(writer: &Writer, plan: SweepPlan) -> Result<Swept> {
    if plan.claim != writer.claim.number {
        return Err(Fault::refused("sweep: the plan was made under another claim").hint("make a new plan"));
    }
    forget(writer, &plan.backups).await?;
    let mut swept = Swept::default();
    for (key, size) in &plan.objects {
        remove(&writer.reader.log, key).await?;
        swept.objects += 1;
        swept.bytes += size;
    }
    Ok(swept)
}

async fn remove(log: &Log, key: &str) -> Result<()> {
    match &log.held {
        Some(held) if staged::destined(key).is_some() => staged::remove(held, key).await,
        _ => log.shelf.delete(key).await,
    }
}

/// The log forgets the backups first: what a crash leaves behind is then needed by nobody, and found again.
async fn forget(writer: &Writer, backups: &[BackupId]) -> Result<()> {
    let forget = |state: &mut State| {
        state.condemned.retain(|condemned| !backups.contains(&id(&condemned.entry)));
        Ok(())
    };
    writer.append(Event::Swept { backups: backups.to_vec() }, &forget).await
}
