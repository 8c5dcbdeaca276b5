//! Manifest of one backup.

use backstop_types::backup::{BackupFacts, Sizes};
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::ids::BackupId;
use serde::{Deserialize, Serialize};

/// Complete description of one backup: everything that a restore needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Facts of the backup.
    pub facts: BackupFacts,
    /// Parent backup of an increment. For information only: a restore never needs it.
    pub parent: Option<BackupId>,
    /// Sizes of its data and of its stored objects.
    pub sizes: Sizes,
    /// Storage of its data.
    pub storage: Storage,
}

/// Storage of a backup's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// In this repository.
    Blocks {
        /// Every file, sorted by path.
        files: Vec<FileEntry>,
        /// Every directory below the root, sorted, including empty ones.
        directories: Vec<DirectoryEntry>,
        /// Location of each block of each file.
        extents: ObjectRef,
        /// Fingerprint of each block of each file.
        fingerprints: ObjectRef,
    },
    /// In snapshots of block volumes.
    Ebs {
        /// Ids of the snapshots.
        snapshot_ids: Vec<String>,
        /// Their region.
        region: String,
        /// The volumes as they were, one for each snapshot. Empty in older backups.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        volumes: Vec<EbsVolume>,
    },
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative path, parts separated by `/`.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Inode number in the snapshot, if the file came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

/// One directory of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Relative path, parts separated by `/`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
}

/// Reference to a stored object, which detects a missing, stale or exchanged one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3-128 of its frame table, in hex.
    pub digest: String,
}
