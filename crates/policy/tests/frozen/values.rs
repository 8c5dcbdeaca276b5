//! Values stored in the repository, in journals and in spools.

use backstop_policy::plan::{Ending, Replay};
use backstop_policy::scheduled_events::{EventsReport, EventsSetting};
use backstop_types::adopted::Adopted;
use backstop_types::archive::{
    ArchiveDamage, ArchivedSegment, ArchiverHeartbeat, Segment, SegmentHash, SegmentState, Timeline,
};
use backstop_types::backup::{BackupKind, BackupTimeline, Sizes, VolumeState};
use backstop_types::freeze::{FreezeMode, FreezeSetting, OnPrimary};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::listen_address::ListenAddress;
use backstop_types::run_history::{Operation, RunFailure, RunRecord};
use backstop_types::server::{Position, ServerVersion};
use backstop_types::topology::Role;

use crate::every;
use crate::frozen::stored;
use crate::sample::{A, B, at, events, facts, findings, gtids, located_facts, of, server};

#[test]
fn facts_of_a_backup() {
    stored("backup-facts.json", &facts());
    stored("backup-facts.members.json", &[located_facts()]);
    stored("recorded-events.json", &[events()]);
    stored("finding.json", &findings());
    stored("sizes.json", &[Sizes { data_bytes: 3, changed_bytes: 2, stored_bytes: 1 }]);
}

#[test]
fn values_written_as_text() {
    stored("gtid-set.json", &[GtidSet::new(), gtids("A:1-5:7,B:1:tag_1:2-3")]);
    stored("server-version.json", &[of::<ServerVersion>("8.0.36"), of("26.7.0-debug")]);
    stored("listen-address.json", &[of::<ListenAddress>("*"), of("10.0.0.1,db1")]);
    stored("server-uuid.json", &[ServerUuid(A.parse().unwrap())]);
    stored("endpoint.json", &[Endpoint { host: "::1".into(), port: 3306 }]);
    stored("hash.json", &[SegmentHash([0xa7; 32])]);
}

#[test]
fn words_of_a_set() {
    stored("backup-kind.json", &every!(BackupKind: BackupKind::Scheduled, BackupKind::OnDemand));
    stored("role.json", &every!(Role: Role::Primary, Role::Candidate, Role::Replica));
    stored("freeze-mode.json", &every!(FreezeMode: FreezeMode::None, FreezeMode::LockFree, FreezeMode::Lock));
    stored(
        "on-line.json",
        &every!(BackupTimeline: BackupTimeline::Timeline(_) => BackupTimeline::Timeline(3), BackupTimeline::None => BackupTimeline::None),
    );
    stored("segment-state.json", &every!(SegmentState: SegmentState::Tail, SegmentState::Sealed));
    stored("operation.json", &every!(Operation: Operation::Backup, Operation::Verify, Operation::Prune));
    stored("ending.json", &every!(Ending: Ending::Standalone, Ending::Join, Ending::AsPrimary));
    stored("events-wish.json", &every!(EventsSetting: EventsSetting::Enable, EventsSetting::Print));
    stored(
        "freeze-wish.json",
        &every!(FreezeSetting: FreezeSetting::Auto, FreezeSetting::LockFree, FreezeSetting::Lock),
    );
    stored("on-primary.json", &every!(OnPrimary: OnPrimary::Lock, OnPrimary::Refuse));
    stored(
        "volume-state.json",
        &every!(VolumeState: VolumeState::Completed, VolumeState::Pending, VolumeState::Error, VolumeState::Missing, VolumeState::Archived, VolumeState::Recycled),
    );
}

#[test]
fn names_that_are_parts_of_keys() {
    let names = every!(Operation: Operation::Backup, Operation::Verify, Operation::Prune);
    let names: String = names.iter().map(|operation| format!("{}\n", operation.name())).collect();
    crate::frozen::frozen("operation-names.txt", &names);
}

