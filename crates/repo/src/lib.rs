//! The stored format, on object_store: where backups are kept, and what their bytes mean.
//!
//! A [`Repository`] is opened once. From it comes a [`Reader`] of one shard, which cannot write, and a
//! [`Writer`], which holds the shard's claim. `docs/format.md` describes every byte.

mod catalog;
mod key;
mod location;
mod manifest;
mod reader;
mod report;
mod repository;
mod tree;
mod writer;

pub use catalog::{CatalogEntry, Condemned, Holder};
pub use key::RepoKey;
pub use location::{Location, S3Access};
pub use manifest::{DirectoryEntry, FileEntry, Manifest, ObjectRef, Storage};
pub use reader::Reader;
pub use report::{Damage, Depth, RestoreOptions, Restored, SweepPlan, Swept, VerifyReport};
pub use repository::Repository;
pub use tree::{Changes, Content, Tree, TreeDirectory, TreeFile};
pub use writer::{Stored, Writer};

/// Told how far an operation is. Called often; must not block.
pub type OnProgress<'a> = &'a (dyn Fn(backstop_model::progress::Progress) + Send + Sync);
