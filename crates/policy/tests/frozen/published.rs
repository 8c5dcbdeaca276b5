//! Values that are published but not stored.

use backstop_policy::plan::{NotRecoverable, ReachablePoint};
use backstop_policy::recovery_window::{CoverageGap, CoveredSpan, TimelineCoverage};
use backstop_policy::retention::{RetentionVerdict, RetentionVote};
use backstop_types::ids::Endpoint;
use backstop_types::topology::RejectedMember;

use crate::every;
use crate::frozen::published;
use crate::sample::{at, gtids, of};

#[test]
fn values_that_are_only_published() {
    let (id, from) = (of("20261123T022133Z-9f3a04c1"), at("2026-11-23T02:21:33Z"));
    let votes = every!(
        RetentionVerdict:
        RetentionVerdict::Keep { .. } => RetentionVerdict::Keep { reasons: vec!["it is the newest".into()] },
        RetentionVerdict::Delete { .. } => RetentionVerdict::Delete { reason: "no retention rule keeps it".into() }
    );
    let vote = |verdict| RetentionVote { id: of("20261123T022133Z-9f3a04c1"), taken_at: from, verdict };
    published("vote.json", &votes.into_iter().map(vote).collect::<Vec<_>>());
    published(
        "rejection.json",
        &[RejectedMember { endpoint: Endpoint { host: "db2".into(), port: 3306 }, reason: "it lags".into() }],
    );
    let nearest = vec![ReachablePoint { backup_id: id, at: from }];
    published(
        "not-recoverable.json",
        &[NotRecoverable {
            shard: of("orders"),
            target: "latest".into(),
            reason: "nothing is there".into(),
            nearest,
        }],
    );
    let span = CoveredSpan {
        from,
        to: from,
        backup_id: of("20261123T022133Z-9f3a04c1"),
        gtid_from: gtids("A:1-3"),
        gtid_to: gtids("A:1-9"),
    };
    let hole =
        CoverageGap { from, to: Some(from), missing: gtids("A:4"), objects: vec!["segments/1".into()] };
    published("line-coverage.json", &[TimelineCoverage { windows: vec![span], gaps: vec![hole] }]);
}
