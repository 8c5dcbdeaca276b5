//! Recovery windows: the recoverable moments, computed from what is stored, never assumed.
//!
//! Segments of a timeline that follow each other without a gap are a *run*. A backup that holds
//! everything from before a run and nothing from after it reaches every moment from its own to the
//! end of the run. The transactions missing between two runs are a gap.

use backstop_types::archive::{Archive, Timeline};
use backstop_types::backup::BackupRef;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::BackupId;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::plan::is_on_timeline;

/// The recoverable moments of a timeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TimelineCoverage {
    /// Spans in which every moment is recoverable, in order.
    pub windows: Vec<CoveredSpan>,
    /// The gaps between them, in order.
    pub gaps: Vec<CoverageGap>,
}

/// A span in which every moment can be recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoveredSpan {
    /// Its first moment.
    pub from: DateTime<Utc>,
    /// Its last moment.
    pub to: DateTime<Utc>,
    /// The backup that reaches its first moment.
    pub backup_id: BackupId,
    /// The GTIDs recoverable at its first moment.
    pub gtid_from: GtidSet,
    /// The GTIDs recoverable at its last moment.
    pub gtid_to: GtidSet,
}

/// A span that should be recoverable but is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoverageGap {
    /// The last moment before it that the archive knows.
    pub from: DateTime<Utc>,
    /// The first recoverable moment after it; `None`: there is none yet.
    pub to: Option<DateTime<Utc>>,
    /// The transactions that are missing.
    pub missing: GtidSet,
    /// The damaged objects that contained them, if any.
    pub objects: Vec<String>,
}

/// Segments that follow each other without a gap.
struct SegmentRun {
    /// All that precedes it.
    base: GtidSet,
    held: GtidSet,
    /// The transactions missing between the previous run and this one.
    missing: GtidSet,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
}

/// Computes the recoverable moments of a timeline. `None`: the archive is empty, and each backup is
/// a span of one moment.
pub fn timeline_coverage(
    archive: &Archive,
    timeline: Option<&Timeline>,
    backups: &[BackupRef],
) -> TimelineCoverage {
    let mut backups: Vec<&BackupRef> = backups.iter().collect();
    backups.sort_by_key(|backup| (backup.taken_at, backup.gtid_executed.count()));
    let Some(timeline) = timeline else {
        return TimelineCoverage {
            windows: backups.iter().map(|backup| alone(backup)).collect(),
            gaps: Vec::new(),
        };
    };
    backups.retain(|backup| is_on_timeline(archive, timeline, backup));
    let (runs, open) = runs(archive, timeline);
    let mut windows: Vec<CoveredSpan> = runs.iter().filter_map(|run| span(run, &backups)).collect();
    let reached = |backup: &&&BackupRef| !runs.iter().any(|run| reaches(run, backup));
    windows.extend(backups.iter().filter(reached).map(|backup| alone(backup)));
    windows.sort_by_key(|window| (window.from, window.to));
    let gaps = gaps(archive, &runs, open, &windows);
    TimelineCoverage { windows, gaps }
}

/// Returns the runs of a timeline, and the known missing transactions after the last.
fn runs(archive: &Archive, timeline: &Timeline) -> (Vec<SegmentRun>, GtidSet) {
    let mut runs: Vec<SegmentRun> = Vec::new();
    for segment in archive.history(timeline.number) {
        let Some(run) = runs.last_mut() else {
            runs.push(SegmentRun::begin(segment.previous.clone(), GtidSet::new()));
            runs.last_mut().into_iter().for_each(|run| run.take(&segment));
            continue;
        };
        let missing = segment.previous.subtract(&run.held);
        if missing.is_empty() {
            run.take(&segment);
        } else {
            let mut next = SegmentRun::begin(run.held.union(&segment.previous), missing);
            next.take(&segment);
            runs.push(next);
        }
    }
    let mut lost = archive.lost(timeline.number);
    let current = archive.current().is_some_and(|current| current.number == timeline.number);
    if let Some(alive) = archive.alive.as_ref().filter(|_| current) {
        lost = lost.union(&alive.archived);
        if let Some(run) = runs.last_mut()
            && alive.archived.is_subset_of(&run.held)
        {
            run.last = run.last.max(alive.complete_to);
        }
    }
    let open = runs.last().map(|run| lost.subtract(&run.held)).unwrap_or_default();
    (runs, open)
}

impl SegmentRun {
    fn begin(base: GtidSet, missing: GtidSet) -> Self {
        Self { held: base.clone(), base, missing, first: None, last: None }
    }

    fn take(&mut self, segment: &backstop_types::archive::ArchivedSegment) {
        self.held = self.held.union(&segment.gtids);
        if let Some((first, last)) = segment.committed {
            self.first = Some(self.first.map_or(first, |known| known.min(first)));
            self.last = self.last.max(Some(last));
        }
    }
}

fn reaches(run: &SegmentRun, backup: &BackupRef) -> bool {
    run.base.is_subset_of(&backup.gtid_executed) && backup.gtid_executed.is_subset_of(&run.held)
}

fn span(run: &SegmentRun, backups: &[&BackupRef]) -> Option<CoveredSpan> {
    let first = backups.iter().find(|backup| reaches(run, backup))?;
    let newest = backups.iter().rfind(|backup| reaches(run, backup))?;
    Some(CoveredSpan {
        from: first.taken_at,
        to: run.last.unwrap_or(first.taken_at).max(newest.taken_at),
        backup_id: first.backup_id.clone(),
        gtid_from: first.gtid_executed.clone(),
        gtid_to: run.held.clone(),
    })
}

fn alone(backup: &BackupRef) -> CoveredSpan {
    CoveredSpan {
        from: backup.taken_at,
        to: backup.taken_at,
        backup_id: backup.backup_id.clone(),
        gtid_from: backup.gtid_executed.clone(),
        gtid_to: backup.gtid_executed.clone(),
    }
}

/// Returns the gap before each run but the first, and after the last.
fn gaps(archive: &Archive, runs: &[SegmentRun], open: GtidSet, windows: &[CoveredSpan]) -> Vec<CoverageGap> {
    let mut gaps = Vec::new();
    for pair in runs.windows(2) {
        let [before, after] = pair else { continue };
        gaps.push(hole(archive, before, Some(after), after.missing.clone(), windows));
    }
    if let (Some(last), false) = (runs.last(), open.is_empty()) {
        gaps.push(hole(archive, last, None, open, windows));
    }
    gaps
}

fn hole(
    archive: &Archive,
    before: &SegmentRun,
    after: Option<&SegmentRun>,
    missing: GtidSet,
    windows: &[CoveredSpan],
) -> CoverageGap {
    let reached = |window: &&CoveredSpan| missing.is_subset_of(&window.gtid_from);
    let to = windows.iter().filter(reached).map(|window| window.from).min();
    let known = before.last.or_else(|| after.and_then(|run| run.first)).or(to);
    let objects = archive.damaged.iter().filter(|damage| !damage.gtids.intersect(&missing).is_empty());
    let objects = objects.map(|damage| damage.object.clone()).collect();
    CoverageGap { from: known.unwrap_or(DateTime::UNIX_EPOCH), to, missing, objects }
}
