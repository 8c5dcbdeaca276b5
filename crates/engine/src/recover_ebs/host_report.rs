//! Result of the recovery on the instance, from what `backstop recover --json` printed there.

use backstop_types::error::{Result, ResultExt};
use serde::{Deserialize, Serialize};

use super::GtidSet;

/// The parts of the report that are passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostReport {
    /// GTID set of the server at the hand-over.
    pub(super) gtid_executed: GtidSet,
    /// Number of transactions applied from the archive.
    pub(super) transactions_replayed: u64,
    /// True if it replicates from the shard's primary.
    pub(super) joined: bool,
    /// Next steps for the operator, on the instance.
    #[serde(default)]
    pub(super) next: Vec<String>,
}

impl HostReport {
    /// Returns the result for a server that replicates, which held these transactions.
    pub(super) fn joined(gtid_executed: GtidSet) -> Self {
        Self { gtid_executed, transactions_replayed: 0, joined: true, next: Vec::new() }
    }

    /// Parses the report.
    ///
    /// # Errors
    /// Fails if it is not a report of a recovery.
    pub(super) fn parse(said: &str) -> Result<Self> {
        serde_json::from_str(said).failed("cannot read the report of the recovery on the instance")
    }
}
