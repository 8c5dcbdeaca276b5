//! Damaged backups: the backups of a shard with the damage that verifications found.

use std::collections::{BTreeMap, BTreeSet};

use backstop_repo::{ArchiveReader, CatalogEntry, DamageRecord, ShardReader};
use backstop_types::error::{ErrorKind, Result};
use backstop_types::finding::Finding;
use backstop_types::ids::{BackupId, ShardName};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::completion;

/// Number of records that are read concurrently.
const PARALLEL_READS: usize = 8;

/// Backups of a shard.
#[derive(Debug, Clone, Default)]
pub struct ShardBackups {
    /// All listed backups, oldest first.
    pub catalog: Vec<CatalogEntry>,
    /// The backups among them that cannot be restored completely, each with the reason.
    pub damaged: BTreeMap<BackupId, String>,
    /// Those of the damaged ones whose EBS snapshots failed, which nothing can mend.
    pub failed: BTreeSet<BackupId>,
}

impl ShardBackups {
    /// Reads them from the repository.
    ///
    /// # Errors
    /// As [`ShardReader::catalog`].
    pub async fn of(reader: &ShardReader) -> Result<Self> {
        let (catalog, found) = futures::try_join!(reader.catalog(), reader.found())?;
        let mut damaged = found.backups();
        damaged.retain(|id, _| catalog.iter().any(|entry| entry.facts.backup_id == *id));
        let failures = failures(reader, &catalog).await?;
        let failed = failures.iter().map(|(id, _)| id.clone()).collect();
        damaged.extend(failures);
        Ok(Self { catalog, damaged, failed })
    }

    /// True if no damage of the backup is known.
    pub fn is_sound(&self, entry: &CatalogEntry) -> bool {
        !self.damaged.contains_key(&entry.facts.backup_id)
    }

    /// Returns the backups that can be recovered from, oldest first.
    pub fn sound(&self) -> impl DoubleEndedIterator<Item = &CatalogEntry> {
        self.catalog.iter().filter(|entry| self.is_sound(entry))
    }
}

/// Returns the backups in EBS whose failure is recorded, each with the reason.
async fn failures(reader: &ShardReader, catalog: &[CatalogEntry]) -> Result<Vec<(BackupId, String)>> {
    let in_ebs = catalog.iter().filter(|entry| entry.facts.lineage.is_ebs());
    let reads: Vec<_> = in_ebs.map(|entry| failure_of(reader, &entry.facts.backup_id)).collect();
    let found: Vec<Option<_>> = stream::iter(reads).buffered(PARALLEL_READS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn failure_of(reader: &ShardReader, id: &BackupId) -> Result<Option<(BackupId, String)>> {
    let recorded = reader.completion(id).await?;
    Ok(recorded.as_ref().and_then(completion::failure).map(|why| (id.clone(), why)))
}

/// Returns the damage found by verifications, as far as it still applies.
///
/// # Errors
/// Returns the store's errors.
pub async fn damage_findings(
    shard: &ShardName,
    reader: &ShardReader,
    archive: &ArchiveReader,
) -> Result<Vec<Finding>> {
    let (found, pieces) = futures::try_join!(reader.found(), archive.found())?;
    let mut findings = Vec::new();
    for (what, found) in [("backups", &found), ("archive", &pieces)] {
        findings.extend(damage_finding(shard, what, found));
    }
    if let Err(error) = reader.ends_well().await {
        if error.kind != ErrorKind::Damaged {
            return Err(error);
        }
        findings.push(Finding::problem("log-lost-its-end", error.message, error.hint.unwrap_or_default()));
    }
    Ok(findings)
}

fn damage_finding(shard: &ShardName, what: &str, found: &DamageRecord) -> Option<Finding> {
    let first = found.damaged.first()?;
    let count = found.damaged.len() as u64 + found.more;
    let more = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
    let text = format!(
        "`backstop verify` found damaged data in the {what} of shard {shard}: {}: {}{more}",
        first.object, first.wrong
    );
    let todo = format!("make a new backup; run `backstop verify {shard}` to see whether damage remains");
    Some(Finding::problem("damage-found", text, todo))
}
