//! Reports of commands that make, list, check and remove backups.

use backstop_engine::report::{
    ArchivePruned, BackupReport, BackupRow, BackupsReport, CondemnedBackup, DamagedObject, EbsSnapshots,
    KeyChange, KeyCheckReport, KeyReport, KeyState, LostKeyCopy, PruneReport, RepairReport, RepairedIndex,
    RepairedLog, ShardVerification, TaggedBackup, TaggedReport, UncheckedObject, UnusableManifest,
    VerifiedBackup, VerifyReport,
};
use backstop_policy::retention::{RetentionVerdict, RetentionVote};
use backstop_testkit::every;
use backstop_types::backup::{BackupKind, BackupSource, BackupState, Sizes, VolumeState};
use backstop_types::freeze::{FreezeMode, FreezeReport};
use backstop_types::topology::Role;

use super::{at, findings, gtids, id, of, printed, server};
use crate::render::PruneReports;

pub fn backups() -> [BackupReport; 2] {
    let least = BackupReport {
        backup_id: id(),
        shard: of("orders"),
        kind: BackupKind::OnDemand,
        source: BackupSource { endpoint: server("db2"), role: Role::Candidate },
        source_reason: "candidate db2:3306 is usable".into(),
        gtid_executed: gtids("1-7"),
        freeze: FreezeReport { mode: FreezeMode::LockFree, held_ms: 1.5, waited_ms: 0.25 },
        parent: None,
        sizes: Sizes { data_bytes: 3, changed_bytes: 2, stored_bytes: 1 },
        taken_at: at(),
        seconds: 12.5,
        ebs: None,
        findings: Vec::new(),
    };
    let whole = BackupReport {
        kind: BackupKind::Scheduled,
        parent: Some(id()),
        ebs: Some(ebs(Some(VolumeState::Completed))),
        findings: findings(),
        ..least.clone()
    };
    [whole, least]
}

fn ebs(state: Option<VolumeState>) -> EbsSnapshots {
    EbsSnapshots { region: "eu-west-1".into(), snapshot_ids: vec!["snap-1".into()], state }
}

fn states() -> Vec<BackupState> {
    every!(
        BackupState: BackupState::Complete, BackupState::Damaged, BackupState::Deleted, BackupState::Pending,
        BackupState::Unknown
    )
}

#[test]
fn backup_json_stays_the_same() {
    printed("backup", &backups());
}

#[test]
fn backups_json_stays_the_same() {
    let [whole, least] = backups();
    let mut rows: Vec<BackupRow> =
        states().into_iter().map(|state| BackupRow { report: least.clone(), state, damage: None }).collect();
    let damage = Some("packs/1: it is missing".into());
    rows.push(BackupRow { report: whole, state: BackupState::Damaged, damage });
    printed("backups", &[BackupsReport { shard: of("orders"), backups: rows }]);
    let states = every!(
        VolumeState: VolumeState::Completed, VolumeState::Pending, VolumeState::Error, VolumeState::Missing,
        VolumeState::Archived, VolumeState::Recycled
    );
    let tagged = states.into_iter().map(Some).chain([None]).map(|state| TaggedBackup {
        backup_id: id(),
        taken_at: at(),
        source: "db2:3306".into(),
        cluster_name: "orders-cluster".into(),
        gtid: gtids("1-7").to_string(),
        ebs: ebs(state),
    });
    printed("backups.from-tags", &[TaggedReport { shard: of("orders"), from_tags: tagged.collect() }]);
}

