//! Members of a shard, their states, and the choice among them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gtid::GtidSet;
use crate::ids::{Endpoint, ServerUuid};
use crate::server::ServerVersion;

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
    /// The address of every member.
    pub members: Vec<Endpoint>,
}

/// A member that was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedMember {
    /// Its address.
    pub endpoint: Endpoint,
    /// The reason, in words.
    pub reason: String,
}

/// Need of a backup to lock its source against writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// The snapshot provider never locks (`clone`).
    Never,
    /// The snapshot may be taken under a lock.
    Possible,
}

/// Omissions by an instance's settings from its data or its binlog, although its `gtid_executed`
/// names the transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationFidelity {
    /// True if it writes a binlog.
    pub log_bin: bool,
    /// True if its binlog contains replicated transactions.
    pub log_replica_updates: bool,
    /// Replication filters of every form and channel: `REPLICATE_IGNORE_DB billing`.
    pub filters: Vec<String>,
    /// `binlog_do_db orders`, `binlog_ignore_db billing`.
    pub binlog_filters: Vec<String>,
    /// `replica_skip_errors`; `None`: it skips no error.
    pub skipped_errors: Option<String>,
    /// True if `replica_exec_mode` is `IDEMPOTENT`: missing or duplicate rows are no error.
    pub idempotent: bool,
}

impl Default for ReplicationFidelity {
    /// Returns settings that omit nothing.
    fn default() -> Self {
        Self {
            log_bin: true,
            log_replica_updates: true,
            filters: Vec::new(),
            binlog_filters: Vec::new(),
            skipped_errors: None,
            idempotent: false,
        }
    }
}

impl ReplicationFidelity {
    /// Describes its filters. Without replication, filters have no effect: call this only for an
    /// instance that replicates.
    pub fn filtered(&self) -> Option<String> {
        (!self.filters.is_empty()).then(|| {
            let filters = self.filters.join(", ");
            format!("it has replication filters ({filters}): its GTID set has changes that its data lacks")
        })
    }

    /// Describes the omissions from its binlog.
    pub fn binlog_filtered(&self) -> Option<String> {
        (!self.binlog_filters.is_empty()).then(|| {
            let filters = self.binlog_filters.join(", ");
            format!("its binlog omits databases ({filters}): its GTID set has changes that its binlog lacks")
        })
    }

    /// Explains why its binlog cannot be archived if it is streamed in this role.
    pub fn unfit_to_archive(&self, role: Role) -> Option<String> {
        if !self.log_bin {
            return Some("it has no binlog".to_owned());
        }
        let follows = role != Role::Primary;
        if follows && !self.log_replica_updates {
            return Some(
                "its log_replica_updates is OFF: replicated transactions are not in its binlog".to_owned(),
            );
        }
        self.binlog_filtered().or_else(|| if follows { self.filtered() } else { None })
    }

    /// Explains why its data may differ from its source's without an error, if it replicates.
    pub fn doubtful(&self) -> Option<String> {
        let skipped = self.skipped_errors.as_ref().map(|errors| format!("skips errors ({errors})"));
        let idempotent = self.idempotent.then(|| "replicates in IDEMPOTENT mode".to_owned());
        let ways: Vec<String> = skipped.into_iter().chain(idempotent).collect();
        (!ways.is_empty())
            .then(|| format!("it {}: its data may differ from its source's", ways.join(" and ")))
    }
}
