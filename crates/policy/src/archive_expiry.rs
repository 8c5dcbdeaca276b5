//! Decides which segments of an archive are no longer needed.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_types::archive::{Archive, ArchivedSegment, SegmentState, Timeline};
use backstop_types::backup::BackupRef;
use backstop_types::gtid::GtidSet;
use chrono::{DateTime, TimeDelta, Utc};

use crate::plan::is_on_timeline;

/// Returns the numbers of the segments that may be removed; `backups` are the backups that are
/// kept.
///
/// A segment is kept while it is younger than `keep`, and while a backup needs it that is younger
/// than `keep` itself; if no backup is, the newest one counts. An older backup only
/// restores its moment, without a replay. The last segment of each server in the current timeline
/// is kept too. Without a rule, or without a backup, everything is kept.
pub fn expired_segments(
    keep: Option<Duration>,
    archive: &Archive,
    backups: &[BackupRef],
    now: DateTime<Utc>,
) -> BTreeSet<u64> {
    let Some(keep) = keep else { return BTreeSet::new() };
    let before = TimeDelta::from_std(keep).ok().and_then(|keep| now.checked_sub_signed(keep));
    let (Some(before), Some(newest)) = (before, backups.iter().max_by_key(|backup| backup.taken_at)) else {
        return BTreeSet::new();
    };
    let mut starts: Vec<&BackupRef> = backups.iter().filter(|backup| backup.taken_at >= before).collect();
    if starts.is_empty() {
        starts.push(newest);
    }
    let mut needed = BTreeSet::new();
    for timeline in &archive.timelines {
        let held = archive.held(timeline.number).unwrap_or_default();
        let is_current = archive.current() == Some(timeline);
        let ours = |backup: &&&BackupRef| is_replay_base(archive, backup, timeline, &held, is_current);
        let ours: Vec<&&BackupRef> = starts.iter().filter(ours).collect();
        for segment in archive.history(timeline.number) {
            if ours.iter().any(|backup| !segment.gtids.is_subset_of(&backup.gtid_executed)) {
                needed.insert(segment.number);
            }
        }
    }
    let mut kept: BTreeSet<u64> = BTreeSet::new();
    // A segment without a transaction is removed together with the segment after it.
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
    // A restarted archiver resumes after these.
    let current = archive.current().map_or(0, |timeline| timeline.number);
    kept.extend(archive.last_segments(current).iter().map(|segment| segment.number));
    keep_file_beginnings(&archive.segments, &mut kept);
    archive.segments.iter().map(|segment| segment.number).filter(|number| !kept.contains(number)).collect()
}

/// True for a backup from which the timeline's segments can be replayed.
fn is_replay_base(
    archive: &Archive,
    backup: &BackupRef,
    timeline: &Timeline,
    held: &GtidSet,
    is_current: bool,
) -> bool {
    is_on_timeline(archive, timeline, backup) && (is_current || backup.gtid_executed.is_subset_of(held))
}

