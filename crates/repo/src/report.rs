//! Options and reports of the long operations.

use std::path::PathBuf;

use backstop_types::ids::BackupId;
use serde::{Deserialize, Serialize};

/// Options of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Number of threads that fetch, decode and write. At least 1.
    pub parallel: usize,
    /// Small file that lists the complete files, so that an interrupted restore resumes. It belongs
    /// to one backup and one directory; the caller removes it.
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

/// Result of a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RestoreResult {
    /// Number of files of the backup.
    pub files: u64,
    /// Number of files that an earlier, interrupted restore had completed.
    pub files_kept: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes fetched from the repository.
    pub bytes_fetched: u64,
}

/// Depth of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyDepth {
    /// Checks that every object that a backup needs exists and has the right size, and that its
    /// header and frame table are sound.
    Objects,
    /// Also checks every byte: reads, checks and decodes each frame, and compares each block with
    /// its fingerprint.
    Content,
}

/// Result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyResult {
    /// Backups checked, oldest first.
    pub backups: Vec<BackupId>,
    /// Number of objects checked.
    pub objects: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Damaged objects.
    pub damaged: Vec<ObjectDamage>,
    /// Number of objects that no backup needs. `prune` removes them after a grace period.
    pub unreferenced: u64,
}

impl VerifyResult {
    /// Returns the backups that can be restored completely.
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
    /// Description of the damage.
    pub wrong: String,
    /// Backups that need it and can no longer be restored completely.
    pub backups: Vec<BackupId>,
}

/// Plan of a garbage collection. Made by `ShardWriter::gc_plan`, consumed by `ShardWriter::sweep`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcPlan {
    /// Number of the lease under which the plan was made; it is valid for no other.
    #[serde(rename = "claim")]
    pub(crate) lease: u64,
    /// Objects with their sizes, in the order of their removal.
    pub objects: Vec<(String, u64)>,
    /// Deleted backups whose grace period is over.
    pub backups: Vec<BackupId>,
}

impl GcPlan {
    /// Returns the number of bytes that the plan would free.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|(_, size)| size).sum()
    }
}

/// Result of a garbage collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GcResult {
    /// Number of objects removed.
    pub objects: u64,
    /// Bytes freed.
    pub bytes: u64,
}
