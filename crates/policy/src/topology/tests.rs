#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod replication_filters;

use std::time::Duration;

use backstop_types::error::{Error, ErrorKind};
use backstop_types::freeze::OnPrimary;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::Endpoint;
use backstop_types::topology::{
    ExternalVerdict, InstanceState, Locking, Member, NoAnswer, Replication, ReplicationFidelity, Role,
    SourceChoice, SourceRules,
};
use proptest::prelude::*;

use super::*;

/// Returns the UUID of the server with number `n`.
fn uuid(n: u16) -> String {
    format!("{n:08x}-71ca-11e1-9e33-c80aa9429562")
}

pub(super) fn endpoint(n: u16) -> Endpoint {
    Endpoint::new(format!("db{n}"), 3306)
}

/// Parses a GTID set in which `A`, `B` and `C` stand for the UUIDs of the servers 1, 2 and 3.
fn set(text: &str) -> GtidSet {
    text.replace('A', &uuid(1)).replace('B', &uuid(2)).replace('C', &uuid(3)).parse().unwrap()
}

pub(super) fn primary(n: u16, executed: &str) -> Member {
    let state = InstanceState {
        server_uuid: uuid(n).parse().unwrap(),
        server_id: u32::from(n),
        version: "8.4.3".parse().unwrap(),
        gtid_mode_on: true,
        read_only: false,
        gtid_executed: set(executed),
        gtid_purged: GtidSet::new(),
        semi_sync_replica: false,
        semi_sync_source_loaded: false,
        replication: None,
        fidelity: ReplicationFidelity::default(),
        group: None,
    };
    Member { endpoint: endpoint(n), candidate: false, state: Ok(state), verdict: ExternalVerdict::default() }
}

pub(super) fn replica(n: u16, of: u16, executed: &str) -> Member {
    let channel = Replication {
        source: endpoint(of),
        source_uuid: Some(uuid(of).parse().unwrap()),
        io_running: true,
        sql_running: true,
        lag: Some(Duration::ZERO),
        delay: Duration::ZERO,
        auto_position: true,
        last_error: None,
    };
    let member = primary(n, executed);
    with_state(member, |state| {
        state.read_only = true;
        state.replication = Some(channel.clone());
    })
}

pub(super) fn with_state(mut member: Member, change: impl Fn(&mut InstanceState)) -> Member {
    change(member.state.as_mut().unwrap());
    member
}

fn with_channel(member: Member, change: impl Fn(&mut Replication)) -> Member {
    with_state(member, |state| change(state.replication.as_mut().unwrap()))
}

fn candidate(member: Member) -> Member {
    Member { candidate: true, ..member }
}

pub(super) fn silent(n: u16, why: NoAnswer) -> Member {
    Member { endpoint: endpoint(n), candidate: false, state: Err(why), verdict: ExternalVerdict::default() }
}

fn unreachable(n: u16) -> Member {
    silent(n, NoAnswer::Unreachable("connection refused".into()))
}

fn denied(n: u16) -> Member {
    silent(n, NoAnswer::Denied("access denied for user `backstop`".into()))
}

fn choose(members: &[Member]) -> Result<SourceChoice, NoSource> {
    choose_source(members, &SourceRules::default(), OnPrimary::Lock, Locking::Possible)
}

fn shard() -> [Member; 3] {
    [primary(1, "A:1-9"), candidate(replica(2, 1, "A:1-9")), replica(3, 1, "A:1-8")]
}

#[test]
fn candidate_is_chosen_first() {
    let choice = choose(&shard()).unwrap();
    assert_eq!((choice.endpoint, choice.role), (endpoint(2), Role::Candidate));
    assert_eq!(choice.reason, "candidate db2:3306 is usable");
    assert!(choice.rejected.is_empty());
}

#[test]
fn best_replica_is_chosen_if_candidate_is_unfit() {
    let [one, two, three] = shard();
    let lagging = with_channel(two, |channel| channel.lag = Some(Duration::from_secs(95)));
    let choice = choose(&[one.clone(), lagging.clone(), three.clone()]).unwrap();
    assert_eq!((choice.endpoint, choice.role), (endpoint(3), Role::Replica));
    let reason = "best replica db3:3306: candidate db2:3306 was rejected: it lags 95 s (limit 60 s)";
    assert_eq!(choice.reason, reason);
    let further = replica(4, 1, "A:1-9");
    let late = with_channel(replica(5, 1, "A:1-9"), |channel| channel.lag = Some(Duration::from_secs(1)));
    let choice = choose(&[one, lagging, three, late, further]).unwrap();
    assert_eq!(choice.endpoint, endpoint(4), "least lag, then most transactions");
}

