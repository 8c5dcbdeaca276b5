//! Which pieces of an archive nobody needs any more.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::archive::{Archive, ArchivedSegment, Line, SegmentState};
use crate::gtid::GtidSet;
use crate::plan::Known;

/// The numbers of the pieces that may go, with `backups` those that are kept. A piece stays as long as it is younger than `keep`, and as
/// long as a backup needs it that is younger than `keep` itself, or, if none is, the newest one. An older backup is a moment by
/// itself. Without a rule, and without a backup, everything stays.
pub fn forgotten(
    keep: Option<Duration>,
    archive: &Archive,
    backups: &[Known],
    now: DateTime<Utc>,
) -> BTreeSet<u64> {
    let Some(keep) = keep else { return BTreeSet::new() };
    let before = TimeDelta::from_std(keep).ok().and_then(|keep| now.checked_sub_signed(keep));
    let (Some(before), Some(newest)) = (before, backups.iter().max_by_key(|backup| backup.taken_at)) else {
        return BTreeSet::new();
    };
    let mut starts: Vec<&Known> = backups.iter().filter(|backup| backup.taken_at >= before).collect();
    if starts.is_empty() {
        starts.push(newest);
    }
    let mut needed = BTreeSet::new();
    for line in &archive.lines {
        let held = archive.held(line.number).unwrap_or_default();
        let is_current = archive.current() == Some(line);
        let ours = |backup: &&&Known| starts_in(backup, line, &held, is_current);
        let ours: Vec<&&Known> = starts.iter().filter(ours).collect();
        for segment in archive.history(line.number) {
            if ours.iter().any(|backup| !segment.gtids.is_subset_of(&backup.gtid_executed)) {
                needed.insert(segment.number);
            }
        }
    }
    let mut kept: BTreeSet<u64> = BTreeSet::new();
    // What holds no transaction goes with what comes after it.
    let mut after: Option<bool> = None;
    for segment in archive.segments.iter().rev() {
        let young = match segment.committed {
            Some((_, last)) => last >= before,
            None => after.unwrap_or(true),
        };
        let keeps = young || segment.state == SegmentState::Tail || needed.contains(&segment.number);
        after = Some(keeps);
        if keeps {
            kept.insert(segment.number);
        }
    }
    keep_beginnings(&archive.segments, &mut kept);
    archive.segments.iter().map(|segment| segment.number).filter(|number| !kept.contains(number)).collect()
}

/// True for a backup from which the line's pieces can be replayed.
fn starts_in(backup: &Known, line: &Line, held: &GtidSet, is_current: bool) -> bool {
    let set = &backup.gtid_executed;
    line.lacks.intersect(set).is_empty() && (is_current || set.is_subset_of(held))
}

/// The beginning of a file describes what follows.
fn keep_beginnings(segments: &[ArchivedSegment], kept: &mut BTreeSet<u64>) {
    let files: BTreeSet<_> = segments
        .iter()
        .filter(|segment| kept.contains(&segment.number))
        .map(|segment| (segment.source, &segment.file))
        .collect();
    let begins =
        |segment: &&ArchivedSegment| segment.start == 0 && files.contains(&(segment.source, &segment.file));
    kept.extend(segments.iter().filter(begins).map(|segment| segment.number));
}
