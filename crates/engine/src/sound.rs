//! The backups of a shard, and what is known to be wrong with them.

use std::collections::BTreeMap;

use backstop_model::fault::{Kind, Result};
use backstop_model::finding::Finding;
use backstop_model::ids::{BackupId, ShardName};
use backstop_repo::{ArchiveReader, CatalogEntry, Found, Reader};

/// The backups of a shard.
#[derive(Debug, Clone, Default)]
pub struct Backups {
    /// All that are listed, oldest first.
    pub catalog: Vec<CatalogEntry>,
    /// Those of them that cannot be restored completely, each with the reason.
    pub damaged: BTreeMap<BackupId, String>,
}

impl Backups {
    /// Asks the repository.
    ///
    /// # Errors
    /// As [`Reader::catalog`].
    pub async fn of(reader: &Reader) -> Result<Self> {
        let (catalog, found) = futures::try_join!(reader.catalog(), reader.found())?;
        let mut damaged = found.backups();
        damaged.retain(|id, _| catalog.iter().any(|entry| entry.facts.backup_id == *id));
        Ok(Self { catalog, damaged })
    }

    /// True if nothing is known to be wrong with it.
    pub fn is_sound(&self, entry: &CatalogEntry) -> bool {
        !self.damaged.contains_key(&entry.facts.backup_id)
    }

    /// Those that can be recovered from, oldest first.
    pub fn sound(&self) -> impl DoubleEndedIterator<Item = &CatalogEntry> {
        self.catalog.iter().filter(|entry| self.is_sound(entry))
    }
}

/// What verifications found, while it stands.
///
/// # Errors
/// The store's.
pub async fn standing(shard: &ShardName, reader: &Reader, archive: &ArchiveReader) -> Result<Vec<Finding>> {
    let (found, pieces) = futures::try_join!(reader.found(), archive.found())?;
    let mut findings = Vec::new();
    for (what, found) in [("backups", &found), ("archive", &pieces)] {
        findings.extend(damage(shard, what, found));
    }
    if let Err(fault) = reader.ends_well().await {
        if fault.kind != Kind::Damaged {
            return Err(fault);
        }
        findings.push(Finding::problem("log-lost-its-end", fault.message, fault.hint.unwrap_or_default()));
    }
    Ok(findings)
}

fn damage(shard: &ShardName, what: &str, found: &Found) -> Option<Finding> {
    let first = found.damaged.first()?;
    let count = found.damaged.len() as u64 + found.more;
    let more = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
    let text = format!(
        "`backstop verify` found stored data of the {what} of shard {shard} damaged: {}: {}{more}",
        first.object, first.wrong
    );
    let todo = format!("make a new backup; `backstop verify {shard}` says when nothing is damaged any more");
    Some(Finding::problem("damage-found", text, todo))
}
