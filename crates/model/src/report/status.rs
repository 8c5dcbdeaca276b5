//! Report of `status` on each shard.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::archive::{Archive, ArchiveDamage, Timeline};
use crate::finding::{Finding, Severity};
use crate::gtid::GtidSet;
use crate::ids::{Endpoint, ShardName};
use crate::plan::BackupRef;
use crate::recovery_window::{CoverageGap, CoveredSpan, timeline_coverage};
use crate::run_history::RunRecord;
use crate::topology::Role;

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

/// The recoverable moments of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Spans in which every moment can be recovered. A backup without an archive is a span of one
    /// moment.
    pub windows: Vec<RecoveryWindow>,
    /// Gaps between spans that an archive should have joined. Without an archive no gap is
    /// reported, since nothing promises to join the spans.
    pub gaps: Vec<RecoveryGap>,
    /// The timeline of these windows and gaps; absent without an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "line")]
    pub timeline: Option<u32>,
    /// Timelines that were abandoned at failovers, each with the windows that only `--line`
    /// recovers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "left_lines")]
    pub abandoned_timelines: Vec<AbandonedTimeline>,
    /// Objects of the archive that cannot be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<ArchiveDamage>,
}

/// A span in which every moment can be recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryWindow {
    /// Its first moment.
    pub from: DateTime<Utc>,
    /// Its last moment.
    pub to: DateTime<Utc>,
    /// Transactions of a recovery to its first moment.
    pub gtid_from: GtidSet,
    /// Transactions of a recovery to its last moment.
    pub gtid_to: GtidSet,
}

/// A span that should be recoverable but is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryGap {
    /// The last recoverable moment before it.
    pub from: DateTime<Utc>,
    /// The first recoverable moment after it; `None`: there is none yet. A backup ends the gap.
    pub to: Option<DateTime<Utc>>,
    /// The transactions that are missing.
    pub missing: GtidSet,
    /// The damaged objects that contained them, if any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
}

/// A timeline that was abandoned at a failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AbandonedTimeline {
    /// Its number, for `--line`.
    #[serde(rename = "line")]
    pub timeline: u32,
    /// Time of the failover, by the archiver's clock.
    pub left_at: DateTime<Utc>,
    /// The transactions that are in it and in no later line.
    pub lost: GtidSet,
    /// Its spans.
    pub windows: Vec<RecoveryWindow>,
}

impl Coverage {
    /// Computes the moments that are recoverable from these backups and this archive.
    pub fn of(archive: &Archive, backups: &[BackupRef]) -> Self {
        let current = archive.current();
        let of_line = timeline_coverage(archive, current, backups);
        Self {
            windows: of_line.windows.into_iter().map(window).collect(),
            gaps: of_line.gaps.into_iter().map(gap).collect(),
            timeline: current.map(|timeline| timeline.number),
            abandoned_timelines: archive
                .timelines
                .windows(2)
                .map(|pair| left(archive, &pair[0], &pair[1], backups))
                .collect(),
            damaged: archive.damaged.clone(),
        }
    }

    /// Returns findings about gaps, damage and abandoned timelines.
    pub fn findings(&self, shard: &ShardName) -> Vec<Finding> {
        let gaps = self.gaps.iter().map(|gap| gap_finding(gap, shard));
        let explained: BTreeSet<&String> = self.gaps.iter().flat_map(|gap| &gap.objects).collect();
        let damage = self.damaged.iter().filter(|damage| !explained.contains(&damage.object));
        let damage = damage.map(|damage| {
            Finding::problem(
                "archive-damaged",
                format!("the archive's object {} is unusable: {}", damage.object, damage.wrong),
                format!("restore it, or make a backup: `backstop backup {shard}`; `backstop verify {shard}` shows the details"),
            )
        });
        gaps.chain(damage).collect()
    }
}

fn left(archive: &Archive, timeline: &Timeline, next: &Timeline, backups: &[BackupRef]) -> AbandonedTimeline {
    AbandonedTimeline {
        timeline: timeline.number,
        left_at: next.begun_at,
        lost: next.lacks.clone(),
        windows: timeline_coverage(archive, Some(timeline), backups)
            .windows
            .into_iter()
            .map(window)
            .collect(),
    }
}

fn window(span: CoveredSpan) -> RecoveryWindow {
    RecoveryWindow { from: span.from, to: span.to, gtid_from: span.gtid_from, gtid_to: span.gtid_to }
}

fn gap(hole: CoverageGap) -> RecoveryGap {
    RecoveryGap { from: hole.from, to: hole.to, missing: hole.missing, objects: hole.objects }
}

fn gap_finding(gap: &RecoveryGap, shard: &ShardName) -> Finding {
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let (from, to) = (text(gap.from), gap.to.map_or("now".to_owned(), text));
    let objects = if gap.objects.is_empty() {
        String::new()
    } else {
        format!(" (they were in {})", gap.objects.join(", "))
    };
    Finding::problem(
        "coverage-gap",
        format!(
            "moments of shard {shard} from {from} to {to} cannot be recovered: {} are not archived{objects}",
            gap.missing
        ),
        match gap.to {
            Some(_) => {
                "moments before and after the gap are recoverable; the gap disappears when retention expires it".to_owned()
            }
            None => {
                format!("make a backup, so that later moments are recoverable: `backstop backup {shard}`")
            }
        },
    )
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
