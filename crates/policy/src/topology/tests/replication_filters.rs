//! Members whose GTIDs name transactions that their data or their binlog lacks.

use backstop_types::finding::Severity;
use backstop_types::topology::{Member, ReplicationFidelity, Role};

use super::*;

fn shard() -> [Member; 3] {
    [primary(1, "A:1-9"), candidate(replica(2, 1, "A:1-9")), replica(3, 1, "A:1-9")]
}

fn with_filters(member: Member) -> Member {
    with_state(member, |state| state.fidelity.filters = vec!["REPLICATE_IGNORE_DB billing".to_owned()])
}

fn with_binlog_filters(member: Member) -> Member {
    with_state(member, |state| state.fidelity.binlog_filters = vec!["binlog_ignore_db billing".to_owned()])
}

fn codes(members: &[Member], archived: bool) -> Vec<(String, Severity)> {
    let found = fidelity_findings(&"orders".parse().unwrap(), members, archived);
    found.into_iter().map(|finding| (finding.code.into_owned(), finding.severity)).collect()
}

#[test]
fn filtered_member_is_not_chosen_as_source() {
    for spoil in [with_filters, with_binlog_filters] {
        let [one, two, three] = shard();
        let choice = choose(&[one, spoil(two), three.clone()]).unwrap();
        assert_eq!(choice.endpoint, endpoint(3));
        assert!(choice.reason.contains("billing"), "{}", choice.reason);
        let [one, two, three] = shard();
        let choice = choose(&[one, spoil(two), spoil(three)]).unwrap();
        assert_eq!(choice.role, Role::Primary);
        let [_, two, three] = shard();
        let refused = choose(&[unreachable(1), spoil(two), spoil(three)]).unwrap_err();
        assert_eq!(Error::from(refused).kind.exit_code(), 20);
    }
}

#[test]
fn replica_of_filtered_member_is_not_chosen_as_source() {
    let [one, two, _] = shard();
    let behind = candidate(replica(3, 2, "A:1-9"));
    let choice = choose(&[one.clone(), with_filters(Member { candidate: false, ..two }), behind]).unwrap();
    assert_eq!(choice.role, Role::Primary);
    let choice = choose(&[with_binlog_filters(one), replica(2, 1, "A:1-9")]).unwrap();
    assert_eq!(choice.role, Role::Primary, "its own data is whole");
    assert!(choice.rejected[0].reason.contains("it replicates from db1:3306"), "{:?}", choice.rejected);
}

#[test]
fn filters_of_a_promoted_primary_do_not_reject_its_replicas() {
    let old = with_state(with_filters(primary(1, "A:1-9")), |state| {
        let mut channel = replica(1, 2, "").state.unwrap().replication.unwrap();
        (channel.io_running, channel.sql_running) = (false, false);
        state.replication = Some(channel);
    });
    let members = [old, candidate(replica(2, 1, "A:1-9"))];
    assert_eq!(choose(&members).unwrap().endpoint, endpoint(2));
    assert_eq!(codes(&members, true), []);
}

#[test]
fn check_and_status_report_filters() {
    let [one, two, three] = shard();
    let filtered = [one.clone(), with_filters(two.clone()), three.clone()];
    assert_eq!(codes(&filtered, false), [("member-filtered".to_owned(), Severity::Warning)]);
    let doubtful = [
        one.clone(),
        with_state(two, |state| state.fidelity.skipped_errors = Some("1062".to_owned())),
        with_state(three, |state| state.fidelity.idempotent = true),
    ];
    assert_eq!(codes(&doubtful, false), vec![("member-doubtful".to_owned(), Severity::Warning); 2]);
    assert_eq!(choose(&doubtful).unwrap().endpoint, endpoint(2), "it is used all the same");
    let problem = [("primary-binlog-filtered".to_owned(), Severity::Problem)];
    let alone = [with_binlog_filters(one)];
    assert_eq!(codes(&alone, false), [], "nothing reads its binlog");
    assert_eq!(codes(&alone, true), problem);
    let [_, two, _] = shard();
    let feeding = [alone.into_iter().next().unwrap(), two];
    assert_eq!(codes(&feeding, false), problem);
}

#[test]
fn filtered_binlog_is_refused_for_the_archive() {
    let unfit = |change: fn(&mut ReplicationFidelity), role| {
        let mut fidelity = ReplicationFidelity::default();
        change(&mut fidelity);
        fidelity.unfit_to_archive(role).is_some()
    };
    assert!(!unfit(|_| {}, Role::Replica));
    for role in [Role::Primary, Role::Replica] {
        assert!(unfit(|f| f.log_bin = false, role));
        assert!(unfit(|f| f.binlog_filters = vec!["binlog_do_db a".to_owned()], role));
        assert_eq!(unfit(|f| f.log_replica_updates = false, role), role == Role::Replica);
        assert_eq!(unfit(|f| f.filters = vec!["REPLICATE_DO_DB a".to_owned()], role), role == Role::Replica);
    }
}

#[test]
fn members_of_a_replication_group_are_reported() {
    let [one, two, _] = shard();
    let members = [with_state(one, |state| state.group = Some("ONLINE".to_owned())), two];
    let found = crate::tested_versions::support_findings(&"orders".parse().unwrap(), &members);
    let codes: Vec<_> = found.iter().map(|finding| finding.code.as_ref()).collect();
    assert_eq!(codes, ["version-not-proven", "group-replication"], "8.4.3 once, not for each member");
}

#[test]
fn incomplete_binlog_is_refused_for_the_archive() {
    use backstop_config::settings::ArchiveFrom;

    use crate::stream_or_fork::stream_from;

    let not_logging = |member| with_state(member, |state| state.fidelity.log_replica_updates = false);
    let without_binlog = |member| with_state(member, |state| state.fidelity.log_bin = false);
    let unfit = |from, members: &[Member]| {
        let from = stream_from(from, members, None).unwrap();
        (from.endpoint.clone(), from.refuse_unfit().err().map(|error| error.kind.exit_code()))
    };
    for spoil in
        [&with_filters as &dyn Fn(Member) -> Member, &with_binlog_filters, &not_logging, &without_binlog]
    {
        let [one, two, three] = shard();
        let members = [one, spoil(two.clone()), spoil(three.clone())];
        assert_eq!(unfit(ArchiveFrom::Candidate, &members), (endpoint(2), Some(20)));
        assert_eq!(unfit(ArchiveFrom::Primary, &members), (endpoint(1), None));
        // A fit member replaces the current one that has become unfit.
        let current = Some(three.state.as_ref().unwrap().server_uuid);
        let members = [members[0].clone(), two, spoil(three)];
        assert_eq!(stream_from(ArchiveFrom::Replica, &members, current).unwrap().endpoint, endpoint(2));
    }
    // A primary applies nothing: only the settings for its own writes count.
    for (spoil, code) in [(with_filters as fn(Member) -> Member, None), (with_binlog_filters, Some(20))] {
        let [one, two, three] = shard();
        assert_eq!(unfit(ArchiveFrom::Primary, &[spoil(one), two, three]), (endpoint(1), code));
    }
    let [one, two, three] = shard();
    let members = [one, with_state(two, |state| state.fidelity.idempotent = true), three];
    let from = stream_from(ArchiveFrom::Candidate, &members, None).unwrap();
    assert!(from.unfit.is_none() && from.doubtful.is_some(), "{from:?}");
}