#[test]
fn prune_json_stays_the_same() {
    let verdicts = every!(
        RetentionVerdict:
        RetentionVerdict::Keep { .. } => RetentionVerdict::Keep { reasons: vec!["it is the newest".into()] },
        RetentionVerdict::Delete { .. } => RetentionVerdict::Delete { reason: "no retention rule keeps it".into() }
    );
    let vote = |verdict| RetentionVote { id: id(), taken_at: at(), verdict };
    let whole = PruneReport {
        shard: of("orders"),
        applied: true,
        backups: verdicts.into_iter().map(vote).collect(),
        removed_objects: 3,
        freed_bytes: 4,
        removed_snapshots: vec!["snap-1".into()],
        archive: ArchivePruned { forgotten: 1, kept: 2, forgotten_bytes: 3, kept_from: Some(at()) },
        condemned: vec![CondemnedBackup { backup_id: id(), deleted_at: at(), until: at() }],
        undone: vec![id()],
    };
    let least = PruneReport::planned(of("orders"), Vec::new());
    printed("prune", &[PruneReports { shards: vec![whole, least] }]);
}

#[test]
fn verify_json_stays_the_same() {
    let damaged = DamagedObject {
        object: "packs/1".into(),
        wrong: "it is missing".into(),
        backups: vec![id()],
        gtids: Some(gtids("1-7")),
        moments: Some((at(), at())),
    };
    let shard = ShardVerification {
        shard: of("orders"),
        depth: "content",
        contents_read: true,
        backups: states().into_iter().map(|state| VerifiedBackup { backup_id: id(), state }).collect(),
        objects: 3,
        bytes_read: 4,
        damaged: vec![damaged.clone(), DamagedObject { gtids: None, moments: None, ..damaged }],
        unchecked: vec![UncheckedObject {
            object: "snap-1".into(),
            why: "denied".into(),
            backups: vec![id()],
        }],
        unreferenced: 5,
        segments: 6,
    };
    let lost =
        LostKeyCopy { key_id: "00ff".into(), object: "keys/00ff".into(), wrong: "it is missing".into() };
    let least = VerifyReport::new(vec![], vec![]);
    printed(
        "verify",
        &[VerifyReport::new(vec![shard], vec![]), least, VerifyReport::new(vec![], vec![lost])],
    );
}

#[test]
fn key_json_stays_the_same() {
    let report = |change| KeyReport {
        change,
        id: Some("00ff".to_owned()),
        file: Some("/etc/backstop/new.key".into()),
        removed: Some("ff00".to_owned()),
    };
    for (name, change) in [
        ("key-generate", KeyChange::Generated),
        ("key-add", KeyChange::Added),
        ("key-rotate", KeyChange::Rotated),
        ("key-remove", KeyChange::Removed),
        ("key-export", KeyChange::Exported),
        ("key-import", KeyChange::Imported),
    ] {
        let least = KeyReport { id: None, file: None, removed: None, change };
        printed(name, &[report(change), least]);
    }
    let key = |lost: &[&str]| KeyState {
        id: "00ff".to_owned(),
        configured: true,
        copies: 2 - lost.len(),
        lost: lost.iter().map(ToString::to_string).collect(),
    };
    printed("key-check", &[KeyCheckReport { ok: false, keys: vec![key(&["it is missing"]), key(&[])] }]);
}

#[test]
fn repair_json_stays_the_same() {
    let log = RepairedLog {
        log: "shards/orders/log".into(),
        wrong: "it is missing".into(),
        kept: vec![id()],
        found: vec![id()],
        gone: vec![id()],
        left: vec![UnusableManifest { object: "backups/1".into(), why: "it is damaged".into() }],
    };
    let report = RepairReport { shard: of("orders"), applied: true, logs: vec![log], indexes: Vec::new() };
    printed("repair", &[report]);
    let index = RepairedIndex {
        index: "shards/orders/archive/index/1-7".into(),
        wrong: "it is missing".into(),
        aside: Some("shards/orders/archive/aside/1-7".into()),
        found: 2,
        lost: gtids("6-7"),
        left: vec![UnusableManifest { object: "segments/1".into(), why: "it is damaged".into() }],
        cannot: Some("nothing that is left describes line 2".into()),
    };
    let least = RepairedIndex { aside: None, left: Vec::new(), cannot: None, lost: of(""), ..index.clone() };
    let indexes = vec![index, least];
    printed(
        "repair.indexes",
        &[RepairReport { shard: of("orders"), applied: false, logs: Vec::new(), indexes }],
    );
}
