//! Sample values with every field set, and with every optional field missing.

use std::fmt::Debug;
use std::str::FromStr;

use backstop_types::backup::{BackupFacts, BackupKind, BackupSource, BackupTimeline, BrokenTable, Lineage};
use backstop_types::finding::{Finding, Severity};
use backstop_types::freeze::{FreezeMode, FreezeReport};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::plugins::Plugin;
use backstop_types::scheduled_events::{EventName, EventState, RecordedEvent, RecordedEvents, ServerEvents};
use backstop_types::topology::Role;
use chrono::{DateTime, Utc};

use crate::every;

pub const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
pub const B: &str = "4f22fa47-71ca-11e1-9e33-c80aa9429563";

/// Parses a value.
pub fn of<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Parses GTIDs in which `A` and `B` stand for the servers.
pub fn gtids(text: &str) -> GtidSet {
    of(&text.replace('A', A).replace('B', B))
}

pub fn server(text: &str) -> ServerUuid {
    of(text)
}

pub fn at(text: &str) -> DateTime<Utc> {
    of(text)
}

pub fn findings() -> Vec<Finding> {
    let member = Endpoint { host: "db2".into(), port: 3306 };
    let whole = |severity| Finding {
        severity,
        code: "a-code".into(),
        what: "what was found".into(),
        todo: Some("what to do".into()),
        fix: vec!["SET PERSIST x = 1".into()],
        on: Some(member.clone()),
    };
    let all = every!(Severity: Severity::Ok, Severity::Warning, Severity::Problem);
    all.into_iter().map(whole).chain([Finding::ok("a-code", "what was found")]).collect()
}

pub fn events() -> RecordedEvents {
    let states =
        every!(EventState: EventState::Enabled, EventState::Disabled, EventState::ReplicaSideDisabled);
    let event =
        |state| RecordedEvent { name: EventName { schema: "shop".into(), event: "nightly".into() }, state };
    RecordedEvents {
        of: Endpoint { host: "db1".into(), port: 3306 },
        role: Role::Primary,
        told: ServerEvents {
            scheduler: "ON".into(),
            executed: gtids("A:1-9"),
            events: states.into_iter().map(event).collect(),
        },
    }
}

pub fn facts() -> [BackupFacts; 2] {
    let least = BackupFacts {
        backup_id: of("20261123T022133Z-9f3a04c1"),
        shard: of("orders"),
        kind: BackupKind::OnDemand,
        occasion: None,
        source: BackupSource { endpoint: Endpoint { host: "db2".into(), port: 3306 }, role: Role::Candidate },
        source_reason: "candidate db2:3306 is usable".into(),
        server_version: of("8.0.36-debug"),
        gtid_executed: gtids("A:1-7:9"),
        on_timeline: None,
        freeze: FreezeReport { mode: FreezeMode::LockFree, held_ms: 1.5, waited_ms: 0.25 },
        lineage: Lineage { server_uuid: server(A), volume: "clone".into(), generation: None, mark: None },
        settings: [("innodb_page_size".to_owned(), "16384".to_owned())].into(),
        started_at: at("2026-11-23T02:21:30Z"),
        taken_at: at("2026-11-23T02:21:33.25Z"),
        seconds: 12.5,
        servers: Vec::new(),
        members: Vec::new(),
        primary: None,
        events: None,
        plugins: Vec::new(),
        findings: Vec::new(),
        broken_tables: Vec::new(),
    };
    let whole = BackupFacts {
        kind: BackupKind::Scheduled,
        occasion: Some("scheduled 2026-11-23T23:55:00Z".into()),
        on_timeline: Some(BackupTimeline::Timeline(2)),
        lineage: Lineage {
            server_uuid: server(A),
            volume: "btrfs:1234".into(),
            generation: Some(77),
            mark: Some("a mark".into()),
        },
        servers: vec![server(A), server(B)],
        events: Some(events()),
        plugins: vec![Plugin {
            name: "clone".into(),
            library: "mysql_clone.so".into(),
            kind: "CLONE".into(),
        }],
        findings: findings(),
        broken_tables: vec![BrokenTable {
            table: "shop.cart".into(),
            why: "its tablespace is missing".into(),
        }],
        ..least.clone()
    };
    [whole, least]
}

/// Returns facts with the addresses of the members.
pub fn located_facts() -> BackupFacts {
    let [_, least] = facts();
    let members = ["db1", "db2"].map(|host| Endpoint::new(host, 3306)).to_vec();
    BackupFacts { members, primary: Some(Endpoint::new("db1", 3306)), ..least }
}