#[test]
fn fallback_sources_are_those_the_rules_allow() {
    let [one, two, three] = shard();
    let lagging = with_channel(replica(4, 1, "A:1-9"), |channel| channel.lag = Some(Duration::from_secs(95)));
    let members = [one, two, three, lagging, unreachable(5)];
    let others = |rules: &SourceRules, on_primary| {
        let others = second_choices(&members, rules, on_primary, Locking::Possible, &endpoint(2));
        others.into_iter().map(|choice| (choice.endpoint, choice.role)).collect::<Vec<_>>()
    };
    let all = SourceRules::default();
    let replica = (endpoint(3), Role::Replica);
    assert_eq!(others(&all, OnPrimary::Lock), [(endpoint(1), Role::Primary), replica.clone()]);
    assert_eq!(others(&all, OnPrimary::Refuse), [replica]);
    let only = SourceRules { any_replica: false, ..all };
    assert_eq!(others(&only, OnPrimary::Refuse), []);
}

#[test]
fn primary_is_chosen_last_if_the_rules_allow() {
    let [one, _, three] = shard();
    let members = [one, candidate(unreachable(2)), three];
    let only = SourceRules { any_replica: false, ..SourceRules::default() };
    let choose = |on_primary, locking| choose_source(&members, &only, on_primary, locking);
    let choice = choose(OnPrimary::Lock, Locking::Possible).unwrap();
    assert_eq!((choice.role, choice.rejected.len()), (Role::Primary, 2));
    assert!(
        choice.reason.starts_with("primary db1:3306: candidate db2:3306 was rejected: could not be reached")
    );
    assert!(choice.reason.contains("db3:3306 was rejected: it is not the candidate"), "{}", choice.reason);
    assert!(choice.reason.ends_with("its writes may be held for the freeze"));
    let unlocked = choose(OnPrimary::Refuse, Locking::Never).unwrap();
    assert!(unlocked.reason.ends_with("no lock is taken on it"));
    let refused = choose(OnPrimary::Refuse, Locking::Possible).unwrap_err();
    assert_eq!((refused.kind, refused.rejected.len()), (ErrorKind::Refused, 3));
    assert!(refused.reason.contains("on_primary"), "{refused}");
}

#[test]
fn promoted_candidate_counts_as_primary() {
    let old = replica(1, 2, "A:1-9,B:1");
    let promoted = candidate(primary(2, "A:1-9,B:1"));
    let choice = choose(&[old.clone(), promoted.clone()]).unwrap();
    assert_eq!(choice.endpoint, endpoint(1));
    assert_eq!(choice.reason, "best replica db1:3306: candidate db2:3306 is the primary now");
    // Promoted without RESET REPLICA: its stopped channel does not matter, since the other server
    // replicates from it.
    let leftover = with_state(promoted, |state| {
        state.replication = replica(2, 1, "").state.unwrap().replication;
        let channel = state.replication.as_mut().unwrap();
        (channel.io_running, channel.sql_running) = (false, false);
    });
    assert_eq!(current_primary(&[old, leftover]).unwrap().0, &endpoint(2));
}

#[test]
fn single_server_counts_as_primary() {
    let choice = choose(&[primary(1, "A:1")]).unwrap();
    assert!(choice.reason.starts_with("primary db1:3306: no candidate is configured"), "{}", choice.reason);
}

