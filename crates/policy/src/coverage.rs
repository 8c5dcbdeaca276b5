//! The moments to which a shard can be recovered, and the gaps between them.

use std::collections::BTreeSet;

use backstop_types::archive::{Archive, ArchiveDamage, Timeline};
use backstop_types::backup::BackupRef;
use backstop_types::finding::Finding;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ShardName;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::recovery_window::{CoverageGap, CoveredSpan, timeline_coverage};

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
