//! Reports of `init`.

use std::path::PathBuf;

use backstop_types::ids::{Endpoint, ShardName};
use serde::Serialize;
use uuid::Uuid;

/// `init --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitReport {
    /// Id of the repository; `None` if its root object is lost.
    pub repository: Option<Uuid>,
    /// Its URL.
    pub url: String,
    /// True if this run created it.
    pub made: bool,
    /// True if everything stored is encrypted.
    pub encrypted: bool,
    /// True if the configuration accepts no other repository.
    pub pinned: bool,
}

/// `init --from --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DraftReport {
    /// The configuration file written.
    pub file: PathBuf,
    /// The shard.
    pub shard: ShardName,
    /// Its members: the primary first.
    pub members: Vec<Endpoint>,
    /// The member to back up; `None`: no replica is fit.
    pub candidate: Option<Endpoint>,
    /// Facts that could not be determined, in sentences.
    pub unknown: Vec<String>,
}
