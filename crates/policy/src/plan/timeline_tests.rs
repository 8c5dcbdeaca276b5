//! Tests that plans, coverage and expiry agree on the timelines of backups.
#![allow(clippy::unwrap_used)]

use backstop_types::archive::{
    Archive, ArchivedSegment, ArchiverHeartbeat, Segment, SegmentHash, SegmentState, Timeline,
};
use backstop_types::backup::{BackupRef, BackupTimeline};

use super::*;
use crate::archive_expiry::expired_segments;
use crate::recovery_target::RecoveryTarget;
use crate::recovery_window::timeline_coverage;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";

fn set(text: &str) -> GtidSet {
    text.replace('A', A).parse().unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
}

fn line(number: u32, lacks: &str) -> Timeline {
    let (parent, source) = ((number > 1).then(|| number - 1), A.parse().unwrap());
    Timeline { number, parent, begun_at: at(0), source, common: GtidSet::new(), lacks: set(lacks) }
}

fn piece(number: u64, timeline: u32, previous: &str, gtids: &str) -> ArchivedSegment {
    ArchivedSegment {
        number,
        timeline,
        segment: Segment {
            source: A.parse().unwrap(),
            file: format!("binlog.{number:06}"),
            start: 0,
            end: 100,
            previous: set(previous),
            gtids: set(gtids),
            committed: Some((at(number as i64), at(number as i64))),
            hash: SegmentHash([0; 32]),
        },
        state: SegmentState::Sealed,
        object: format!("segment-{number}"),
        stored_bytes: 1,
        digest: String::new(),
    }
}

fn backup(taken: i64, gtids: &str, on_timeline: u32) -> BackupRef {
    let taken_at = at(taken);
    let on_timeline = Some(BackupTimeline::Timeline(on_timeline));
    BackupRef {
        backup_id: BackupId::new(taken_at, on_line_number(on_timeline)),
        taken_at,
        gtid_executed: set(gtids),
        on_timeline,
    }
}

fn on_line_number(on_timeline: Option<BackupTimeline>) -> u32 {
    if let Some(BackupTimeline::Timeline(number)) = on_timeline { number } else { 0 }
}

fn latest<'a>(
    archive: &Archive,
    backups: &'a [BackupRef],
    timeline: Option<u32>,
) -> Result<RecoveryChoice<'a>, NotRecoverable> {
    let shard: ShardName = "orders".parse().unwrap();
    let target = RecoveryTarget::Latest;
    let query = RecoveryQuery { shard: &shard, archive, backups, target: &target, timeline, backup: None };
    match query.decide()? {
        RecoveryOutcome::Ready(decided) => Ok(decided),
        RecoveryOutcome::NeedsSegment(within) => unreachable!("{within:?}"),
    }
}

#[test]
fn backup_of_new_timeline_is_usable_despite_reused_numbers() {
    let archive = Archive {
        timelines: vec![line(1, ""), line(2, "A:1-20")],
        segments: vec![
            piece(1, 1, "", "A:1-10"),
            piece(2, 1, "A:1-10", "A:11-20"),
            piece(3, 2, "", "A:1-5"),
            piece(4, 2, "A:1-5", "A:6-9"),
        ],
        ..Archive::default()
    };
    let backups = [backup(2, "A:1-10", 1), backup(9, "A:1-5", 2)];
    let [old, new] = &backups;
    let decided = latest(&archive, &backups, None).unwrap();
    assert_eq!((decided.chosen.backup, &decided.replay.unwrap().gtids), (new, &set("A:6-9")));
    let decided = latest(&archive, &backups, Some(1)).unwrap();
    assert_eq!((decided.chosen.backup, &decided.replay.unwrap().gtids), (old, &set("A:11-20")));
    // The backup of the other timeline alone does not suffice.
    latest(&archive, &backups[..1], None).unwrap_err();
    for (number, backup) in [(1, old), (2, new)] {
        let windows = timeline_coverage(&archive, archive.timeline(number), &backups).windows;
        assert_eq!((windows.len(), &windows[0].backup_id), (1, &backup.backup_id));
    }
    // Each backup keeps only the segments of the same timeline from expiring.
    let keep = Some(std::time::Duration::from_secs(100));
    let gone = |backups: &[BackupRef]| {
        expired_segments(keep, &archive, backups, at(105)).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(gone(&backups[1..]), [1, 2, 3]);
    assert_eq!(gone(&backups[..1]), [1, 3]);
}

#[test]
fn gap_at_the_end_is_bridged_by_a_backup() {
    let mut archive = Archive {
        timelines: vec![line(1, "")],
        segments: vec![piece(1, 1, "", "A:1-10")],
        alive: Some(ArchiverHeartbeat {
            at: at(9),
            source: None,
            archived: set("A:1-14"),
            complete_to: None,
            last_commit: None,
            trouble: None,
        }),
        ..Archive::default()
    };
    let before = [backup(2, "A:1-8", 1)];
    latest(&archive, &before, None).unwrap_err();
    latest(&archive, &[backup(3, "A:1-13", 1)], None).unwrap_err();
    let backups = [backup(2, "A:1-8", 1), backup(9, "A:1-14", 1)];
    let decided = latest(&archive, &backups, None).unwrap();
    assert_eq!((decided.chosen.backup, decided.replay.unwrap().transactions), (&backups[1], 0));
    archive.segments.push(piece(2, 1, "A:1-14", "A:15"));
    let decided = latest(&archive, &backups, None).unwrap();
    assert_eq!((decided.chosen.backup, &decided.replay.unwrap().gtids), (&backups[1], &set("A:15")));
}
