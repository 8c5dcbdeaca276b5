//! Decides whether a backup belongs to a timeline of the archive: whether its GTIDs name the same
//! transactions as on the timeline.
//!
//! If a server has reused its numbers, the same GTID names another transaction on each timeline. So
//! a backup records the timeline on which it was taken, and counts for another one only with the
//! transactions that both have in common.

use backstop_types::archive::{Archive, Timeline};
use backstop_types::backup::{BackupRef, BackupTimeline};

/// True for a backup whose transactions are those of this timeline.
pub(crate) fn is_on_timeline(archive: &Archive, timeline: &Timeline, backup: &BackupRef) -> bool {
    let gtids = &backup.gtid_executed;
    let ours = timeline_path(archive, timeline.number);
    let taken = match backup.on_timeline {
        Some(BackupTimeline::None) => return false,
        Some(BackupTimeline::Timeline(taken)) if archive.timeline(taken).is_some() => {
            timeline_path(archive, taken)
        }
        // Taken before backups recorded the timeline, or before anything was archived: it may
        // contain what a timeline lacks.
        _ => return ours.iter().all(|timeline| timeline.lacks.intersect(gtids).is_empty()),
    };
    // After the branch point, a timeline shares with the other only the common transactions.
    let shared = ours.iter().zip(&taken).take_while(|(one, other)| one.number == other.number).count();
    let apart = ours.iter().skip(shared).chain(taken.iter().skip(shared));
    apart.into_iter().all(|timeline| timeline.parent.is_some() && gtids.is_subset_of(&timeline.common))
}

/// Returns a timeline and its ancestors, eldest first.
fn timeline_path(archive: &Archive, number: u32) -> Vec<&Timeline> {
    let mut path: Vec<&Timeline> = Vec::new();
    let mut next = archive.timeline(number);
    while let Some(timeline) = next {
        path.push(timeline);
        // Terminates, since a parent is always older.
        next = timeline
            .parent
            .filter(|parent| *parent < timeline.number)
            .and_then(|parent| archive.timeline(parent));
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::gtid::GtidSet;
    use backstop_types::ids::BackupId;
    use chrono::DateTime;

    use super::*;

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
    const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().unwrap()
    }

    fn line(number: u32, parent: Option<u32>, common: &str, lacks: &str) -> Timeline {
        let (begun_at, source) = (DateTime::UNIX_EPOCH, A.parse().unwrap());
        Timeline { number, parent, begun_at, source, common: set(common), lacks: set(lacks) }
    }

    fn backup(on_timeline: Option<BackupTimeline>, gtids: &str) -> BackupRef {
        let taken_at = DateTime::UNIX_EPOCH;
        BackupRef { backup_id: BackupId::new(taken_at, 1), taken_at, gtid_executed: set(gtids), on_timeline }
    }

    /// Returns the timelines for which a backup counts.
    fn lines(archive: &Archive, on_timeline: Option<BackupTimeline>, gtids: &str) -> Vec<u32> {
        let backup = backup(on_timeline, gtids);
        let ours =
            archive.timelines.iter().filter(|timeline| super::is_on_timeline(archive, timeline, &backup));
        ours.map(|timeline| timeline.number).collect()
    }

    #[test]
    fn reused_numbers_belong_to_the_backups_timeline() {
        let lines_of =
            vec![line(1, None, "", ""), line(2, Some(1), "A:1-5", "A:6-9"), line(3, Some(2), "", "A:1-20")];
        let archive = Archive { timelines: lines_of, ..Archive::default() };
        let on = |number| Some(BackupTimeline::Timeline(number));
        assert_eq!(lines(&archive, on(1), "A:1-5"), [1, 2]);
        assert_eq!(lines(&archive, on(1), "A:1-7"), [1]);
        assert_eq!(lines(&archive, on(2), "A:1-7"), [2]);
        assert_eq!(lines(&archive, on(2), "A:1-4"), [1, 2]);
        assert_eq!(lines(&archive, on(3), "A:1-7"), [3]);
        assert_eq!(lines(&archive, Some(BackupTimeline::None), "A:1-7"), [] as [u32; 0]);
        // From before backups recorded the timeline: what a timeline lacks is neither on it nor on
        // those that branch off it.
        assert_eq!(lines(&archive, None, "A:1-5"), [1, 2]);
        assert_eq!(lines(&archive, None, "A:1-7"), [1]);
        // The archive was created again since.
        assert_eq!(lines(&archive, on(9), "A:1-7"), [1]);
    }

    #[test]
    fn server_lacking_its_archived_transactions_has_no_timeline() {
        let mut archive = Archive { timelines: vec![line(1, None, "A:1-9", "")], ..Archive::default() };
        archive.timelines.push(line(2, Some(1), "A:1-9,B:1-3", ""));
        let a = A.parse().unwrap();
        let of = |after: &Archive, gtids: &str| BackupTimeline::of(&archive, after, a, &set(gtids));
        assert_eq!(of(&archive, "A:1-9"), Some(BackupTimeline::Timeline(2)), "a replica may lag behind");
        assert_eq!(of(&archive, "A:1-4,B:1-3"), Some(BackupTimeline::None));
        let mut forked = archive.clone();
        forked.timelines.push(line(3, Some(2), "", "A:1-9,B:1-3"));
        assert_eq!(of(&forked, "A:1-9,B:1-3"), Some(BackupTimeline::None));
        assert_eq!(BackupTimeline::of(&Archive::default(), &archive, a, &set("A:1")), None);
    }
}
