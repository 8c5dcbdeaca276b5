//! Replication filters and other settings by which an instance's data or binlog lacks transactions,
//! and their consequences. Equal GTID sets mean equal data only if no setting omits anything.

use crate::finding::Finding;
use crate::ids::{Endpoint, ShardName};

use super::primary::{current_primary, states};
use super::{InstanceState, Member, Role};

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

/// Explains why an instance that replicates lacks transactions that its GTIDs name: its own
/// filters, or those of an instance between it and the primary.
pub(super) fn lacks_by_filters(members: &[Member], state: &InstanceState) -> Option<String> {
    let filtered =
        |one: &InstanceState| if replicates(members, one) { one.fidelity.filtered() } else { None };
    if let Some(why) = filtered(state) {
        return Some(why);
    }
    if replicates(members, state) && state.fidelity.binlog_filtered().is_some() {
        return state.fidelity.binlog_filtered();
    }
    let mut seen = state;
    for _ in members {
        let (endpoint, source) = source_of(members, seen)?;
        if let Some(why) = filtered(source).or_else(|| source.fidelity.binlog_filtered()) {
            return Some(format!("it replicates from {endpoint}, of which: {why}"));
        }
        seen = source;
    }
    None
}

/// Returns the consequences of the members' settings for the shard, for `check` and `status`.
/// `archived`: the shard has an archive.
pub fn fidelity_findings(shard: &ShardName, members: &[Member], archived: bool) -> Vec<Finding> {
    let primary = current_primary(members).ok();
    let mut findings = Vec::new();
    if let Some((endpoint, state)) = primary {
        findings.extend(primary_finding(endpoint, state, members, archived));
    }
    for (endpoint, state) in states(members).filter(|(_, state)| replicates(members, state)) {
        if let Some(why) = state.fidelity.filtered() {
            let what = format!("{endpoint} does not have all of the shard's data: {why}");
            let todo = format!(
                "remove the filters and rebuild it (`backstop recover {shard} --to latest --join`): if it is promoted, the shard loses this data"
            );
            findings.push(Finding::warning("member-filtered", what, todo));
        }
        findings.extend(doubt(shard, endpoint, state));
    }
    findings
}

/// Returns a finding on a replicating instance that is backed up in spite of its settings.
pub fn doubt(shard: &ShardName, endpoint: &Endpoint, state: &InstanceState) -> Option<Finding> {
    let why = state.fidelity.doubtful()?;
    Some(Finding::warning(
        "member-doubtful",
        format!("{endpoint}: {why}"),
        format!(
            "set replica_skip_errors = OFF and replica_exec_mode = STRICT, and rebuild it if it ever skipped an error (`backstop recover {shard} --to latest --join`)"
        ),
    ))
}

fn primary_finding(
    endpoint: &Endpoint,
    state: &InstanceState,
    members: &[Member],
    archived: bool,
) -> Option<Finding> {
    let feeds = states(members).any(|(_, other)| replicates(members, other));
    let why = state.fidelity.binlog_filtered().filter(|_| archived || feeds)?;
    let lack = match (archived, feeds) {
        (true, true) => "the archive and the replicas lack these changes",
        (true, false) => "the archive lacks these changes",
        _ => "the replicas lack these changes",
    };
    Some(Finding::problem(
        "primary-binlog-filtered",
        format!("the primary {endpoint}: {why}; {lack}, and no recovery restores them"),
        "remove binlog_do_db and binlog_ignore_db from its option file and restart it, then rebuild the replicas from a new backup of it",
    ))
}

/// True if an instance replicates. A primary with a stopped channel from its time as a replica does
/// not.
fn replicates(members: &[Member], state: &InstanceState) -> bool {
    let Some(channel) = &state.replication else { return false };
    let leads =
        || current_primary(members).is_ok_and(|(_, primary)| primary.server_uuid == state.server_uuid);
    channel.io_running || channel.sql_running || !leads()
}

fn source_of<'a>(members: &'a [Member], state: &InstanceState) -> Option<(&'a Endpoint, &'a InstanceState)> {
    let channel = state.replication.as_ref()?;
    states(members).find(|(endpoint, other)| {
        channel.source_uuid.map_or(**endpoint == channel.source, |uuid| uuid == other.server_uuid)
    })
}
