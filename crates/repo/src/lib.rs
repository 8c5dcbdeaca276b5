//! Stored format of backups and archives, on object_store.
//!
//! Open a [`Repository`] once. It returns a [`ShardReader`] of one shard, which cannot write, or a
//! [`ShardWriter`], which holds the shard's lease. `docs/format.md` describes every byte.

mod archive;
mod backend;
mod block_diff;
mod block_extents;
mod catalog;
mod completion;
mod conditional_put;
mod encrypted_store;
mod encryption;
mod encryption_key;
mod fingerprints;
#[cfg(test)]
#[path = "../../testkit/src/frozen.rs"]
mod fixtures;
#[cfg(test)]
mod frozen;
mod gc;
mod incremental_parent;
mod keys;
mod known_damage;
mod lease;
mod local_store;
mod location;
mod manifest;
mod object;
mod repair;
mod repo_header;
mod report;
mod repository;
mod required_versions;
mod restore;
mod restore_checkpoint;
mod run_history;
mod shard_log;
mod shard_reader;
mod shard_writer;
mod sparse;
mod stale_uploads;
mod store_clock;
mod store_error;
mod store_tree;
mod tree;
mod verify;
mod wrapped_keys;

pub use archive::{
    ArchivePrunePlan, ArchiveReader, ArchiveVerification, ArchiveView, ArchiveWriter, IndexRepair, LostEntry,
    LostSegment, SegmentBytes, TimelineSource,
};
pub use catalog::{CatalogEntry, Condemned, Holder};
pub use encryption_key::RepoKey;
pub use known_damage::{DamageRecord, DamagedObjectRecord};
pub use location::{Location, S3Access};
pub use manifest::{DirectoryEntry, FileEntry, Manifest, ObjectRef, Storage};
pub use repair::LogRepair;
pub use report::{GcPlan, GcResult, ObjectDamage, RestoreOptions, RestoreResult, VerifyDepth, VerifyResult};
pub use repository::{ExportedKey, Repository};
pub use shard_reader::ShardReader;
pub use shard_writer::{ShardWriter, StoredBackup};
pub use tree::{FileChanges, FileContent, Tree, TreeDirectory, TreeFile};
pub use wrapped_keys::KeyCopies;

/// Callback for the progress of an operation. Called often; must not block.
pub type OnProgress<'a> = &'a (dyn Fn(backstop_types::progress::Progress) + Send + Sync);
