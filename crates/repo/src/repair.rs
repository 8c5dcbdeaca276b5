//! Rebuilds the log of a shard whose end was lost or damaged, from its newest readable entry and
//! from the manifests.
//!
//! The new entry follows every number that was ever given, as far as stored objects show: it
//! supersedes a run that held the shard before. The repair removes nothing. The deletions in the
//! lost entries are no longer known: a deleted backup whose objects all still exist is listed
//! again.

use std::collections::BTreeSet;

use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::BackupId;

use crate::object::{ExpectedObject, ObjectError, ObjectKind, ObjectResult, ReadHeader, digest_text};
use crate::shard_log::{LogEntry, LogEvent, ShardLog, ShardState};
use crate::verify::Verification;
use crate::{CatalogEntry, Manifest, ObjectRef, OnProgress, ShardReader, VerifyDepth, keys, lease};

/// Damage of a log, and the entry that would repair it.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRepair {
    /// Directory of the log's entries.
    pub log: String,
    /// Description of the damage.
    pub wrong: String,
    /// Backups that the newest readable entry lists, and that still exist.
    pub kept: Vec<BackupId>,
    /// Backups that it lists, and whose manifest is gone: a later prune removed them.
    pub gone: Vec<BackupId>,
    /// Backups that only their manifests name. Every object of theirs exists.
    pub found: Vec<BackupId>,
    /// Manifests without a complete backup, each with the reason.
    pub left: Vec<(String, String)>,
    state: ShardState,
    number: u64,
}

/// Part of a shard whose log is repaired.
pub(crate) enum LogOwner<'a> {
    /// Its backups.
    Backups(&'a ShardReader),
    /// Its archive, whose log holds only leases.
    Archive(&'a ShardLog),
}

impl LogOwner<'_> {
    fn log(&self) -> &ShardLog {
        match self {
            LogOwner::Backups(reader) => &reader.log,
            LogOwner::Archive(log) => log,
        }
    }
}

/// Plans the repair of a log. `None`: the log is whole.
///
/// # Errors
/// Returns the store's error.
pub(crate) async fn plan_repair(of: &LogOwner<'_>, progress: OnProgress<'_>) -> Result<Option<LogRepair>> {
    let log = of.log();
    let (base, wrong) = read_newest(of).await?;
    let Some(wrong) = wrong else { return Ok(None) };
    let mut repair = LogRepair {
        log: log.keys.logs(),
        wrong,
        kept: Vec::new(),
        gone: Vec::new(),
        found: Vec::new(),
        left: Vec::new(),
        state: base.as_ref().map_or_else(|| lease::empty_state(log), |entry| entry.state.clone()),
        number: last_number(log).await?,
    };
    repair.state.lease = None;
    if let LogOwner::Backups(reader) = of {
        backups(reader, base.as_ref(), &mut repair, progress).await?;
    }
    Ok(Some(repair))
}

/// Writes the entry that repairs a log.
///
/// # Errors
/// Returns [`ErrorKind::Held`] if a living run holds it, or if another run appended to it first;
/// the store's error.
pub(crate) async fn apply_repair(of: &LogOwner<'_>, repair: &LogRepair) -> Result<()> {
    let log = of.log();
    let (base, _) = read_newest(of).await?;
    lease::require_free(log, base.as_ref()).await?;
    let event = LogEvent::Repair { backups: repair.found.clone() };
    match log.append(repair.number, event, repair.state.clone()).await? {
        Some(_) => Ok(()),
        None => {
            let message = format!("cannot repair {}: another run has written to it", repair.log);
            Err(Error::new(ErrorKind::Held, message).hint("repeat the repair"))
        }
    }
}

/// Returns the newest readable entry, and the damage behind it.
async fn read_newest(of: &LogOwner<'_>) -> Result<(Option<LogEntry>, Option<String>)> {
    let log = of.log();
    let newest = match log.newest_readable().await {
        Ok(newest) => newest,
        Err(error) if error.kind == ErrorKind::Damaged => {
            return Ok((None, Some(format!("none of its entries can be read: {}", error.message))));
        }
        Err(error) => return Err(error),
    };
    if let Some(error) = newest.damaged.into_iter().next() {
        return Ok((newest.entry, Some(Error::from(error).message)));
    }
    let Some(entry) = newest.entry else {
        let directory = match of {
            LogOwner::Backups(reader) => reader.log.keys.backups(),
            LogOwner::Archive(log) => format!("{}/journal", log.keys.base()),
        };
        let lost = log.store.has_any(&directory).await?;
        return Ok((None, lost.then(|| format!("it is missing, but {directory} is not empty"))));
    };
    match lease::require_complete_log(log, entry.number).await {
        Err(error) if error.kind == ErrorKind::Damaged => Ok((Some(entry), Some(error.message))),
        Err(error) => Err(error),
        Ok(()) => Ok((Some(entry), None)),
    }
}

