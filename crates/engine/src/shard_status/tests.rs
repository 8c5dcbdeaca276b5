#![allow(clippy::unwrap_used)]
use std::time::Duration;

use backstop_types::archive::{Archive, Timeline};
use backstop_types::finding::Severity;
use backstop_types::freeze::OnPrimary;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::BackupId;
use backstop_types::topology::{
    ExternalVerdict, Locking, NoAnswer, Replication, ReplicationFidelity, SourceRules,
};

use super::*;
use crate::report::StatusReport;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-11-{text}:00Z").parse().unwrap()
}

fn set(text: &str) -> GtidSet {
    text.replace('A', A).replace('B', B).parse().unwrap()
}

fn primary() -> Member {
    let state = InstanceState {
        server_uuid: A.parse().unwrap(),
        server_id: 1,
        version: "9.7.4".parse().unwrap(),
        gtid_mode_on: true,
        read_only: false,
        gtid_executed: set("A:1-9"),
        gtid_purged: GtidSet::new(),
        semi_sync_replica: false,
        semi_sync_source_loaded: false,
        replication: None,
        fidelity: ReplicationFidelity::default(),
        group: None,
    };
    Member {
        endpoint: Endpoint::new("db1", 3306),
        candidate: false,
        state: Ok(state),
        verdict: ExternalVerdict::default(),
    }
}

fn candidate() -> Member {
    let mut member = Member { endpoint: Endpoint::new("db2", 3306), candidate: true, ..primary() };
    let state = member.state.as_mut().unwrap();
    (state.server_uuid, state.server_id, state.read_only) = (B.parse().unwrap(), 2, true);
    state.replication = Some(Replication {
        source: Endpoint::new("db1", 3306),
        source_uuid: Some(A.parse().unwrap()),
        io_running: true,
        sql_running: true,
        lag: Some(Duration::from_secs(2)),
        delay: Duration::ZERO,
        auto_position: true,
        last_error: None,
    });
    member
}

fn silent(mut member: Member) -> Member {
    member.state = Err(NoAnswer::Unreachable("connection refused".to_owned()));
    member
}

fn channel(change: fn(&mut Replication)) -> Member {
    let mut member = candidate();
    change(member.state.as_mut().unwrap().replication.as_mut().unwrap());
    member
}

fn backup(day: u32, executed: &str, availability: BackupAvailability) -> (BackupRef, BackupAvailability) {
    let taken_at = at(&format!("{day:02}T23:55"));
    let known = BackupRef {
        backup_id: BackupId::new(taken_at, day),
        taken_at,
        gtid_executed: set(executed),
        on_timeline: None,
    };
    (known, availability)
}

/// Inputs of a status without any problem.
struct Case {
    backups: Vec<(BackupRef, BackupAvailability)>,
    members: Result<Vec<Member>, String>,
    archive: Archive,
    source: SourceRules,
}

impl Case {
    fn well() -> Self {
        Self {
            backups: vec![backup(22, "A:1-9", BackupAvailability::Available)],
            members: Ok(vec![primary(), candidate()]),
            archive: Archive::default(),
            source: SourceRules::default(),
        }
    }

    fn status(&self) -> ShardStatus {
        let shard = "orders".parse().unwrap();
        let whole: Vec<BackupRef> = self
            .backups
            .iter()
            .filter(|(_, availability)| {
                !availability.is_lost() && *availability != BackupAvailability::Pending
            })
            .map(|(known, _)| known.clone())
            .collect();
        let schedule = "cron(55 23 * * ? *)".parse().unwrap();
        StatusInputs {
            shard: &shard,
            now: at("23T12:00"),
            schedule: Some(&schedule),
            backups: &self.backups,
            last_backup: None,
            members: self.members.as_deref().map_err(Clone::clone),
            rules: SourceChoiceRules {
                source: &self.source,
                on_primary: OnPrimary::Lock,
                locking: Locking::Never,
            },
            coverage: Coverage::of(&self.archive, &whole),
            archived: false,
            archive_rpo_seconds: None,
            archive: Vec::new(),
        }
        .status()
    }
}

/// Returns the codes of the problems in a status.
fn problems(case: &Case) -> Vec<String> {
    let status = case.status();
    let problems: Vec<String> = status
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Problem)
        .map(|finding| finding.code.to_string())
        .collect();
    assert_eq!(StatusReport::new(vec![status]).ok, problems.is_empty());
    problems
}

