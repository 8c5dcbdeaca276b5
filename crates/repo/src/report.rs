//! What is asked of the long operations, and what they report.

use std::path::PathBuf;

use backstop_model::ids::BackupId;
use serde::{Deserialize, Serialize};

/// How to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Threads that fetch, decode and write. At least 1.
    pub parallel: usize,
    /// A small file that remembers which files are complete, so that a restore which was interrupted goes
    /// on. It belongs to one backup and one directory; the caller removes it.
    pub done_list: Option<PathBuf>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            parallel: std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16),
            done_list: None,
        }
    }
}

/// What a restore did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RestoreResult {
    /// Files of the backup.
    pub files: u64,
    /// Files that an earlier, interrupted restore had completed.
    pub files_kept: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes fetched from the repository.
    pub bytes_fetched: u64,
}

/// How thoroughly to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Every object that a backup needs is there, has the right size, and its header and frame table are sound.
    Objects,
    /// Also every byte: each frame is read, checked and decoded, each block compared with its fingerprint.
    Content,
}

/// What verifying found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyResult {
    /// Backups looked at, oldest first.
    pub backups: Vec<BackupId>,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// What is damaged.
    pub damaged: Vec<ObjectDamage>,
    /// Objects that no backup needs. `prune` removes them after a grace period.
    pub unreferenced: u64,
}

impl VerifyResult {
    /// The backups that can be restored completely.
    pub fn sound(&self) -> Vec<BackupId> {
        let broken = |id: &BackupId| self.damaged.iter().any(|damage| damage.backups.contains(id));
        self.backups.iter().filter(|id| !broken(id)).cloned().collect()
    }
}

/// One damaged object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectDamage {
    /// Its key.
    pub object: String,
    /// What is wrong with it.
    pub wrong: String,
    /// The backups that need it and can no longer be restored completely.
    pub backups: Vec<BackupId>,
}

/// What a sweep would remove. Made by `Writer::gc_plan`, consumed by `Writer::sweep`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcPlan {
    /// The claim it was made under; it is good for no other.
    #[serde(rename = "claim")]
    pub(crate) lease: u64,
    /// Objects, in the order of their removal, each with its size.
    pub objects: Vec<(String, u64)>,
    /// Condemned backups whose grace is over.
    pub backups: Vec<BackupId>,
}

impl GcPlan {
    /// Bytes it would free.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|(_, size)| size).sum()
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GcResult {
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}
