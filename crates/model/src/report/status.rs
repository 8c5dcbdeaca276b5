//! What `status` says of each shard.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::finding::{Finding, Severity};
use crate::gtid::GtidSet;
use crate::ids::ShardName;

use super::BackupReport;

/// `status --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusReport {
    /// True if no shard has a problem.
    pub ok: bool,
    /// Every shard that was asked for.
    pub shards: Vec<ShardStatus>,
}

/// How one shard stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardStatus {
    /// The shard.
    pub shard: ShardName,
    /// Its newest backup.
    pub last_backup: Option<BackupReport>,
    /// Which moments can be recovered.
    pub coverage: Coverage,
    /// How many seconds of the primary's transactions would be lost if the shard were lost now; `None` if the primary
    /// did not tell.
    pub rpo_seconds: Option<f64>,
    /// How many seconds a recovery takes; `None` until it is measured.
    pub rto_seconds: Option<f64>,
    /// What is worth saying.
    pub findings: Vec<Finding>,
}

/// Which moments can be recovered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Spans in which every moment can be. A backup without an archive is a span of one moment.
    pub windows: Vec<Window>,
    /// What is missing between spans that an archive should have joined. Without an archive nothing promises to, and
    /// there are none.
    pub gaps: Vec<Gap>,
}

/// A span in which every moment can be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Its first moment.
    pub from: DateTime<Utc>,
    /// Its last moment.
    pub to: DateTime<Utc>,
}

/// A span that should be recoverable and is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The last moment before it that can be recovered.
    pub from: DateTime<Utc>,
    /// The first moment after it that can be recovered.
    pub to: DateTime<Utc>,
    /// The transactions that are missing.
    pub missing: GtidSet,
}

impl StatusReport {
    /// The report of these shards.
    pub fn new(shards: Vec<ShardStatus>) -> Self {
        let fine = |shard: &ShardStatus| {
            shard.coverage.gaps.is_empty() && shard.findings.iter().all(|f| f.severity < Severity::Problem)
        };
        Self { ok: shards.iter().all(fine), shards }
    }
}

/// The coverage of backups alone: their moments, in order.
pub fn coverage(taken_at: impl IntoIterator<Item = DateTime<Utc>>) -> Coverage {
    let mut moments: Vec<_> = taken_at.into_iter().collect();
    moments.sort_unstable();
    moments.dedup();
    let windows = moments.into_iter().map(|at| Window { from: at, to: at }).collect();
    Coverage { windows, gaps: Vec::new() }
}

/// What would be lost with the shard: nothing if the newest backup (its moment and its set) holds all that the primary
/// has, else up to everything since its moment. `None` without a backup.
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

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn status(gaps: Vec<Gap>, findings: Vec<Finding>) -> ShardStatus {
        ShardStatus {
            shard: "orders".parse().unwrap(),
            last_backup: None,
            coverage: Coverage { windows: vec![], gaps },
            rpo_seconds: None,
            rto_seconds: None,
            findings,
        }
    }

    #[test]
    fn gaps_and_problems_are_not_ok() {
        assert!(StatusReport::new(vec![status(vec![], vec![Finding::warning("a", "b", "c")])]).ok);
        assert!(!StatusReport::new(vec![status(vec![], vec![Finding::problem("a", "b", "c")])]).ok);
        let gap = Gap { from: at(0), to: at(9), missing: GtidSet::new() };
        let report = StatusReport::new(vec![status(vec![], vec![]), status(vec![gap], vec![])]);
        assert!(!report.ok);
        let json = serde_json::to_value(&report).unwrap();
        assert!(json["shards"][1]["rto_seconds"].is_null());
        assert!(json["shards"][1]["coverage"]["gaps"][0]["from"].is_string());
    }

    #[test]
    fn backups_cover_their_moments() {
        let windows = coverage([at(5), at(1), at(5)]).windows;
        assert_eq!(windows, [Window { from: at(1), to: at(1) }, Window { from: at(5), to: at(5) }]);
    }

    #[test]
    fn what_would_be_lost() {
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