#[test]
fn every_rejection_states_its_reason() {
    let bad = |change: fn(&mut InstanceState)| with_state(replica(2, 1, "A:1-9"), change);
    let channel = |change: fn(&mut Replication)| with_channel(replica(2, 1, "A:1-9"), change);
    let cases = [
        (unreachable(2), "could not be reached: connection refused"),
        (denied(2), "denied access: access denied"),
        (bad(|s| s.version = "10.11.6-MariaDB".parse().unwrap()), "it is MariaDB"),
        (bad(|s| s.version = "8.0.16".parse().unwrap()), "its version 8.0.16 is below 8.0.17"),
        (bad(|s| s.gtid_mode_on = false), "`gtid_mode` is not ON"),
        (bad(|s| s.replication = None), "it neither replicates nor accepts writes"),
        (channel(|c| c.io_running = false), "its receiver thread is not running"),
        (
            channel(|c| {
                c.sql_running = false;
                c.last_error = Some("duplicate key".into());
            }),
            "its applier thread is not running: duplicate key",
        ),
        (
            channel(|c| (c.io_running, c.sql_running) = (false, false)),
            "its replication threads are not running",
        ),
        (channel(|c| c.auto_position = false), "by file and position"),
        (channel(|c| c.delay = Duration::from_secs(3600)), "its replication delay is set to 3600 s"),
        (channel(|c| c.lag = None), "its lag is unknown"),
        (channel(|c| c.lag = Some(Duration::from_secs(61))), "it lags 61 s (limit 60 s)"),
        (
            channel(|c| (c.source, c.source_uuid) = (endpoint(9), Some(uuid(9).parse().unwrap()))),
            "it replicates from db9:3306, which is not a member of the shard",
        ),
        (replica(2, 1, "A:1-9,B:1-3"), "it has 3 errant transactions that the primary db1:3306 lacks"),
    ];
    for (member, why) in cases {
        let choice = choose(&[primary(1, "A:1-9"), candidate(member)]).unwrap();
        assert_eq!(choice.role, Role::Primary, "{why}");
        let rejection = &choice.rejected[0];
        assert!(rejection.reason.contains(why), "{why}: {}", rejection.reason);
        assert!(choice.reason.contains(why), "{why}: {}", choice.reason);
    }
}

#[test]
fn transactions_in_flight_are_not_errant() {
    let state = primary(1, "A:1-9,C:1-5").state.unwrap();
    assert!(errant(&set("A:1-12,C:1-5"), &state).is_empty(), "committed after the primary was asked");
    assert_eq!(errant(&set("A:1-12,B:1,C:1-6"), &state), set("B:1,C:6"));
    let ahead = [primary(1, "A:1-9"), candidate(replica(2, 1, "A:1-12"))];
    assert_eq!(choose(&ahead).unwrap().role, Role::Candidate);
}

#[test]
fn two_primaries_are_refused_by_name() {
    let members = [primary(1, "A:1"), candidate(replica(2, 1, "A:1")), primary(3, "A:1,C:1")];
    let refused = choose(&members).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Refused);
    assert!(refused.reason.contains("db1:3306 and db3:3306"), "{refused}");
    assert_eq!(current_primary(&members).unwrap_err().kind, ErrorKind::Refused);
}

#[test]
fn replica_is_used_without_a_primary() {
    let members = [unreachable(1), candidate(replica(2, 1, "A:1-9,B:1"))];
    let choice = choose(&members).unwrap();
    assert!(choice.reason.contains("errant transactions could not be detected"), "{}", choice.reason);
    let error = current_primary(&members).unwrap_err();
    assert!(
        error.kind == ErrorKind::Failed && error.message.contains("db1:3306 could not be reached"),
        "{error}"
    );
}

#[test]
fn wrong_credentials_are_distinguished_from_no_answer() {
    let kind = |members: &[Member]| choose(members).unwrap_err().kind;
    assert_eq!(kind(&[denied(1), denied(2)]), ErrorKind::Denied);
    assert_eq!(kind(&[denied(1), unreachable(2)]), ErrorKind::Denied);
    assert_eq!(kind(&[unreachable(1), unreachable(2)]), ErrorKind::Failed);
    let stopped = with_channel(replica(2, 1, "A:1"), |channel| channel.io_running = false);
    let no_primary = choose(&[denied(1), stopped]).unwrap_err();
    assert!(
        no_primary.kind == ErrorKind::Refused && no_primary.advice.contains("promote a member"),
        "{no_primary:?}"
    );
    assert_eq!(kind(&[]), ErrorKind::Failed);
    assert_eq!(current_primary(&[denied(1)]).unwrap_err().kind, ErrorKind::Denied);
    let error = Error::from(choose(&[denied(1)]).unwrap_err());
    assert_eq!(error.kind.exit_code(), 12);
    assert!(error.hint.unwrap().contains("credentials"));
}