/// Returns the highest number that any entry of the log ever had, as far as stored objects show.
async fn last_number(log: &ShardLog) -> Result<u64> {
    let known = lease::known_log_length(log).await?.unwrap_or(0);
    let numbers = log.numbers().await?;
    let stored = log.store.list(log.keys.base()).await?;
    let leases = log.keys.lease_directories();
    let named = stored
        .iter()
        .filter_map(|(key, _)| leases.iter().find_map(|directory| keys::number_in(directory, key)));
    Ok(named.chain(numbers).max().unwrap_or(0).max(known))
}

/// Fills in the backups: those that the log still lists, and those that only have manifests.
async fn backups(
    reader: &ShardReader,
    base: Option<&LogEntry>,
    repair: &mut LogRepair,
    progress: OnProgress<'_>,
) -> Result<()> {
    let log = &reader.log;
    let stored = log.store.list(&log.keys.backups()).await?;
    let manifests: BTreeSet<&str> =
        stored.iter().map(|(key, _)| key.as_str()).filter(|key| key.ends_with("/manifest")).collect();
    let (there, gone) = std::mem::take(&mut repair.state.backups)
        .into_iter()
        .partition(|entry: &CatalogEntry| manifests.contains(entry.manifest.key.as_str()));
    repair.state.backups = there;
    let id = |entry: &CatalogEntry| entry.facts.backup_id.clone();
    repair.kept = repair.state.backups.iter().map(id).collect();
    repair.gone = gone.iter().map(id).collect();

    // An earlier lease cannot have committed a backup that this entry does not list.
    let first = base.map_or(0, |entry| entry.state.lease.as_ref().map_or(entry.number + 1, |c| c.number));
    let listed: BTreeSet<&str> = base.map_or_else(BTreeSet::new, |entry| {
        let condemned = entry.state.condemned.iter().map(|condemned| &condemned.entry);
        entry.state.backups.iter().chain(condemned).map(|entry| entry.manifest.key.as_str()).collect()
    });
    let mut candidates = Vec::new();
    for key in manifests {
        if keys::lease_of(&log.keys, key).is_none_or(|lease| lease < first) || listed.contains(key) {
            continue;
        }
        match entry_of(reader, key).await {
            Ok(entry) => candidates.push(entry),
            Err(ObjectError::Store(error)) => return Err(error),
            Err(error) => repair.left.push((key.to_owned(), Error::from(error).message)),
        }
    }
    let verified = Verification::new(reader, VerifyDepth::Objects, progress).these(&candidates, &[]).await?;
    let sound = verified.sound();
    for candidate in candidates {
        let id = candidate.facts.backup_id.clone();
        if sound.contains(&id) {
            repair.found.push(id);
            repair.state.backups.push(candidate);
            continue;
        }
        let damage = verified.damaged.iter().find(|damage| damage.backups.contains(&id));
        let why = damage.map_or_else(String::new, |damage| format!("{}: {}", damage.object, damage.wrong));
        repair.left.push((candidate.manifest.key, why));
    }
    repair.state.backups.sort_by_key(|entry| entry.facts.taken_at);
    Ok(())
}

/// Builds the catalog entry that a manifest describes.
async fn entry_of(reader: &ShardReader, key: &str) -> ObjectResult<CatalogEntry> {
    let store = &reader.log.store;
    let expected = ExpectedObject { kind: ObjectKind::Manifest, key, reference: None };
    let opened = store.open(expected, ReadHeader::Both).await?;
    let size = store.size(key).await.map_err(ObjectError::Store)?;
    let size = size.ok_or_else(|| ObjectError::Missing { key: key.to_owned() })?;
    let reference = ObjectRef { key: key.to_owned(), size, digest: digest_text(opened.table.digest()) };
    let manifest: Manifest = store.get(ExpectedObject::referenced(ObjectKind::Manifest, &reference)).await?;
    if manifest.facts.shard != reader.log.shard {
        return Err(ObjectError::damaged(key, "it is the manifest of another shard"));
    }
    Ok(CatalogEntry {
        facts: manifest.facts,
        parent: manifest.parent,
        sizes: manifest.sizes,
        manifest: reference,
    })
}
