//! Report of `verify`: the checks and the damage found. Only a recovery proves that a backup can be
//! recovered.

use backstop_types::backup::BackupState;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// `verify --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// True if nothing is damaged, and every check could run.
    pub ok: bool,
    /// True if every stored byte was read: names and sizes alone prove nothing about contents.
    pub contents_read: bool,
    /// The verified shards.
    pub shards: Vec<ShardVerification>,
    /// Lost copies of wrapped keys; each has another copy, with which the repository was opened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost_key_copies: Vec<LostKeyCopy>,
}

/// A copy of a wrapped key that is missing or damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostKeyCopy {
    /// Id of the user's key.
    pub key_id: String,
    /// The object's key.
    pub object: String,
    /// Description of the damage.
    pub wrong: String,
}

/// Result of verifying one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardVerification {
    /// The shard.
    pub shard: ShardName,
    /// `objects` (everything exists with the right size) or `content` (every byte was read).
    pub depth: &'static str,
    /// True if every byte of the shard's backups and archive was read. Bytes in EBS snapshots never
    /// are.
    pub contents_read: bool,
    /// Verified backups, oldest first.
    pub backups: Vec<VerifiedBackup>,
    /// Number of checked objects.
    pub objects: u64,
    /// Number of bytes read.
    pub bytes_read: u64,
    /// The damaged objects.
    pub damaged: Vec<DamagedObject>,
    /// Objects that could not be checked.
    pub unchecked: Vec<UncheckedObject>,
    /// Objects that no backup needs; `prune` removes them.
    pub unreferenced: u64,
    /// Number of checked segments of the archive.
    pub segments: u64,
}

/// A verified backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedBackup {
    /// Its id.
    pub backup_id: BackupId,
    /// The result. `complete`: nothing that was checked is damaged.
    pub state: BackupState,
}

/// A stored object that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedObject {
    /// Its key.
    pub object: String,
    /// Description of the damage.
    pub wrong: String,
    /// The backups that need it and can no longer be restored completely.
    pub backups: Vec<BackupId>,
    /// For a segment of the archive: the transactions lost with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gtids: Option<GtidSet>,
    /// For a segment of the archive: the affected span, from its earliest commit to its latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moments: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// An object that could not be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UncheckedObject {
    /// Its name: the EBS snapshots of a backup.
    pub object: String,
    /// The reason.
    pub why: String,
    /// The backups that need it.
    pub backups: Vec<BackupId>,
}

/// Verdict of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyVerdict {
    /// The repository is empty: nothing was verified.
    Nothing,
    /// Nothing that was checked is damaged.
    NothingFound,
    /// A copy of a wrapped key is lost. The data can be read as long as the other is there.
    KeyCopyLost,
    /// An object could not be checked.
    NotAllChecked,
    /// An object is damaged.
    Damaged,
}

impl VerifyReport {
    /// Returns the report of these shards and keys.
    pub fn new(shards: Vec<ShardVerification>, lost_key_copies: Vec<LostKeyCopy>) -> Self {
        let well = |shard: &ShardVerification| shard.damaged.is_empty() && shard.unchecked.is_empty();
        Self {
            ok: shards.iter().all(well) && lost_key_copies.is_empty(),
            contents_read: !shards.is_empty() && shards.iter().all(|shard| shard.contents_read),
            shards,
            lost_key_copies,
        }
    }

    /// Returns the verdict.
    pub fn verdict(&self) -> VerifyVerdict {
        let any = |is: fn(&ShardVerification) -> bool| self.shards.iter().any(is);
        match () {
            () if any(|shard| !shard.damaged.is_empty()) => VerifyVerdict::Damaged,
            () if any(|shard| !shard.unchecked.is_empty()) => VerifyVerdict::NotAllChecked,
            () if !self.lost_key_copies.is_empty() => VerifyVerdict::KeyCopyLost,
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
    fn verdict_rests_on_examined_objects_only() {
        let verdict = |shards| VerifyReport::new(shards, vec![]).verdict();
        assert_eq!(verdict(vec![]), VerifyVerdict::Nothing);
        assert_eq!(verdict(vec![shard(0, 0)]), VerifyVerdict::Nothing);
        assert_eq!(verdict(vec![shard(0, 1)]), VerifyVerdict::NothingFound);
        assert_eq!(verdict(vec![shard(0, 0), shard(1, 0)]), VerifyVerdict::NothingFound);
        let why = || UncheckedObject { object: "snap-1".into(), why: "denied".into(), backups: vec![] };
        let unchecked = ShardVerification { unchecked: vec![why()], ..shard(1, 0) };
        let report = VerifyReport::new(vec![unchecked.clone()], vec![]);
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
    fn lost_copy_of_a_key_needs_attention() {
        let lost =
            LostKeyCopy { key_id: "00ff".into(), object: "keys/00ff".into(), wrong: "it is missing".into() };
        let report = VerifyReport::new(vec![shard(1, 0)], vec![lost]);
        assert_eq!((report.ok, report.verdict()), (false, VerifyVerdict::KeyCopyLost));
    }

    #[test]
    fn contents_count_as_read_only_if_all_were_read() {
        let read = ShardVerification { contents_read: true, ..shard(1, 0) };
        assert!(VerifyReport::new(vec![read.clone()], vec![]).contents_read);
        assert!(!VerifyReport::new(vec![read, shard(1, 0)], vec![]).contents_read);
        assert!(!VerifyReport::new(vec![], vec![]).contents_read);
    }
}
