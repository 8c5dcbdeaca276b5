//! Members of a shard, and the choice of the one to back up.

mod choose_source;
mod primary;
mod replication_filters;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gtid::GtidSet;
use crate::ids::{Endpoint, ServerUuid};
use crate::server::ServerVersion;

pub use choose_source::{Locking, NoSource, choose_source, second_choices};
pub use primary::{current_primary, errant};
pub use replication_filters::{ReplicationFidelity, doubt, fidelity_findings};

/// Role of an instance in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Accepts writes.
    Primary,
    /// The replica to promote.
    Candidate,
    /// Any other replica.
    Replica,
}

/// A configured member and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The address at which it was queried.
    pub endpoint: Endpoint,
    /// True if the configuration (or orchestrator) names it the candidate primary.
    pub candidate: bool,
    /// Its answer, or the reason for its silence.
    pub state: Result<InstanceState, NoAnswer>,
    /// Orchestrator's verdict on it; empty for a listed member.
    pub verdict: ExternalVerdict,
}

/// Verdict on a member by another service. It can only speak against a member, or decide between
/// equally fit ones: the member's own state takes precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalVerdict {
    /// True if it is the primary although it replicates (of two that replicate from each other, the
    /// writable one).
    pub leads: bool,
    /// Reason why it must not be backed up.
    pub objection: Option<String>,
    /// Rank among the fit members of one role: the lowest is chosen.
    pub preference: usize,
}

/// Reason for a member's silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing listens at the address, or no route leads to it.
    Unreachable(String),
    /// The address did not refuse the connection, and did not answer: the server may be alive.
    Silent(String),
    /// It refused the credentials, or they lack a grant.
    Denied(String),
    /// Another server than the expected one answers there.
    Mistaken(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "could not be reached: {why}"),
            Self::Silent(why) => write!(f, "did not report its state, but may be alive: {why}"),
            Self::Denied(why) => write!(f, "denied access: {why}"),
            Self::Mistaken(why) => write!(f, "is not the expected server: {why}"),
        }
    }
}

/// State reported by one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    /// `@@server_uuid`.
    pub server_uuid: ServerUuid,
    /// `@@server_id`.
    pub server_id: u32,
    /// `@@version`.
    pub version: ServerVersion,
    /// True if `@@gtid_mode` is `ON`.
    pub gtid_mode_on: bool,
    /// True if `@@read_only` or `@@super_read_only` is on.
    pub read_only: bool,
    /// `@@GLOBAL.gtid_executed`.
    pub gtid_executed: GtidSet,
    /// `@@GLOBAL.gtid_purged`: transactions it can no longer send to a replica.
    pub gtid_purged: GtidSet,
    /// `@@rpl_semi_sync_replica_enabled` (false if the plugin is absent).
    pub semi_sync_replica: bool,
    /// True if its source plugin for semi-synchronous replication is loaded: as a primary it could
    /// be configured to wait for the archiver.
    pub semi_sync_source_loaded: bool,
    /// Its replication channel, if it replicates.
    pub replication: Option<Replication>,
    /// Omissions from its data or its binlog by its settings.
    pub fidelity: ReplicationFidelity,
    /// Its state in a replication group (Group Replication), if it is a member of one: `ONLINE`, …
    pub group: Option<String>,
}

/// The state of an instance's (default) replication channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// The source's address.
    pub source: Endpoint,
    /// The source's UUID, if it has ever connected.
    pub source_uuid: Option<ServerUuid>,
    /// True if the receiver (IO) thread runs.
    pub io_running: bool,
    /// True if the applier (SQL) thread runs.
    pub sql_running: bool,
    /// `Seconds_Behind_Source`; `None` if the server says NULL.
    pub lag: Option<Duration>,
    /// Configured `SOURCE_DELAY`.
    pub delay: Duration,
    /// True if it uses GTID auto-position.
    pub auto_position: bool,
    /// The last error of either thread, if any.
    pub last_error: Option<String>,
}

/// Rules for the source of a backup (`source` and `freeze.on_primary` in the configuration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRules {
    /// Allows another replica, before the primary, if the candidate is not usable.
    pub any_replica: bool,
    /// Longest accepted lag of a replica.
    pub max_lag: Duration,
}

impl Default for SourceRules {
    fn default() -> Self {
        Self { any_replica: true, max_lag: Duration::from_secs(60) }
    }
}

/// The chosen source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceChoice {
    /// Its address.
    pub endpoint: Endpoint,
    /// The state it reported.
    pub state: InstanceState,
    /// Its role in the shard.
    pub role: Role,
    /// Reason for choosing it.
    pub reason: String,
    /// The other members, with the reasons for their rejection.
    pub rejected: Vec<RejectedMember>,
    /// The UUID of every member that answered.
    pub servers: Vec<ServerUuid>,
    /// The primary's address, if a primary answered.
    pub primary: Option<Endpoint>,
}

/// A member that was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedMember {
    /// Its address.
    pub endpoint: Endpoint,
    /// The reason, in words.
    pub reason: String,
}

#[cfg(test)]
mod tests;
