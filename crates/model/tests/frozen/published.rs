//! Errors and exit codes, and what values are when they are published only.

use backstop_model::coverage::{Hole, LineCoverage, Span};
use backstop_model::fault::{Fault, Kind};
use backstop_model::ids::Endpoint;
use backstop_model::plan::{NotRecoverable, Reachable};
use backstop_model::report::{FaultReport, VERSION, Versioned};
use backstop_model::retention::{Verdict, Vote};
use backstop_model::topology::Rejection;

use crate::every;
use crate::frozen::published;
use crate::sample::{at, gtids, of};

#[test]
fn errors_and_exit_codes() {
    let kinds = every!(
        Kind: Kind::Failed, Kind::Usage, Kind::Store, Kind::Held, Kind::Denied, Kind::Refused,
        Kind::NotRecoverable, Kind::Damaged, Kind::Interrupted
    );
    let faults = kinds.into_iter().map(|kind| Fault::new(kind, "it broke").hint("mend it"));
    let mut reports: Vec<FaultReport> = faults.map(|fault| FaultReport::from(&fault)).collect();
    reports.push(FaultReport::from(&Fault::failed("it broke")));
    published("error.json", &reports.iter().map(Versioned::new).collect::<Vec<_>>());
    assert_eq!(VERSION, 1);
}

#[test]
fn values_that_are_only_published() {
    let (id, from) = (of("20261123T022133Z-9f3a04c1"), at("2026-11-23T02:21:33Z"));
    let votes = every!(
        Verdict:
        Verdict::Keep { .. } => Verdict::Keep { reasons: vec!["it is the newest".into()] },
        Verdict::Delete { .. } => Verdict::Delete { reason: "no retention rule keeps it".into() }
    );
    let vote = |verdict| Vote { id: of("20261123T022133Z-9f3a04c1"), taken_at: from, verdict };
    published("vote.json", &votes.into_iter().map(vote).collect::<Vec<_>>());
    published(
        "rejection.json",
        &[Rejection { endpoint: Endpoint { host: "db2".into(), port: 3306 }, reason: "it lags".into() }],
    );
    let nearest = vec![Reachable { backup_id: id, at: from }];
    published(
        "not-recoverable.json",
        &[NotRecoverable {
            shard: of("orders"),
            target: "latest".into(),
            reason: "nothing is there".into(),
            nearest,
        }],
    );
    let span = Span {
        from,
        to: from,
        backup_id: of("20261123T022133Z-9f3a04c1"),
        gtid_from: gtids("A:1-3"),
        gtid_to: gtids("A:1-9"),
    };
    let hole = Hole { from, to: Some(from), missing: gtids("A:4"), objects: vec!["segments/1".into()] };
    published("line-coverage.json", &[LineCoverage { windows: vec![span], gaps: vec![hole] }]);
}
