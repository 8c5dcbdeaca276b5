//! The history that an operator assigned to a shard.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::gtid::GtidSet;
use crate::ids::ServerUuid;

/// A history that an operator assigned to a shard's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Time of the adoption.
    pub at: DateTime<Utc>,
    /// The servers that were its members.
    pub servers: BTreeSet<ServerUuid>,
    /// The GTIDs executed by its primary.
    pub gtid_executed: GtidSet,
}
