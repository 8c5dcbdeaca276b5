//! The door to a repository.

use backstop_model::fault::{Fault, Result};
use backstop_model::ids::ShardName;

use crate::{Location, Reader, RepoKey, Writer};

/// An opened repository.
#[derive(Clone)]
pub struct Repository {}

impl Repository {
    /// Opens a repository. An empty or absent one is no error: the first claim makes it.
    ///
    /// # Errors
    /// `Usage` for a malformed location, a missing or a wrong key, or a key for a repository that is not
    /// encrypted; `Store` when the bucket is missing or cannot be reached; `Denied` when access is denied.
    pub async fn open(_location: &Location, _key: Option<&RepoKey>) -> Result<Self> {
        Err(Fault::failed("not written yet"))
    }

    /// A reader of one shard. It needs read access only.
    pub fn reader(&self, _shard: &ShardName) -> Reader {
        Reader {}
    }

    /// The shards that have something stored, sorted.
    ///
    /// # Errors
    /// As `open`.
    pub async fn shards(&self) -> Result<Vec<ShardName>> {
        Err(Fault::failed("not written yet"))
    }

    /// Claims a shard for writing. Waits up to 15 s to find out whether another holder is alive.
    /// `operation` is told to others who want the shard meanwhile: `backup`, `prune`, …
    ///
    /// # Errors
    /// `Held` when a living run holds the shard, naming it; `Refused` when the store ignores conditional puts.
    pub async fn claim(&self, _shard: &ShardName, _operation: &str) -> Result<Writer> {
        Err(Fault::failed("not written yet"))
    }

    /// Wraps the data key with another key instead of the one this repository was opened with.
    ///
    /// # Errors
    /// `Usage` when the repository is not encrypted.
    pub async fn rewrap(&self, _new: &RepoKey) -> Result<()> {
        Err(Fault::failed("not written yet"))
    }
}
