//! Reports of commands that look at shards and their archives.

use backstop_model::archive::ArchiveDamage;
use backstop_model::identity::{AdoptReport, Adopted};
use backstop_model::report::{
    Advice, ArchiveReport, ArchivedFork, ArchivedGap, ChangeKind, CheckReport, Coverage, FindReport, Found,
    Gap, LeftLine, Loss, MemberStatus, SearchedPart, ShardChecked, ShardStatus, StatusReport, TableRows,
    Window,
};
use backstop_model::runs::Run;
use backstop_model::topology::Role;
use backstop_testkit::every;
use backstop_testkit::frozen::parsed;

use super::backups::backups;
use super::{at, findings, gtids, id, of, printed, server};

fn coverage() -> Coverage {
    let window = || Window { from: at(), to: at(), gtid_from: gtids("1-3"), gtid_to: gtids("1-9") };
    let damage = include_str!("../../../model/tests/frozen/archive-damage.json");
    let gap = Gap { from: at(), to: Some(at()), missing: gtids("4"), objects: vec!["segments/1".into()] };
    Coverage {
        windows: vec![window()],
        gaps: vec![gap.clone(), Gap { to: None, objects: Vec::new(), ..gap }],
        line: Some(2),
        left_lines: vec![LeftLine { line: 1, left_at: at(), lost: gtids("8"), windows: vec![window()] }],
        damaged: damage.lines().map(parsed::<ArchiveDamage>).collect(),
    }
}

#[test]
fn status() {
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
    let runs = include_str!("../../../model/tests/frozen/run.json");
    let whole = ShardStatus {
        shard: of("orders"),
        last_backup: Some(backup),
        coverage: coverage(),
        members: roles.into_iter().map(member).chain([unknown]).collect(),
        rpo_seconds: Some(1.5),
        rto_seconds: Some(60.25),
        findings: findings(),
        runs: runs.lines().map(parsed::<Run>).collect(),
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
fn check() {
    let whole = ShardChecked { shard: of("orders"), coverage: Some(coverage()), findings: findings() };
    let least = ShardChecked { shard: of("users"), coverage: None, findings: Vec::new() };
    let reports = [CheckReport::new(findings(), vec![whole]), CheckReport::new(Vec::new(), vec![least])];
    printed("check", &reports);
}

pub fn found() -> Vec<Found> {
    let table = TableRows {
        schema: "shop".into(),
        table: "cart".into(),
        inserted: 1,
        updated: 2,
        deleted: 3,
        at_least: true,
    };
    let losses = every!(Loss: Loss::Definition, Loss::Rows);
    let whole = |kind, loses| Found {
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
    let mut all: Vec<Found> = kinds
        .into_iter()
        .zip(losses.into_iter().map(Some).chain([None]))
        .map(|(kind, loss)| whole(kind, loss))
        .collect();
    all.push(Found { committed_at: None, tables: Vec::new(), statement: None, ..all[2].clone() });
    all
}

#[test]
fn find() {
    let whole = FindReport {
        shard: of("orders"),
        line: 2,
        left_line: Some(1),
        transactions: found(),
        more: true,
        advice: Some(Advice { gtid: "g:7".into(), to: "before:g:7".into(), why: "it drops a table".into() }),
        read: SearchedPart { segments: 1, bytes: 2, transactions: 3 },
    };
    let least = FindReport { transactions: Vec::new(), advice: None, ..whole.clone() };
    printed("find", &[whole, least]);
}

#[test]
fn archive() {
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
fn adopt() {
    let adopted: Adopted = parsed(include_str!("../../../model/tests/frozen/adopted.json"));
    let whole = AdoptReport { shard: of("orders"), adopted, newest_backup: Some(id()), line: Some(2) };
    printed("shard-adopt", &[whole.clone(), AdoptReport { newest_backup: None, line: None, ..whole }]);
}
