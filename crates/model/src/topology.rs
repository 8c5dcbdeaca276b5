//! The members of a shard, and which of them to back up.

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

/// The part an instance plays in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes writes.
    Primary,
    /// The replica that is to become primary.
    Candidate,
    /// Any other replica.
    Replica,
}

/// A configured member and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it was asked.
    pub endpoint: Endpoint,
    /// True if the configuration (or orchestrator) names it the candidate primary.
    pub candidate: bool,
    /// What it said, or why it did not.
    pub state: Result<InstanceState, NoAnswer>,
    /// What orchestrator says of it; nothing for a listed member.
    pub verdict: ExternalVerdict,
}

/// What somebody else than the member itself says of it. It can only speak against a member, or tell between
/// those that are equally fit: the member's own state decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalVerdict {
    /// It is the primary although it replicates (of two that replicate from each other, the writable one).
    pub leads: bool,
    /// Why it must not be backed up.
    pub objection: Option<String>,
    /// Among the fit of one role the lowest is taken.
    pub preference: usize,
}

/// Why a member told nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing listens there, or no way leads there.
    Unreachable(String),
    /// Whatever is there did not refuse the connection, and told nothing: it may live.
    Silent(String),
    /// It refused the credentials, or they lack a grant.
    Denied(String),
    /// Another server answers there than the one that is meant.
    Mistaken(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "could not be reached: {why}"),
            Self::Silent(why) => write!(f, "told nothing, but may live: {why}"),
            Self::Denied(why) => write!(f, "denied access: {why}"),
            Self::Mistaken(why) => write!(f, "is not the server that is meant: {why}"),
        }
    }
}

/// What one instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    /// `@@server_uuid`.
    pub server_uuid: ServerUuid,
    /// `@@server_id`.
    pub server_id: u32,
    /// `@@version`.
    pub version: ServerVersion,
    /// `@@gtid_mode` is `ON`.
    pub gtid_mode_on: bool,
    /// `@@read_only` or `@@super_read_only`.
    pub read_only: bool,
    /// `@@GLOBAL.gtid_executed`.
    pub gtid_executed: GtidSet,
    /// `@@GLOBAL.gtid_purged`: what it can no longer send to a replica.
    pub gtid_purged: GtidSet,
    /// `@@rpl_semi_sync_replica_enabled` (false if the plugin is absent).
    pub semi_sync_replica: bool,
    /// Its plugin that waits for semi-synchronous replicas is loaded: as a primary it could be told to wait for the archiver.
    pub semi_sync_source_loaded: bool,
    /// What it replicates, if it does.
    pub replication: Option<Replication>,
    /// What its settings leave out of its data or its binlog.
    pub fidelity: ReplicationFidelity,
    /// Its state in a replication group (Group Replication), if it is a member of one: `ONLINE`, …
    pub group: Option<String>,
}

/// The state of an instance's (default) replication channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// Where it reads from.
    pub source: Endpoint,
    /// The source's UUID, if it has ever connected.
    pub source_uuid: Option<ServerUuid>,
    /// The receiver (IO) thread runs.
    pub io_running: bool,
    /// The applier (SQL) thread runs.
    pub sql_running: bool,
    /// `Seconds_Behind_Source`; `None` if the server says NULL.
    pub lag: Option<Duration>,
    /// Configured `SOURCE_DELAY`.
    pub delay: Duration,
    /// Follows by GTID auto-position.
    pub auto_position: bool,
    /// The last error of either thread, if any.
    pub last_error: Option<String>,
}

/// Which instances may be the source of a backup (`source` and `freeze.on_primary` in the configuration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRules {
    /// Use another replica if the candidate is not usable, before turning to the primary.
    pub any_replica: bool,
    /// A replica that lags more is not used.
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
    /// Where it is.
    pub endpoint: Endpoint,
    /// What it said of itself.
    pub state: InstanceState,
    /// Its part in the shard.
    pub role: Role,
    /// Why it was chosen.
    pub reason: String,
    /// Who was not, and why.
    pub rejected: Vec<RejectedMember>,
    /// Every member that told who it is.
    pub servers: Vec<ServerUuid>,
    /// Where the primary is, if one answered.
    pub primary: Option<Endpoint>,
}

/// A member that was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedMember {
    /// Which.
    pub endpoint: Endpoint,
    /// Why, in words.
    pub reason: String,
}

#[cfg(test)]
mod tests;
