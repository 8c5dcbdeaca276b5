//! The stored format, on object_store: where backups are kept, and what their bytes mean.
//!
//! A [`Repository`] is opened once. From it comes a [`Reader`] of one shard, which cannot write, and a
//! [`Writer`], which holds the shard's claim. `docs/format.md` describes every byte.

mod archive;
mod catalog;
mod claim;
mod clock;
mod done_list;
mod extents;
mod fingerprints;
#[cfg(test)]
#[path = "../../testkit/src/frozen.rs"]
mod fixtures;
mod found;
#[cfg(test)]
mod frozen;
mod held;
mod keys;
mod location;
mod log;
mod manifest;
mod needs;
mod object;
mod parent;
mod probe;
mod reader;
mod repair;
mod repo_key;
mod report;
mod repository;
mod restore;
mod root;
mod runs;
mod save;
mod scan;
mod seal;
mod segments;
mod shelf;
mod staged;
mod store;
mod sweep;
mod tree;
mod verify;
mod writer;

pub use archive::{
    ArchivePrunePlan, ArchiveReader, ArchiveVerified, ArchiveView, ArchiveWriter, IndexRepair, LineSource,
    LostEntry, LostPiece,
};
pub use catalog::{CatalogEntry, Condemned, Holder};
pub use found::{Found, KnownDamage};
pub use location::{Location, S3Access};
pub use manifest::{DirectoryEntry, FileEntry, Manifest, ObjectRef, Storage};
pub use reader::Reader;
pub use repair::LogRepair;
pub use repo_key::RepoKey;
pub use report::{Damage, Depth, RestoreOptions, Restored, SweepPlan, Swept, VerifyReport};
pub use repository::Repository;
pub use tree::{Changes, Content, Tree, TreeDirectory, TreeFile};
pub use writer::{Stored, Writer};

/// Told how far an operation is. Called often; must not block.
pub type OnProgress<'a> = &'a (dyn Fn(backstop_model::progress::Progress) + Send + Sync);
