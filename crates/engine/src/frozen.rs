//! Compares the recovery files on a host, and errors with their exit codes, with `tests/frozen`: their bytes must not change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use backstop_policy::plan::{Ending, Replay};
use backstop_types::error::{Error, ErrorKind};

use crate::every;
use crate::fixtures::{frozen, kept, parsed, published, stored};
use crate::journal::Journal;
use crate::ports::{
    CreatedInstance, DestroyProtection, InfrastructureChanges, InstanceSpec, PlaybookInputs,
    VolumeInitialization,
};
use crate::recover::RecoveryDecision;
use crate::report::{ErrorReport, REPORT_VERSION, VersionedReport};

#[test]
fn recovery_journal_keeps_stored_form() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut journal = Journal::open(&path).unwrap();
    journal.begin("verify").unwrap();
    journal.finish("verify", &"a:1-2").unwrap();
    journal.begin("forget").unwrap();
    journal.finish("forget", &()).unwrap();
    journal.begin("check").unwrap();
    drop(journal);
    frozen("journal.txt", &std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, kept("journal.txt", String::new)).unwrap();
    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.output::<String>("verify").unwrap().as_deref(), Some("a:1-2"));
    assert_eq!(journal.output::<()>("forget").unwrap(), Some(()));
    assert!(journal.has_begun("check") && journal.output::<()>("check").unwrap().is_none());
}

#[test]
fn recovery_decision_keeps_stored_form() {
    let replay: Replay =
        parsed(include_str!("../../policy/tests/frozen/replay.json").lines().next().unwrap());
    let whole = RecoveryDecision {
        backup_id: "20261123T022133Z-9f3a04c1".parse().unwrap(),
        target: "latest".into(),
        ending: Ending::Join,
        port: 3307,
        listen: Some("10.0.0.1,db1".parse().unwrap()),
        server_id: 77,
        replay: Some(replay),
    };
    stored("decided.json", &[whole.clone(), RecoveryDecision { listen: None, replay: None, ..whole }]);
    // A decision from before the fields `listen` and `replay` existed.
    let old = r#"{"backup_id":"20261123T022133Z-9f3a04c1","target":"latest","ending":"join","port":3307,"server_id":77}"#;
    assert_eq!(parsed::<RecoveryDecision>(old).listen, None);
}

#[test]
fn ebs_recovery_decision_keeps_stored_form() {
    let text = r#"{"recovery_id":"r-1","shard":"orders","backup_id":"20261123T022133Z-9f3a04c1","target":"latest","primary_zone":"eu-west-1a","zone":"eu-west-1b","subnet":"subnet-1","snapshots":{"/dev/sdf":"snap-1"},"gtid_executed":"","server_id":77,"server_version":"8.0.36","settings":{"innodb_page_size":"16384"},"folder":"/srv/new/.backstop"}"#;
    stored("rebuild-decided.json", &[parsed::<crate::recover_ebs::EbsRecoveryDecision>(text)]);
}

#[test]
fn instance_spec_keeps_stored_form() {
    let wanted = InstanceSpec {
        recovery_id: "r-1".into(),
        shard: "orders".parse().unwrap(),
        primary_zone: "eu-west-1a".into(),
        zone: "eu-west-1b".into(),
        subnet: "subnet-1".into(),
        snapshots: [("/dev/sdf".to_owned(), "snap-1".to_owned())].into(),
        volumes: BTreeMap::new(),
        protection: DestroyProtection::Off,
        folder: "/srv/new/.backstop".into(),
    };
    stored("wanted.json", &[wanted]);
    stored("protection.json", &every!(DestroyProtection: DestroyProtection::Off, DestroyProtection::On));
    let changes = InfrastructureChanges {
        told: vec!["instance will be created".into()],
        add: 1,
        change: 2,
        destroy: 3,
    };
    stored("changes.json", &[changes]);
    let made = CreatedInstance {
        server: "10.0.0.1:3306".parse().unwrap(),
        instance_id: "i-1".into(),
        volume_ids: vec!["vol-1".into()],
        inventory: "mysql: {}".into(),
    };
    stored("made.json", &[made]);
    stored(
        "loading.json",
        &every!(
            VolumeInitialization:
            VolumeInitialization::Loaded => VolumeInitialization::Loaded,
            VolumeInitialization::Percent(_) => VolumeInitialization::Percent(7),
            VolumeInitialization::WhenRead => VolumeInitialization::WhenRead,
        ),
    );
    let settings = |value: &str| [("innodb_page_size".to_owned(), value.to_owned())].into();
    let site = PlaybookInputs {
        inventory: "mysql: {}".into(),
        backup_id: "20261123T022133Z-9f3a04c1".parse().unwrap(),
        gtid_executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap(),
        server_version: "8.0.36".parse().unwrap(),
        recorded: settings("16384"),
        options: settings("4096"),
        server_id: 77,
        primary: Some("db1:3306".parse().unwrap()),
        on_host: None,
        folder: "/srv/new/.backstop".into(),
    };
    stored("site.json", &[site]);
}

/// Names of steps are in journals, in the JSON progress, and in the tests that stop a story there.
#[test]
fn step_names_keep_stored_form() {
    let mut names = BTreeSet::new();
    for file in sources(Path::new("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.split("\nmod tests {").next().unwrap();
        for call in [".once(", ".again(", ".step(", ".is_done(", ".has_begun(", ".output(", " step("] {
            for after in text.split(call).skip(1) {
                let name = after.trim_start().strip_prefix('"').and_then(|name| name.split('"').next());
                names.extend(name.map(str::to_owned));
            }
        }
    }
    frozen("step-names.txt", &names.iter().map(|name| format!("{name}\n")).collect::<String>());
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("frozen.rs") {
            all.push(path);
        }
    }
    all
}

#[test]
fn errors_and_exit_codes() {
    let kinds = every!(
        ErrorKind: ErrorKind::Failed, ErrorKind::Usage, ErrorKind::Store, ErrorKind::Held, ErrorKind::Denied, ErrorKind::Refused,
        ErrorKind::NotRecoverable, ErrorKind::Damaged, ErrorKind::Interrupted
    );
    let errors = kinds.into_iter().map(|kind| Error::new(kind, "it broke").hint("mend it"));
    let mut reports: Vec<ErrorReport> = errors.map(|error| ErrorReport::from(&error)).collect();
    reports.push(ErrorReport::from(&Error::failed("it broke")));
    published("error.json", &reports.iter().map(VersionedReport::new).collect::<Vec<_>>());
    assert_eq!(REPORT_VERSION, 1);
}