#[test]
fn values_of_an_archive() {
    let timeline = Timeline {
        number: 2,
        parent: Some(1),
        begun_at: at("2026-11-23T02:21:33Z"),
        source: server(B),
        common: gtids("A:1-5"),
        lacks: gtids("A:6-7"),
    };
    stored("line.json", &[timeline.clone(), Timeline { parent: None, ..timeline }]);
    let committed = Some((at("2026-11-23T02:21:33Z"), at("2026-11-23T02:22:33.000001Z")));
    let segment = ArchivedSegment {
        number: 7,
        timeline: 2,
        segment: Segment {
            source: server(A),
            file: "binlog.000007".into(),
            start: 4,
            end: 900,
            previous: gtids("A:1-5"),
            gtids: gtids("A:6-7"),
            committed,
            hash: SegmentHash([7; 32]),
        },
        state: SegmentState::Sealed,
        object: "shards/orders/archive/segments/00000000000000000001-000000000001".into(),
        stored_bytes: 300,
        digest: "00112233445566778899aabbccddeeff".into(),
    };
    let mut least = segment.clone();
    least.segment.committed = None;
    stored("archived-segment.json", &[segment, least]);
    let alive = ArchiverHeartbeat {
        at: at("2026-11-23T02:21:33Z"),
        source: Some(server(A)),
        archived: gtids("A:1-9"),
        complete_to: Some(at("2026-11-23T02:21:32Z")),
        last_commit: Some(at("2026-11-23T02:21:31Z")),
        trouble: Some("the source is away".into()),
    };
    let least = ArchiverHeartbeat {
        source: None,
        complete_to: None,
        last_commit: None,
        trouble: None,
        ..alive.clone()
    };
    stored("alive.json", &[alive, least]);
    let damage = ArchiveDamage {
        object: "shards/orders/archive/journal/00000000000000000001".into(),
        wrong: "it is missing".into(),
        timeline: Some(1),
        committed,
        gtids: gtids("A:1-9"),
    };
    let least = ArchiveDamage { timeline: None, committed: None, ..damage.clone() };
    stored("archive-damage.json", &[damage, least]);
}

#[test]
fn values_of_runs_and_recoveries() {
    let run = RunRecord {
        operation: Operation::Verify,
        started: at("2026-11-23T02:21:33Z"),
        ended: Some(at("2026-11-23T02:22:33Z")),
        host: "backup1".into(),
        pid: 77,
        failure: Some(RunFailure { exit_code: 10, message: "it broke".into(), hint: Some("mend it".into()) }),
        result: Some("backup 1".into()),
    };
    let least = RunRecord { ended: None, failure: None, result: None, ..run.clone() };
    stored("run.json", &[run, least]);
    stored("failure.json", &[RunFailure { exit_code: 1, message: "it broke".into(), hint: None }]);
    let servers = [server(A), server(B)].into();
    stored(
        "adopted.json",
        &[Adopted { at: at("2026-11-23T02:21:33Z"), servers, gtid_executed: gtids("A:1-9") }],
    );
    let replay = Replay {
        timeline: 2,
        from: gtids("A:1-5"),
        gtids: gtids("A:6-7"),
        transactions: 2,
        last_commit: Some(at("2026-11-23T02:21:33Z")),
        segments: 1,
        bytes: 900,
    };
    stored("replay.json", &[replay.clone(), Replay { last_commit: None, ..replay }]);
    let position = Position {
        gtid_executed: gtids("A:1-9"),
        binlog_file: Some("binlog.000007".into()),
        binlog_position: 4,
    };
    stored("position.json", &[position.clone(), Position { binlog_file: None, ..position }]);
    let name = |event: &str| backstop_types::scheduled_events::EventName {
        schema: "shop".into(),
        event: event.into(),
    };
    let report = EventsReport {
        enabled: vec![name("a")],
        disabled: vec![name("b")],
        unknown: vec![name("c")],
        scheduler: true,
        statements: vec!["ALTER EVENT shop.a ENABLE".into()],
        findings: findings(),
    };
    stored("events-report.json", &[report, EventsReport::default()]);
}
