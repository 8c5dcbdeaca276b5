//! What `init` reports.

use std::path::PathBuf;

use serde::Serialize;
use uuid::Uuid;

use crate::ids::{Endpoint, ShardName};

/// `init --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitReport {
    /// Tells the repository from any other; `None` if its root object is lost.
    pub repository: Option<Uuid>,
    /// Where it is.
    pub url: String,
    /// True if it was made now.
    pub made: bool,
    /// True if everything stored is encrypted.
    pub encrypted: bool,
    /// True if the configuration accepts no other.
    pub pinned: bool,
}

/// `init --from --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DraftReport {
    /// The configuration that was written.
    pub file: PathBuf,
    /// The shard.
    pub shard: ShardName,
    /// Its members: the primary first.
    pub members: Vec<Endpoint>,
    /// The one that is to be backed up; `None`: no replica is fit.
    pub candidate: Option<Endpoint>,
    /// Anything that could not be found out, in sentences.
    pub unknown: Vec<String>,
}