/// Keeps the beginnings of files, since they describe the events after them.
fn keep_file_beginnings(segments: &[ArchivedSegment], kept: &mut BTreeSet<u64>) {
    let files: BTreeSet<_> = segments
        .iter()
        .filter(|segment| kept.contains(&segment.number))
        .map(|segment| (segment.source, &segment.file))
        .collect();
    let begins =
        |segment: &&ArchivedSegment| segment.start == 0 && files.contains(&(segment.source, &segment.file));
    kept.extend(segments.iter().filter(begins).map(|segment| segment.number));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::archive::{Segment, SegmentHash};
    use backstop_types::ids::BackupId;

    use super::*;

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
    const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";
    const DAY: i64 = 86_400;

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().unwrap()
    }

    fn at(day: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + day * DAY, 0).unwrap()
    }

    fn line(number: u32, common: &str, lacks: &str) -> Timeline {
        let parent = (number > 1).then(|| number - 1);
        let source = A.parse().unwrap();
        Timeline { number, parent, begun_at: at(0), source, common: set(common), lacks: set(lacks) }
    }

    /// Returns a segment with ten transactions of a day, in a separate file.
    fn piece(day: i64) -> ArchivedSegment {
        let before = day * 10;
        let previous = if day == 0 { set("") } else { set(&format!("A:1-{before}")) };
        ArchivedSegment {
            number: day as u64 + 1,
            timeline: 1,
            segment: Segment {
                source: A.parse().unwrap(),
                file: format!("binlog.{day:06}"),
                start: 0,
                end: 100,
                previous,
                gtids: set(&format!("A:{}-{}", before + 1, before + 10)),
                committed: Some((at(day), at(day))),
                hash: SegmentHash([0; 32]),
            },
            state: SegmentState::Sealed,
            object: String::new(),
            stored_bytes: 0,
            digest: String::new(),
        }
    }

    fn archive(days: i64) -> Archive {
        let segments = (0..days).map(piece).collect();
        Archive { timelines: vec![line(1, "", "")], segments, ..Archive::default() }
    }

    fn backup(day: i64) -> BackupRef {
        let taken_at = at(day);
        let gtid_executed = if day == 0 { set("") } else { set(&format!("A:1-{}", day * 10)) };
        BackupRef { backup_id: BackupId::new(taken_at, 1), taken_at, gtid_executed, on_timeline: None }
    }

    fn days(count: u64) -> Option<Duration> {
        Some(Duration::from_secs(count * 86_400))
    }

    fn gone(keep: Option<Duration>, archive: &Archive, backups: &[BackupRef], now: i64) -> Vec<u64> {
        expired_segments(keep, archive, backups, at(now)).into_iter().collect()
    }

    #[test]
    fn segments_needed_by_a_young_backup_are_kept() {
        let archive = archive(10);
        assert_eq!(gone(days(3), &archive, &[backup(1), backup(5), backup(8)], 10), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(gone(days(5), &archive, &[backup(1), backup(5), backup(8)], 10), [1, 2, 3, 4, 5]);
        assert_eq!(
            gone(days(3), &archive, &[backup(4)], 10),
            [1, 2, 3, 4],
            "the newest, since backups stopped"
        );
        assert!(gone(days(3), &archive, &[], 10).is_empty(), "without a backup nothing goes");
        assert!(gone(None, &archive, &[backup(9)], 10).is_empty(), "without a rule nothing goes");
        assert!(gone(days(3), &archive, &[backup(0)], 10).is_empty());
    }

    #[test]
    fn first_segment_of_a_file_and_the_tail_are_kept() {
        let mut archive = archive(10);
        archive.segments.iter_mut().for_each(|stored| stored.segment.file = "binlog.000001".into());
        archive.segments.iter_mut().skip(1).for_each(|stored| stored.segment.start = 7);
        assert_eq!(gone(days(3), &archive, &[backup(8)], 10), [2, 3, 4, 5, 6, 7]);
        archive.segments[2].state = SegmentState::Tail;
        assert_eq!(gone(days(3), &archive, &[backup(8)], 10), [2, 4, 5, 6, 7]);
    }

    #[test]
    fn expired_segments_are_no_gap() {
        let mut archive = archive(10);
        archive.segments.iter_mut().for_each(|stored| stored.segment.file = "binlog.000001".into());
        archive.segments.iter_mut().skip(1).for_each(|stored| stored.segment.start = 7);
        let gone = expired_segments(days(3), &archive, &[backup(8)], at(10));
        archive.segments.retain(|segment| !gone.contains(&segment.number));
        assert_eq!(archive.history(1).len(), 4, "the beginning of the file, and a hole behind it");
        archive.forgotten.push((2, 7));
        let numbers = |all: Vec<ArchivedSegment>| all.iter().map(|piece| piece.number).collect::<Vec<_>>();
        assert_eq!(numbers(archive.segments_on(1)), [1, 8, 9, 10]);
        assert_eq!(numbers(archive.history(1)), [8, 9, 10]);
        assert_eq!(archive.held(1), Some(set("A:1-100")));
        let coverage = crate::coverage::Coverage::of(&archive, &[backup(8)]);
        assert!(coverage.gaps.is_empty(), "{:?}", coverage.gaps);
        assert_eq!(coverage.windows.len(), 1);
    }

    #[test]
    fn archiver_can_resume_after_all_else_expired() {
        let archive = archive(10);
        assert_eq!(gone(days(3), &archive, &[backup(10)], 99), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn abandoned_timeline_expires_with_its_last_backup() {
        let mut archive = archive(10);
        // B took over after day 5; days 5 to 9 are on the abandoned timeline.
        archive.timelines.push(line(2, "A:1-50", "A:51-100"));
        let own = ArchivedSegment {
            number: 11,
            timeline: 2,
            segment: Segment {
                source: B.parse().unwrap(),
                previous: set("A:1-50"),
                gtids: set("B:1-10"),
                committed: Some((at(20), at(20))),
                ..piece(0).segment
            },
            ..piece(0)
        };
        archive.segments.push(own);
        let mut after = backup(5);
        (after.taken_at, after.gtid_executed) = (at(21), set("A:1-50,B:1-10"));
        assert_eq!(gone(days(5), &archive, &[after.clone()], 22), (1..=10).collect::<Vec<_>>());
        let mut before = backup(4);
        before.taken_at = at(19);
        assert_eq!(gone(days(5), &archive, &[before, after], 22), [1, 2, 3, 4]);
    }
}
