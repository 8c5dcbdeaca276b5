//! What `verify` says: what was looked at, and what was found. That a backup can be recovered, only a recovery of it shows.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::gtid::GtidSet;
use crate::ids::{BackupId, ShardName};

use super::BackupState;

/// `verify --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// True if nothing is damaged, and everything that was to be looked at could be.
    pub ok: bool,
    /// True if every stored byte was read: names and sizes alone say nothing of contents.
    pub contents_read: bool,
    /// The shards that were looked at.
    pub shards: Vec<ShardVerification>,
}

/// What verifying one shard found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardVerification {
    /// The shard.
    pub shard: ShardName,
    /// `objects` (everything is there and has the right size) or `content` (every byte was read).
    pub depth: &'static str,
    /// True if every byte of the shard's backups and archive was read. Of backups in EBS snapshots none is.
    pub contents_read: bool,
    /// Backups looked at, oldest first.
    pub backups: Vec<VerifiedBackup>,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// What is damaged.
    pub damaged: Vec<DamagedObject>,
    /// What could not be looked at.
    pub unchecked: Vec<UncheckedObject>,
    /// Objects that no backup needs; `prune` removes them.
    pub unreferenced: u64,
    /// Pieces of the archive that were looked at.
    pub segments: u64,
}

/// A backup that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedBackup {
    /// Which.
    pub backup_id: BackupId,
    /// What was found of it. `complete`: nothing that was looked at is damaged.
    pub state: BackupState,
}

/// A stored object that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// Its key.
    pub object: String,
    /// What is wrong with it.
    pub wrong: String,
    /// The backups that need it and can no longer be restored completely.
    pub backups: Vec<BackupId>,
    /// Of a piece of the archive: the transactions that are lost with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gtids: Option<GtidSet>,
    /// Of a piece of the archive: the moments that are affected, from its earliest commit to its latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moments: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Something that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UncheckedObject {
    /// What it is: the EBS snapshots of a backup.
    pub object: String,
    /// Why not.
    pub why: String,
    /// The backups that need it.
    pub backups: Vec<BackupId>,
}

/// What a verification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyVerdict {
    /// Nothing is stored: there was nothing to verify.
    Nothing,
    /// Nothing that was looked at is damaged.
    NothingFound,
    /// Something could not be looked at.
    NotAllChecked,
    /// Something is damaged.
    Damaged,
}

impl VerifyReport {
    /// The report of these shards.
    pub fn new(shards: Vec<ShardVerification>) -> Self {
        let well = |shard: &ShardVerification| shard.damaged.is_empty() && shard.unchecked.is_empty();
        Self {
            ok: shards.iter().all(well),
            contents_read: !shards.is_empty() && shards.iter().all(|shard| shard.contents_read),
            shards,
        }
    }

    /// What it came to.
    pub fn verdict(&self) -> VerifyVerdict {
        let any = |is: fn(&ShardVerification) -> bool| self.shards.iter().any(is);
        match () {
            () if any(|shard| !shard.damaged.is_empty()) => VerifyVerdict::Damaged,
            () if any(|shard| !shard.unchecked.is_empty()) => VerifyVerdict::NotAllChecked,
            () if any(|shard| !shard.backups.is_empty() || shard.segments > 0) => VerifyVerdict::NothingFound,
            () => VerifyVerdict::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shard(backups: u32, segments: u64) -> ShardVerification {
        let at = "2026-11-20T23:55:00Z".parse().unwrap();
        let backup = |n| VerifiedBackup { backup_id: BackupId::new(at, n), state: BackupState::Complete };
        ShardVerification {
            shard: "orders".parse().unwrap(),
            depth: "objects",
            contents_read: false,
            backups: (0..backups).map(backup).collect(),
            objects: 3,
            bytes_read: 0,
            damaged: Vec::new(),
            unchecked: Vec::new(),
            unreferenced: 0,
            segments,
        }
    }

    #[test]
    fn a_verdict_rests_on_what_was_looked_at() {
        let verdict = |shards| VerifyReport::new(shards).verdict();
        assert_eq!(verdict(vec![]), VerifyVerdict::Nothing);
        assert_eq!(verdict(vec![shard(0, 0)]), VerifyVerdict::Nothing);
        assert_eq!(verdict(vec![shard(0, 1)]), VerifyVerdict::NothingFound);
        assert_eq!(verdict(vec![shard(0, 0), shard(1, 0)]), VerifyVerdict::NothingFound);
        let why = || UncheckedObject { object: "snap-1".into(), why: "denied".into(), backups: vec![] };
        let unchecked = ShardVerification { unchecked: vec![why()], ..shard(1, 0) };
        let report = VerifyReport::new(vec![unchecked.clone()]);
        assert_eq!((report.ok, report.verdict()), (false, VerifyVerdict::NotAllChecked));
        let wrong = DamagedObject {
            object: "packs/1".into(),
            wrong: "it is missing".into(),
            backups: vec![],
            gtids: None,
            moments: None,
        };
        let damaged = ShardVerification { damaged: vec![wrong], ..unchecked };
        assert_eq!(verdict(vec![damaged, shard(1, 0)]), VerifyVerdict::Damaged);
    }

    #[test]
    fn contents_are_said_to_be_read_only_if_all_were() {
        let read = ShardVerification { contents_read: true, ..shard(1, 0) };
        assert!(VerifyReport::new(vec![read.clone()]).contents_read);
        assert!(!VerifyReport::new(vec![read, shard(1, 0)]).contents_read);
        assert!(!VerifyReport::new(vec![]).contents_read);
    }
}
