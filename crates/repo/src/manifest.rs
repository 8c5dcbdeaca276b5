//! What one backup is made of.

use backstop_model::backup::{BackupFacts, Sizes};
use backstop_model::ids::BackupId;
use serde::{Deserialize, Serialize};

/// One backup, completely: everything that restoring it needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What is known of it.
    pub facts: BackupFacts,
    /// The backup it was an increment of. Only told: restoring never needs it.
    pub parent: Option<BackupId>,
    /// How much data it is and cost.
    pub sizes: Sizes,
    /// Where its data is.
    pub storage: Storage,
}

/// Where the data of a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// In this repository.
    Blocks {
        /// Every file, sorted by path.
        files: Vec<FileEntry>,
        /// Every directory below the root, sorted, empty ones too.
        directories: Vec<DirectoryEntry>,
        /// Where each block of each file is.
        extents: ObjectRef,
        /// A fingerprint of each block of each file.
        fingerprints: ObjectRef,
    },
    /// In snapshots of block volumes.
    Ebs {
        /// The snapshots.
        snapshot_ids: Vec<String>,
        /// Their region.
        region: String,
    },
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative, parts separated by `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Its inode number in the snapshot, if it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

/// One directory of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Relative, parts separated by `/`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
}

/// A stored object, so that a missing, stale or exchanged one is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3-128 of its frame table, in hex.
    pub digest: String,
}
