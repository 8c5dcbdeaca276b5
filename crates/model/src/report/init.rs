//! What `init` reports.

use serde::Serialize;
use uuid::Uuid;

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
