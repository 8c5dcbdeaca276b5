//! Reports of commands that plan and perform recoveries.

use std::collections::BTreeMap;

use backstop_engine::ports::{InfrastructureChanges, VolumeInitialization};
use backstop_engine::recover_ebs::{EbsRecoveryPlan, EbsRecoveryReport, RecoveredInstance};
use backstop_engine::report::{
    DemoReport, DemoStep, DroppedTableDemo, RecoverReport, RecoverSeconds, RecoveredServer, TotalLossDemo,
};
use backstop_policy::plan::{
    ChosenBackup, Ending, EndingFit, LatestAge, PlanRequest, RecoveryChoice, RecoveryPlan, Replay,
    recovery_plan,
};
use backstop_policy::recovery_target::RecoveryTarget;
use backstop_policy::scheduled_events::EventsReport;
use backstop_testkit::every;
use backstop_testkit::frozen::parsed;
use backstop_types::backup::{BackupRef, Sizes};
use backstop_types::finding::Finding;

use super::backups::backups;
use super::shards::found;
use super::{at, findings, gtids, id, of, printed, server};
use crate::demo::{DemoResult, KeptDemo};
use crate::render::EbsRecoveryPlanned;

fn endings() -> Vec<Ending> {
    every!(Ending: Ending::Standalone, Ending::Join, Ending::AsPrimary)
}

fn latest() -> LatestAge {
    LatestAge {
        last_commit: Some(at()),
        last_commit_age_seconds: Some(1),
        archiver_seen: Some(at()),
        archiver_silent_seconds: Some(2),
        complete_to: Some(at()),
        behind_seconds: Some(3),
        trouble: Some("the source is away".into()),
    }
}

fn replay() -> Replay {
    parsed(include_str!("../../../policy/tests/frozen/replay.json").lines().next().unwrap())
}

/// Returns plans with all existing steps.
fn plans() -> Vec<RecoveryPlan> {
    let backup =
        BackupRef { backup_id: id(), taken_at: at(), gtid_executed: gtids("1-5"), on_timeline: None };
    let plan = |ending| {
        let request = PlanRequest {
            shard: of("orders"),
            target: RecoveryTarget::Latest,
            into: Some("/srv/new".into()),
            port: Some(3307),
            listen: Some(of("db1")),
            ending,
            sizes: Sizes { data_bytes: 3, changed_bytes: 2, stored_bytes: 1 },
        };
        let chosen = ChosenBackup { backup: &backup, why: "it is the nearest one".into() };
        let fits = |ending| EndingFit { ending, fits: true, why: "it fits".into() };
        RecoveryPlan {
            endings: endings().into_iter().map(fits).collect(),
            latest: Some(latest()),
            findings: findings(),
            ..recovery_plan(&request, &RecoveryChoice { chosen, replay: Some(replay()) })
        }
    };
    let mut plans: Vec<RecoveryPlan> = endings().into_iter().map(plan).collect();
    // The steps' descriptions may change; their names may not.
    plans.iter_mut().flat_map(|plan| &mut plan.steps).for_each(|step| step.what = "what is done".into());
    let least = RecoveryPlan {
        replay: None,
        latest: None,
        steps: Vec::new(),
        endings: Vec::new(),
        findings: Vec::new(),
        ..plans[0].clone()
    };
    plans.push(least);
    plans
}

fn rebuilds() -> Vec<EbsRecoveryPlanned> {
    let rebuild = EbsRecoveryPlan {
        recovery_id: "r-1".into(),
        primary_zone: "eu-west-1a".into(),
        zone: "eu-west-1b".into(),
        subnet: "subnet-1".into(),
        snapshots: [("/dev/sdf".to_owned(), "snap-1".to_owned())].into(),
        volumes: BTreeMap::new(),
    };
    let changes = InfrastructureChanges {
        told: vec!["instance will be created".into()],
        add: 1,
        change: 2,
        destroy: 3,
    };
    vec![EbsRecoveryPlanned::new(plans().remove(0), rebuild, changes, None)]
}