#[test]
fn status_is_well_only_if_everything_was_examined() {
    let well = Case::well;
    assert_eq!(problems(&well()), Vec::<String>::new());
    let lost = || BackupAvailability::Lost("EBS snap-1 ended in an error".to_owned());
    let members = |members: Vec<Member>| Case { members: Ok(members), ..well() };
    let backups = |backups| Case { backups, ..well() };
    let timeline = Timeline {
        number: 2,
        parent: None,
        begun_at: at("23T01:00"),
        source: A.parse().unwrap(),
        common: GtidSet::new(),
        lacks: set("A:1-9"),
    };
    let cases: Vec<(&str, Case, Vec<&str>)> = vec![
        (
            "every member is dead",
            members(vec![silent(primary()), silent(candidate())]),
            vec!["no-source", "member-down", "member-down", "rpo-unknown"],
        ),
        (
            "the primary is dead",
            members(vec![silent(primary()), candidate()]),
            vec!["member-down", "rpo-unknown"],
        ),
        ("a replica is dead", members(vec![primary(), silent(candidate())]), vec!["member-down"]),
        (
            "the members cannot be asked",
            Case { members: Err("orchestrator is away".into()), ..well() },
            vec!["rpo-unknown"],
        ),
        (
            "a replica's replication is stopped",
            members(vec![primary(), channel(|c| c.io_running = false)]),
            vec!["member-not-replicating"],
        ),
        (
            "a replica is late",
            members(vec![primary(), channel(|c| c.lag = Some(Duration::from_secs(99)))]),
            vec![],
        ),
        (
            "a replica is delayed on purpose",
            members(vec![primary(), channel(|c| c.delay = Duration::from_secs(3600))]),
            vec![],
        ),
        (
            "two take writes",
            members(vec![primary(), Member { endpoint: Endpoint::new("db3", 3306), ..primary() }]),
            vec!["no-source", "rpo-unknown"],
        ),
        ("there is no backup", backups(vec![]), vec!["no-backup", "rpo-unknown"]),
        (
            "the only backup failed afterwards",
            backups(vec![backup(22, "A:1-9", lost())]),
            vec!["no-backup", "backup-lost", "rpo-unknown", "nothing-recoverable"],
        ),
        (
            "the newest failed, an older one is there",
            backups(vec![backup(21, "A:1-8", BackupAvailability::Available), backup(22, "A:1-9", lost())]),
            vec!["backup-stale", "backup-lost"],
        ),
        (
            "the newest is still being stored",
            backups(vec![
                backup(21, "A:1-8", BackupAvailability::Available),
                backup(22, "A:1-9", BackupAvailability::Pending),
            ]),
            vec![],
        ),
        (
            "the only one is still being stored",
            backups(vec![backup(22, "A:1-9", BackupAvailability::Pending)]),
            vec!["rpo-unknown", "nothing-recoverable"],
        ),
        (
            "EC2 could not be asked",
            backups(vec![backup(22, "A:1-9", BackupAvailability::Unknown("denied".into()))]),
            vec!["backup-not-asked"],
        ),
        (
            "nothing is recoverable on the current line",
            Case { archive: Archive { timelines: vec![timeline], ..Archive::default() }, ..well() },
            vec!["nothing-recoverable"],
        ),
    ];
    for (what, case, expected) in cases {
        assert_eq!(problems(&case), expected, "{what}");
    }
}

#[test]
fn members_are_shown_with_role_and_lag() {
    let third = Member { endpoint: Endpoint::new("db3", 3306), candidate: false, ..silent(candidate()) };
    let case = Case { members: Ok(vec![primary(), candidate(), third]), ..Case::well() };
    let status = case.status();
    let json = serde_json::to_value(&status.members).unwrap();
    assert_eq!(
        (&json[0]["host"], &json[0]["port"], &json[0]["role"]),
        (&"db1".into(), &3306.into(), &"primary".into())
    );
    assert_eq!(
        (&json[1]["role"], &json[1]["candidate"], &json[1]["lag_seconds"]),
        (&"candidate".into(), &true.into(), &2.0.into())
    );
    assert!(json[1]["wrong"].is_null() && json[0]["lag_seconds"].is_null());
    assert!(json[2]["role"].is_null() && json[2]["wrong"].as_str().unwrap().contains("connection refused"));
}

#[test]
fn member_excluded_by_the_rules_is_no_problem() {
    let mut third = candidate();
    (third.endpoint, third.candidate) = (Endpoint::new("db3", 3306), false);
    let only = SourceRules { any_replica: false, ..SourceRules::default() };
    let case = Case { members: Ok(vec![primary(), candidate(), third]), source: only, ..Case::well() };
    let status = case.status();
    assert!(
        !status.findings.iter().any(|finding| finding.code == "member-rejected"),
        "{:?}",
        status.findings
    );
    let late = Case { members: Ok(vec![primary(), channel(|c| c.lag = None)]), ..Case::well() };
    let warned =
        late.status().findings.into_iter().find(|finding| finding.code == "member-rejected").unwrap();
    assert_eq!(warned.severity, Severity::Warning);
}
