//! Replication filters and other settings by which an instance's data or binlog lacks transactions,
//! and their consequences. Equal GTID sets mean equal data only if no setting omits anything.

use backstop_types::finding::Finding;
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::topology::{InstanceState, Member};

use super::primary::{current_primary, states};

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
