//! Determines the primary, and the errant transactions of the replicas.

use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::Endpoint;
use backstop_types::topology::{InstanceState, Member, NoAnswer};

/// Returns the member that accepts the shard's writes: it is writable and does not replicate. A
/// promoted server with a leftover stopped channel counts if another member replicates from it.
///
/// # Errors
/// Returns [`ErrorKind::Refused`], with their names, if several members are writable and do not
/// replicate. Returns [`ErrorKind::Denied`] if no primary was found, no member answered and some
/// denied access. Returns [`ErrorKind::Failed`] if no primary was found for another reason.
pub fn current_primary(members: &[Member]) -> Result<(&Endpoint, &InstanceState)> {
    let primaries: Vec<_> = primaries(members).collect();
    match primaries[..] {
        [one] => Ok(one),
        [] => Err(none_found(members)),
        _ => {
            let names: Vec<String> = primaries.iter().map(|(endpoint, _)| endpoint.to_string()).collect();
            let message = format!(
                "cannot find the shard's primary: {} are all writable and do not replicate",
                names.join(" and ")
            );
            Err(Error::refused(message)
                .hint("set super_read_only on all but the primary, and let them replicate from it"))
        }
    }
}

/// Returns the transactions that a replica has and its primary lacks, without those that the
/// primary numbered itself: the two sets are read at different instants, and a commit of the
/// primary in between is not an error.
pub fn errant(replica: &GtidSet, primary: &InstanceState) -> GtidSet {
    let beyond = replica.subtract(&primary.gtid_executed);
    beyond.subtract(&beyond.of_uuid(primary.server_uuid))
}

/// Returns every member that behaves as a primary.
pub(super) fn primaries(members: &[Member]) -> impl Iterator<Item = (&Endpoint, &InstanceState)> {
    members.iter().filter_map(|member| {
        let (endpoint, state) = (&member.endpoint, member.state.as_ref().ok()?);
        let leads = member.verdict.leads || leads(members, endpoint, state);
        (leads && !state.read_only).then_some((endpoint, state))
    })
}

/// Returns every member that answered.
pub(super) fn states(members: &[Member]) -> impl Iterator<Item = (&Endpoint, &InstanceState)> {
    members.iter().filter_map(|member| Some((&member.endpoint, member.state.as_ref().ok()?)))
}

fn leads(members: &[Member], endpoint: &Endpoint, state: &InstanceState) -> bool {
    let Some(channel) = &state.replication else { return true };
    let stopped = !channel.io_running && !channel.sql_running;
    stopped && states(members).any(|(_, other)| follows(other, endpoint, state))
}

fn follows(replica: &InstanceState, endpoint: &Endpoint, source: &InstanceState) -> bool {
    replica.replication.as_ref().is_some_and(|channel| {
        let named =
            channel.source_uuid.map_or(channel.source == *endpoint, |uuid| uuid == source.server_uuid);
        named && channel.io_running
    })
}

fn none_found(members: &[Member]) -> Error {
    let silent: Vec<String> = members.iter().filter_map(told_nothing).collect();
    let because = if silent.is_empty() {
        "every member is read-only or replicates".to_owned()
    } else {
        format!("none of those that answered is writable; {}", silent.join("; "))
    };
    Error::new(silence_kind(members), format!("cannot find the shard's primary: {because}"))
        .hint("check that `topology.members` lists the primary and that it can be reached from this host")
}

fn told_nothing(member: &Member) -> Option<String> {
    let objection = || member.verdict.objection.as_ref().map(|why| format!("{}: {why}", member.endpoint));
    member.state.as_ref().err().map(|why| format!("{} {why}", member.endpoint)).or_else(objection)
}

/// Returns the error kind if no member answered: [`ErrorKind::Denied`] if one denied access,
/// [`ErrorKind::Refused`] if one is another server than expected, else [`ErrorKind::Failed`].
pub(super) fn silence_kind(members: &[Member]) -> ErrorKind {
    let any = |is: fn(&NoAnswer) -> bool| members.iter().any(|member| member.state.as_ref().is_err_and(is));
    match states(members).next() {
        None if any(|why| matches!(why, NoAnswer::Denied(_))) => ErrorKind::Denied,
        None if any(|why| matches!(why, NoAnswer::Mistaken(_))) => ErrorKind::Refused,
        _ => ErrorKind::Failed,
    }
}
