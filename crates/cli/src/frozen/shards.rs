//! Reports of commands that inspect shards and their archives.

use backstop_binlog::{ChangeKind, DataLoss, FoundTransaction, TableRows};
use backstop_engine::report::{
    AccountReport, AdoptReport, ArchiveReport, ArchivedFork, ArchivedGap, CheckReport, FindReport,
    MemberStatus, RecoveryAdvice, SearchedPart, ShardCheck, ShardStatus, StatusReport,
};
use backstop_policy::coverage::{AbandonedTimeline, Coverage, RecoveryGap, RecoveryWindow};
use backstop_policy::first_day::roles::AwsRole;
use backstop_policy::first_day::{AnswerState, KEY};
use backstop_testkit::every;
use backstop_testkit::frozen::parsed;
use backstop_types::adopted::Adopted;
use backstop_types::archive::ArchiveDamage;
use backstop_types::run_history::RunRecord;
use backstop_types::topology::Role;

use super::backups::backups;
use super::{at, findings, gtids, id, of, printed, server};

fn coverage() -> Coverage {
    let window = || RecoveryWindow { from: at(), to: at(), gtid_from: gtids("1-3"), gtid_to: gtids("1-9") };
    let damage = include_str!("../../../policy/tests/frozen/archive-damage.json");
    let gap =
        RecoveryGap { from: at(), to: Some(at()), missing: gtids("4"), objects: vec!["segments/1".into()] };
    Coverage {
        windows: vec![window()],
        gaps: vec![gap.clone(), RecoveryGap { to: None, objects: Vec::new(), ..gap }],
        timeline: Some(2),
        abandoned_timelines: vec![AbandonedTimeline {
            timeline: 1,
            left_at: at(),
            lost: gtids("8"),
            windows: vec![window()],
        }],
        damaged: damage.lines().map(parsed::<ArchiveDamage>).collect(),
    }
}

#[test]
fn status_json_stays_the_same() {
    let [backup, _] = backups();
    let roles = every!(Role: Role::Primary, Role::Candidate, Role::Replica);
    let member = |role| MemberStatus {
        endpoint: server("db2"),
        role: Some(role),
        candidate: true,
        lag_seconds: Some(0.5),
        wrong: Some("it lags".into()),
    };
    let unknown = MemberStatus {
        endpoint: server("db3"),
        role: None,
        candidate: false,
        lag_seconds: None,
        wrong: None,
    };
    let runs = include_str!("../../../policy/tests/frozen/run.json");
    let whole = ShardStatus {
        shard: of("orders"),
        last_backup: Some(backup),
        coverage: coverage(),
        members: roles.into_iter().map(member).chain([unknown]).collect(),
        rpo_seconds: Some(1.5),
        rto_seconds: Some(60.25),
        findings: findings(),
        runs: runs.lines().map(parsed::<RunRecord>).collect(),
    };
    let least = ShardStatus {
        shard: of("users"),
        last_backup: None,
        coverage: Coverage::default(),
        members: Vec::new(),
        rpo_seconds: None,
        rto_seconds: None,
        findings: Vec::new(),
        runs: Vec::new(),
    };
    printed(
        "status",
        &[
            StatusReport::new(vec![whole, least]),
            StatusReport { ok: false, shards: Vec::new(), findings: findings() },
        ],
    );
}

#[test]
fn check_aws_json_stays_the_same() {
    let states = every!(
        AnswerState: AnswerState::Ok, AnswerState::Later, AnswerState::Warning, AnswerState::NotChecked,
        AnswerState::Problem
    );
    let answer = |state| KEY.answer(state, "what was found").todo("what to do");
    let whole = |role| answer(AnswerState::Problem).of_role(role).of_shard(&of("orders"));
    let whole = AwsRole::ALL.into_iter().map(whole);
    let all = states.into_iter().map(answer).chain(whole).chain([KEY.ok("what was found")]);
    let reports = [AccountReport::new(all.collect()), AccountReport::new(Vec::new())];
    printed("check.aws", &reports);
}

#[test]
fn check_json_stays_the_same() {
    let whole = ShardCheck { shard: of("orders"), coverage: Some(coverage()), findings: findings() };
    let least = ShardCheck { shard: of("users"), coverage: None, findings: Vec::new() };
    let reports = [CheckReport::new(findings(), vec![whole]), CheckReport::new(Vec::new(), vec![least])];
    printed("check", &reports);
}

pub fn found() -> Vec<FoundTransaction> {
    let table = TableRows {
        schema: "shop".into(),
        table: "cart".into(),
        inserted: 1,
        updated: 2,
        deleted: 3,
        at_least: true,
    };
    let losses = every!(DataLoss: DataLoss::Definition, DataLoss::Rows);
    let whole = |kind, loses| FoundTransaction {
        gtid: "3e11fa47-71ca-11e1-9e33-c80aa9429562:7".into(),
        committed_at: Some(at()),
        kind,
        tables: vec![table.clone()],
        rows: 6,
        statement: Some("DROP TABLE cart".into()),
        statement_based: true,
        loses,
        to: "before:3e11fa47-71ca-11e1-9e33-c80aa9429562:7".into(),
    };
    let kinds = every!(ChangeKind: ChangeKind::Ddl, ChangeKind::Dml, ChangeKind::Other);
    let mut all: Vec<FoundTransaction> = kinds
        .into_iter()
        .zip(losses.into_iter().map(Some).chain([None]))
        .map(|(kind, loss)| whole(kind, loss))
        .collect();
    all.push(FoundTransaction { committed_at: None, tables: Vec::new(), statement: None, ..all[2].clone() });
    all
}

#[test]
fn find_json_stays_the_same() {
    let whole = FindReport {
        shard: of("orders"),
        timeline: 2,
        abandoned_timeline: Some(1),
        transactions: found(),
        more: true,
        advice: Some(RecoveryAdvice {
            gtid: "g:7".into(),
            to: "before:g:7".into(),
            why: "it drops a table".into(),
        }),
        read: SearchedPart { segments: 1, bytes: 2, transactions: 3 },
    };
    let least = FindReport { transactions: Vec::new(), advice: None, ..whole.clone() };
    printed("find", &[whole, least]);
}

#[test]
fn archive_json_stays_the_same() {
    let whole = ArchiveReport {
        shard: of("orders"),
        source: Some(server("db1")),
        transactions: 3,
        archived: gtids("1-9"),
        gaps: vec![ArchivedGap { gtids: gtids("4"), at: at() }],
        forks: vec![ArchivedFork {
            source: of("3e11fa47-71ca-11e1-9e33-c80aa9429562"),
            lacks: gtids("8"),
            at: at(),
        }],
        seconds: 1.5,
    };
    printed("archive", &[whole, ArchiveReport::new(of("orders"))]);
}

#[test]
fn shard_adopt_json_stays_the_same() {
    let adopted: Adopted = parsed(include_str!("../../../policy/tests/frozen/adopted.json"));
    let whole = AdoptReport { shard: of("orders"), adopted, newest_backup: Some(id()), timeline: Some(2) };
    printed("shard-adopt", &[whole.clone(), AdoptReport { newest_backup: None, timeline: None, ..whole }]);
}