#[test]
fn plan_json_stays_the_same() {
    printed("plan", &plans());
    printed("recover.plan", &plans());
    printed("plan.rebuild", &rebuilds());
    printed("recover.plan-rebuild", &rebuilds());
}

fn seconds() -> RecoverSeconds {
    RecoverSeconds { materialise: 1.5, start: 2.5, replay: 3.5, join: 4.5, total: 12.0 }
}

fn recovered() -> [RecoverReport; 2] {
    let of_model = include_str!("../../../policy/tests/frozen/events-report.json");
    let events: EventsReport = parsed(of_model.lines().next().unwrap());
    let instance = RecoveredServer {
        host: "127.0.0.1".into(),
        port: 3307,
        socket: "/srv/new/mysqld.sock".into(),
        datadir: "/srv/new/data".into(),
        client_file: Some("/srv/new/client.cnf".into()),
    };
    let whole = RecoverReport {
        shard: of("orders"),
        backup_id: id(),
        target: "latest".into(),
        gtid_executed: gtids("1-9"),
        transactions_replayed: 4,
        server: instance.clone(),
        joined: true,
        ending: Ending::Join,
        checks: findings(),
        seconds: seconds(),
        next: vec!["have orchestrator discover it".into()],
        events: Some(events),
        latest: Some(latest()),
    };
    let least = RecoverReport {
        server: RecoveredServer { client_file: None, ..instance },
        checks: Vec::<Finding>::new(),
        next: Vec::new(),
        events: None,
        latest: None,
        ..whole.clone()
    };
    [whole, least]
}

#[test]
fn recover_json_stays_the_same() {
    let [_, least] = recovered();
    let ended = endings().into_iter().map(|ending| RecoverReport { ending, ..least.clone() });
    printed("recover", &recovered().into_iter().chain(ended).collect::<Vec<_>>());
    let all = every!(
        VolumeInitialization:
        VolumeInitialization::Loaded => VolumeInitialization::Loaded,
        VolumeInitialization::Percent(_) => VolumeInitialization::Percent(7),
        VolumeInitialization::WhenRead => VolumeInitialization::WhenRead,
    );
    let rebuilt = |loading| EbsRecoveryReport {
        shard: of("orders"),
        backup_id: id(),
        target: "latest".into(),
        gtid_executed: gtids("1-9"),
        transactions_replayed: 0,
        server: server("10.0.0.1"),
        joined: true,
        instance: RecoveredInstance {
            recovery_id: "r-1".into(),
            instance_id: "i-1".into(),
            volume_ids: vec!["vol-1".into()],
            availability_zone: "eu-west-1b".into(),
            loading,
        },
        seconds: seconds(),
        next: vec!["have orchestrator discover it".into()],
    };
    printed("recover.rebuild", &all.into_iter().map(rebuilt).collect::<Vec<_>>());
}

#[test]
fn demo_json_stays_the_same() {
    let [first_backup, backup] = backups();
    let [whole, least] = recovered();
    let report = DemoReport {
        ok: true,
        steps: vec![DemoStep { name: "shard".into(), what: "a shard was made".into(), seconds: 1.5 }],
        acknowledged_commits: 7,
        lost_commits: 0,
        first_backup,
        backup,
        longest_gaps_ms: vec![1.5, 2.5],
        recover: whole,
        dropped: Some(DroppedTableDemo { same: true, found: found().remove(0), recover: least.clone() }),
        total_loss: Some(TotalLossDemo {
            acknowledged_commits: 9,
            lost_commits: 0,
            rto_seconds: 30.5,
            recover: least,
        }),
    };
    let kept = KeptDemo {
        dir: "/tmp/demo".into(),
        config: "/tmp/demo/backstop.toml".into(),
        connect: vec![("primary".into(), "mysql --socket=x".into())],
        status: "backstop status".into(),
        remove: "rm -rf /tmp/demo".into(),
    };
    let alone = DemoResult { report: report.clone(), kept: None };
    let report = DemoReport { dropped: None, total_loss: None, ..report };
    printed("demo", &[alone, DemoResult { report, kept: Some(kept) }]);
}