fn any_member(n: u16) -> impl Strategy<Value = Member> {
    let lag = prop_oneof![Just(None), (0u64..120).prop_map(|s| Some(Duration::from_secs(s)))];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0u8..8, lag, flags, 1u64..20, any::<bool>()).prop_map(move |(shape, lag, flags, last, errant)| {
        let executed = if errant { format!("A:1-{last},B:1") } else { format!("A:1-{last}") };
        let (io, sql, auto, gtid, read_only) = flags;
        let member = match shape {
            0 => unreachable(n),
            1 => denied(n),
            2 => primary(n, &executed),
            _ => with_channel(replica(n, 1, &executed), |channel| {
                (channel.io_running, channel.sql_running) = (io || shape > 4, sql || shape > 4);
                (channel.auto_position, channel.lag) = (auto || shape > 4, lag);
            }),
        };
        match member.state {
            Ok(_) => with_state(member, |state| {
                state.gtid_mode_on = gtid || shape > 4;
                state.read_only = read_only && shape > 2;
            }),
            Err(_) => member,
        }
    })
}

proptest! {
    #[test]
    fn chosen_source_is_never_a_rejected_member(
        members in (any_member(1), any_member(2), any_member(3), any_member(4)),
        chosen_candidate in 0usize..5,
        any_replica in any::<bool>(),
        refuse in any::<bool>(),
        locks in any::<bool>(),
    ) {
        let mut all = vec![members.0, members.1, members.2, members.3];
        if let Some(member) = all.get_mut(chosen_candidate) {
            member.candidate = true;
        }
        let rules = SourceRules { any_replica, max_lag: Duration::from_secs(60) };
        let on_primary = if refuse { OnPrimary::Refuse } else { OnPrimary::Lock };
        let locking = if locks { Locking::Possible } else { Locking::Never };
        let first = choose_source(&all, &rules, on_primary, locking);
        match &first {
            Ok(choice) => {
                prop_assert!(choice.rejected.iter().all(|r| r.endpoint != choice.endpoint));
                prop_assert!(choice.state.gtid_mode_on);
                if choice.role == Role::Primary {
                    prop_assert!(!(refuse && locks));
                    prop_assert!(!choice.state.read_only);
                } else {
                    let channel = choice.state.replication.as_ref().unwrap();
                    prop_assert!(channel.io_running && channel.sql_running && channel.auto_position);
                    prop_assert!(channel.lag.is_some_and(|lag| lag <= rules.max_lag));
                    prop_assert!(any_replica || choice.role == Role::Candidate);
                }
            }
            Err(none) => {
                prop_assert!(!none.rejected.is_empty());
                prop_assert!(none.rejected.iter().all(|r| none.reason.contains(&r.endpoint.to_string())));
            }
        }
        // The order in which members are listed does not matter.
        all.reverse();
        let again = choose_source(&all, &rules, on_primary, locking);
        prop_assert_eq!(first.map(|choice| choice.endpoint).ok(), again.map(|choice| choice.endpoint).ok());
    }
}

#[test]
fn external_verdict_rejects_a_member_and_orders_equals() {
    let judged = |member: Member, objection: Option<&str>, preference| Member {
        verdict: ExternalVerdict { leads: false, objection: objection.map(str::to_owned), preference },
        ..member
    };
    let [one, two, three] = shard();
    let second = candidate(three.clone());
    let both = [one.clone(), judged(two.clone(), None, 2), judged(second.clone(), None, 1)];
    assert_eq!(choose(&both).unwrap().endpoint, endpoint(3), "the preferred candidate");
    let objected = [one, judged(two, None, 2), judged(second, Some("it is downtimed"), 1)];
    let choice = choose(&objected).unwrap();
    assert_eq!((choice.endpoint, choice.role), (endpoint(2), Role::Candidate));
    assert!(choice.reason.contains("db3:3306 was rejected: it is downtimed"), "{}", choice.reason);
}

#[test]
fn named_primary_may_replicate_but_must_be_writable() {
    let named = |read_only| {
        let ring = with_state(replica(1, 2, "A:1-9"), |state| state.read_only = read_only);
        Member { verdict: ExternalVerdict { leads: true, ..ExternalVerdict::default() }, ..ring }
    };
    assert_eq!(current_primary(&[named(false), replica(2, 1, "A:1-9")]).unwrap().0, &endpoint(1));
    assert_eq!(current_primary(&[named(true), replica(2, 1, "A:1-9")]).unwrap_err().kind, ErrorKind::Failed);
}

#[test]
fn mistaken_servers_are_refused() {
    let members = [silent(1, NoAnswer::Mistaken("its server UUID is another".into()))];
    assert_eq!(choose(&members).unwrap_err().kind, ErrorKind::Refused);
}
