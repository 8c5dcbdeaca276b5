//! Report of `status` on each shard.

use backstop_policy::coverage::Coverage;
use backstop_types::finding::{Finding, Severity};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::run_history::RunRecord;
use backstop_types::topology::Role;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::BackupReport;

/// `status --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// True if there is at least one shard and none has a problem.
    pub ok: bool,
    /// Every requested shard.
    pub shards: Vec<ShardStatus>,
    /// Findings that concern no single shard.
    pub findings: Vec<Finding>,
}

/// Status of one shard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardName,
    /// Its newest backup.
    pub last_backup: Option<BackupReport>,
    /// The recoverable moments.
    pub coverage: Coverage,
    /// Its members at the time of this report; empty if they could not be queried.
    pub members: Vec<MemberStatus>,
    /// Seconds of the primary's transactions that would be lost if the shard were lost now; `None`
    /// if the primary did not answer.
    pub rpo_seconds: Option<f64>,
    /// Duration of a recovery in seconds; `None` until it is measured.
    pub rto_seconds: Option<f64>,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The last runs of the commands that write for it, newest first within each operation.
    pub runs: Vec<RunRecord>,
}

/// Status of a member of a shard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberStatus {
    /// The address at which it was queried.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Its role; `None`: it did not answer.
    pub role: Option<Role>,
    /// True if the configuration (or orchestrator) names it the candidate primary.
    pub candidate: bool,
    /// Lag behind its source that it reports, in seconds; `None`: it is the primary, or does not
    /// know.
    pub lag_seconds: Option<f64>,
    /// Reason why it could not be backed up now; `None`: it could.
    pub wrong: Option<String>,
}

impl StatusReport {
    /// Returns the report of these shards.
    pub fn new(shards: Vec<ShardStatus>) -> Self {
        let fine = |shard: &ShardStatus| {
            shard.coverage.gaps.is_empty() && shard.findings.iter().all(|f| f.severity < Severity::Problem)
        };
        let none = shards.is_empty().then(|| {
            Finding::problem(
                "no-shard",
                "no shard is configured: nothing was checked",
                "add a table [shards.NAME] to the configuration, or name another file with --config",
            )
        });
        Self {
            ok: !shards.is_empty() && shards.iter().all(fine),
            shards,
            findings: none.into_iter().collect(),
        }
    }
}

/// Computes the loss in seconds if the shard were lost: zero if the newest backup (its moment and
/// its set) holds all that the primary has, else the time since that moment. `None` without a
/// backup.
pub fn rpo_seconds(
    newest: Option<(DateTime<Utc>, &GtidSet)>,
    primary: &GtidSet,
    now: DateTime<Utc>,
) -> Option<f64> {
    let (taken_at, held) = newest?;
    if primary.is_subset_of(held) {
        return Some(0.0);
    }
    let since = now.signed_duration_since(taken_at).num_milliseconds().max(0);
    Some(since as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use backstop_policy::coverage::RecoveryGap;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn status(gaps: Vec<RecoveryGap>, findings: Vec<Finding>) -> ShardStatus {
        ShardStatus {
            shard: "orders".parse().unwrap(),
            last_backup: None,
            coverage: Coverage { gaps, ..Coverage::default() },
            members: vec![],
            rpo_seconds: None,
            rto_seconds: None,
            findings,
            runs: vec![],
        }
    }

    #[test]
    fn status_is_not_ok_with_gaps_or_problems() {
        assert!(StatusReport::new(vec![status(vec![], vec![Finding::warning("a", "b", "c")])]).ok);
        assert!(!StatusReport::new(vec![status(vec![], vec![Finding::problem("a", "b", "c")])]).ok);
        let gap = RecoveryGap { from: at(0), to: Some(at(9)), missing: GtidSet::new(), objects: vec![] };
        let report = StatusReport::new(vec![status(vec![], vec![]), status(vec![gap], vec![])]);
        assert!(!report.ok);
        let nothing = StatusReport::new(vec![]);
        assert!(!nothing.ok && nothing.findings[0].code == "no-shard");
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["shards"][1]["rto_seconds"].is_null());
        assert!(json["shards"][1]["coverage"]["gaps"][0]["from"].is_string());
    }

    #[test]
    fn rpo_is_the_age_of_the_first_unarchived_transaction() {
        let set = |text: &str| {
            text.replace('A', "3e11fa47-71ca-11e1-9e33-c80aa9429562").parse::<GtidSet>().unwrap()
        };
        let held = set("A:1-9");
        assert_eq!(rpo_seconds(Some((at(0), &held)), &set("A:1-9"), at(60)), Some(0.0));
        assert_eq!(rpo_seconds(Some((at(0), &held)), &set("A:1-10"), at(60)), Some(60.0));
        assert_eq!(rpo_seconds(Some((at(90), &held)), &set("A:1-10"), at(60)), Some(0.0));
        assert_eq!(rpo_seconds(None, &held, at(60)), None);
    }
}
