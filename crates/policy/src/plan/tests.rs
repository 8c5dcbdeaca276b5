//! Tests of histories, complete and with gaps, against a naive interpretation of targets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use backstop_types::archive::{
    Archive, ArchiveDamage, ArchivedSegment, ArchiverHeartbeat, Commit, Segment, SegmentHash, SegmentState,
    Timeline,
};
use backstop_types::backup::BackupRef;
use backstop_types::gtid::Gtid;
use proptest::prelude::*;

use super::*;
use crate::recovery_target::RecoveryTarget;
use crate::recovery_window::timeline_coverage;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

fn gtid(uuid: &str, number: u64) -> Gtid {
    format!("{uuid}:{number}").parse().unwrap()
}

fn set(text: &str) -> GtidSet {
    text.replace('A', A).replace('B', B).parse().unwrap()
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
}

fn all<'a>(commits: impl IntoIterator<Item = &'a Commit>) -> GtidSet {
    let mut set = GtidSet::new();
    commits.into_iter().for_each(|commit| set.insert(&commit.gtid));
    set
}

fn line(number: u32, common: &str, lacks: &str) -> Timeline {
    let parent = (number > 1).then(|| number - 1);
    let source = if number == 1 { A } else { B }.parse().unwrap();
    Timeline { number, parent, begun_at: at(0), source, common: set(common), lacks: set(lacks) }
}

/// A history: its transactions in order, and the positions at which it is cut into segments.
#[derive(Debug, Clone)]
struct Story {
    commits: Vec<Commit>,
    pieces: Vec<(ArchivedSegment, Vec<Commit>)>,
    backups: Vec<BackupRef>,
}

fn piece(number: u64, of: u32, previous: GtidSet, commits: &[Commit]) -> ArchivedSegment {
    let times = || commits.iter().filter_map(|commit| commit.committed);
    ArchivedSegment {
        number,
        timeline: of,
        segment: Segment {
            source: A.parse().unwrap(),
            file: "binlog.000001".into(),
            start: number * 100,
            end: number * 100 + 100,
            previous,
            gtids: all(commits),
            committed: times().min().zip(times().max()),
            hash: SegmentHash([0; 32]),
        },
        state: SegmentState::Sealed,
        object: format!("segment-{number}"),
        stored_bytes: 1,
        digest: String::new(),
    }
}

fn backup(taken: i64, gtid_executed: GtidSet) -> BackupRef {
    let taken_at = at(taken);
    BackupRef {
        backup_id: BackupId::new(taken_at, gtid_executed.count() as u32),
        taken_at,
        gtid_executed,
        on_timeline: None,
    }
}

impl Story {
    /// Builds a history. `steps` are the seconds from one commit to the next; clocks may step back.
    /// Server B takes over at `over`, and its file begins `again` transactions earlier.
    fn new(steps: &[i64], cuts: &[usize], backups: &[usize], over: usize, again: usize) -> Self {
        let (mut time, mut number) = (0, [0, 0]);
        let mut commits = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            time += step;
            let server = usize::from(index >= over);
            number[server] += 1;
            commits.push(Commit { gtid: gtid([A, B][server], number[server]), committed: Some(at(time)) });
        }
        let mut cuts: Vec<usize> = cuts.iter().copied().chain([0, over, commits.len()]).collect();
        cuts.retain(|cut| *cut <= commits.len());
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces = Vec::new();
        for pair in cuts.windows(2) {
            let first = if pair[0] == over { over.saturating_sub(again) } else { pair[0] };
            let (previous, own) = (all(&commits[..first]), &commits[first..pair[1]]);
            pieces.push((piece(pieces.len() as u64 + 1, 1, previous, own), own.to_vec()));
        }
        let backups = backups.iter().filter(|at| **at <= commits.len());
        let backups = backups.map(|at| backup(1_000_000, all(&commits[..*at]))).collect();
        Self { commits, pieces, backups }
    }

    fn archive(&self, without: &[u64]) -> Archive {
        let (lost, kept): (Vec<_>, Vec<_>) = self
            .pieces
            .iter()
            .map(|(piece, _)| piece.clone())
            .partition(|piece| without.contains(&piece.number));
        let damaged = lost.into_iter().map(|piece| ArchiveDamage {
            object: piece.object,
            wrong: "it is missing".into(),
            timeline: Some(1),
            committed: piece.segment.committed,
            gtids: piece.segment.gtids,
        });
        Archive {
            timelines: vec![line(1, "", "")],
            segments: kept,
            damaged: damaged.collect(),
            ..Archive::default()
        }
    }

    fn decide(&self, archive: &Archive, target: &RecoveryTarget) -> Result<Replay, NotRecoverable> {
        let shard = "orders".parse().unwrap();
        let query = RecoveryQuery {
            shard: &shard,
            archive,
            backups: &self.backups,
            target,
            timeline: None,
            backup: None,
        };
        let decided = match query.decide()? {
            RecoveryOutcome::Ready(decided) => decided,
            RecoveryOutcome::NeedsSegment(within) => {
                let commits = self.pieces.iter().find(|(piece, _)| piece.number == within.segment.number);
                query.within(&within, &commits.unwrap().1)?
            }
        };
        Ok(decided.replay.unwrap())
    }

    /// Resolves a target from the complete order of transactions.
    fn naive(&self, target: &RecoveryTarget) -> GtidSet {
        let end = match target {
            RecoveryTarget::Latest => self.commits.len(),
            RecoveryTarget::Time(time) => {
                let later = self.commits.iter().position(|commit| commit.committed > Some(*time));
                later.unwrap_or(self.commits.len())
            }
            RecoveryTarget::Before(gtid) => {
                self.commits.iter().position(|commit| commit.gtid == *gtid).unwrap()
            }
            RecoveryTarget::After(gtid) => {
                self.commits.iter().position(|commit| commit.gtid == *gtid).unwrap() + 1
            }
        };
        all(&self.commits[..end])
    }

    fn target(&self, kind: u8, of: usize) -> RecoveryTarget {
        let commit = &self.commits[of % self.commits.len()];
        match kind % 4 {
            0 => RecoveryTarget::Latest,
            1 => RecoveryTarget::Time(commit.committed.unwrap()),
            2 => RecoveryTarget::Before(commit.gtid.clone()),
            _ => RecoveryTarget::After(commit.gtid.clone()),
        }
    }
}

fn story() -> impl Strategy<Value = Story> {
    let steps = proptest::collection::vec(prop_oneof![4 => 0i64..5, 1 => -20i64..60], 2..40);
    let places = || proptest::collection::vec(0usize..40, 1..8);
    (steps, places(), places(), 0usize..40, 0usize..4).prop_map(|(steps, cuts, backups, over, again)| {
        let over = over.min(steps.len());
        Story::new(&steps, &cuts, &backups, over, again)
    })
}

proptest! {
    #[test]
    fn target_reaches_exactly_the_commits_up_to_it(story in story(), kind in 0u8..4, of in 0usize..40) {
        let target = story.target(kind, of);
        let meant = story.naive(&target);
        let decided = story.decide(&story.archive(&[]), &target);
        let reachable = story.backups.iter().any(|backup| backup.gtid_executed.is_subset_of(&meant));
        match decided {
            Ok(replay) => {
                prop_assert_eq!(replay.reached(), meant);
                let nearer = |b: &&BackupRef| b.gtid_executed.is_subset_of(&replay.reached());
                let best = story.backups.iter().filter(nearer).map(|b| b.gtid_executed.count()).max();
                prop_assert_eq!(best, Some(replay.from.count()), "the nearest backup");
            }
            Err(refused) => prop_assert!(!reachable, "{refused} {:?}", target),
        }
    }

    /// A gap never changes the meaning of a target: the target is reached exactly, or refused. It
    /// is refused only because of what the gap contains.
    #[test]
    fn replay_never_skips_a_missing_segment(
        story in story(),
        kind in 0u8..4,
        of in 0usize..40,
        without in proptest::collection::vec(1u64..8, 1..3),
    ) {
        let target = story.target(kind, of);
        let meant = story.naive(&target);
        let archive = story.archive(&without);
        if archive.segments.is_empty() {
            return Ok(());
        }
        let base = &archive.segments[0].previous;
        let there = archive.segments.iter().fold(GtidSet::new(), |all, piece| all.union(&piece.gtids));
        match story.decide(&archive, &target) {
            Ok(replay) => {
                prop_assert_eq!(replay.reached(), meant);
                prop_assert!(replay.gtids.is_subset_of(&there));
            }
            Err(refused) => {
                let whole = base.is_subset_of(&meant) && meant.subtract(base).is_subset_of(&there);
                let from = |b: &&BackupRef| b.gtid_executed.is_subset_of(&meant) && base.is_subset_of(&b.gtid_executed);
                // The order of lost transactions is unknown.
                let unknown = matches!(&target, RecoveryTarget::Before(gtid) | RecoveryTarget::After(gtid) if !there.contains(gtid));
                // At the end, only the time span of lost commits is known.
                let end = story.pieces.last().is_some_and(|(last, _)| without.contains(&last.number));
                // A server that took over may have some of what the gap contains; the plan does not
                // search for it.
                let again = story.pieces.iter().enumerate().any(|(index, (piece, _))| {
                    story.pieces[..index].iter().any(|(other, _)| !other.gtids.intersect(&piece.gtids).is_empty())
                });
                // Of a lost segment only the time span of its commits is known. Where clocks step
                // back, this does not say which commit is the first after a moment.
                let within = matches!(&target, RecoveryTarget::Time(time) if story.pieces.iter().any(|(piece, _)| {
                    without.contains(&piece.number) && piece.committed.is_some_and(|(from, to)| (from..=to).contains(time))
                }));
                // The commit times of what precedes the archive are unknown: these backups are all
                // later.
                let early = matches!(&target, RecoveryTarget::Time(_)) && meant == *base;
                prop_assert!(early || within || unknown || end || again || !whole || story.backups.iter().find(from).is_none(), "{refused}");
            }
        }
    }

    /// The ends of each window that coverage reports can be planned.
    #[test]
    fn coverage_contains_only_moments_that_a_plan_accepts(
        story in story(),
        without in proptest::collection::vec(1u64..8, 0..3),
    ) {
        let archive = story.archive(&without);
        let coverage = timeline_coverage(&archive, archive.current(), &story.backups);
        prop_assert!(story.backups.is_empty() || !coverage.windows.is_empty());
        let there = archive.segments.iter().fold(GtidSet::new(), |all, piece| all.union(&piece.gtids));
        for window in &coverage.windows {
            prop_assert!(window.from <= window.to);
            let replay = window.gtid_to.subtract(&window.gtid_from);
            prop_assert!(replay.is_subset_of(&there), "{replay} of {window:?}");
        }
        let held = archive.held(1).unwrap_or_default();
        for gap in &coverage.gaps {
            prop_assert!(!gap.missing.is_empty());
        }
        let inner = archive.segments.windows(2).any(|pair| {
            !pair[1].previous.is_subset_of(&pair[0].held_after().union(&held))
        });
        prop_assert!(!inner || !coverage.gaps.is_empty());
    }
}

fn simple() -> Story {
    // A:1-6, one every 10 s; segments A:1-2, A:3-4, A:5-6; backups after zero and three
    // transactions.
    let mut story = Story::new(&[10, 10, 10, 10, 10, 10], &[2, 4], &[], 6, 0);
    story.backups = vec![backup(5, set("")), backup(35, set("A:1-3"))];
    story
}

#[test]
fn times_outside_the_archive_are_refused_with_the_nearest() {
    let story = simple();
    let archive = story.archive(&[]);
    let refused = story.decide(&archive, &RecoveryTarget::Time(at(61))).unwrap_err();
    assert!(refused.reason.contains("later than the end of the archive"), "{refused}");
    assert_eq!(refused.nearest.iter().map(|near| near.at).collect::<Vec<_>>(), [at(60)]);
    let mut late = story.clone();
    late.backups.remove(0);
    let refused = late.decide(&archive, &RecoveryTarget::Time(at(29))).unwrap_err();
    assert_eq!(refused.nearest.iter().map(|near| near.at).collect::<Vec<_>>(), [at(35)]);
    let refused = story.decide(&archive, &RecoveryTarget::After(gtid(B, 1))).unwrap_err();
    assert!(refused.reason.contains("no transaction"), "{refused}");
}

#[test]
fn time_before_first_backup_is_refused_despite_older_commits() {
    let mut story = simple();
    story.backups.remove(0);
    let mut archive = story.archive(&[]);
    // The archive begins at the backup.
    archive.segments.remove(0);
    story.backups[0] = backup(28, set("A:1-2"));
    for time in [0, 27] {
        let refused = story.decide(&archive, &RecoveryTarget::Time(at(time))).unwrap_err();
        assert_eq!(refused.nearest.iter().map(|near| near.at).collect::<Vec<_>>(), [at(28)]);
    }
    assert_eq!(story.decide(&archive, &RecoveryTarget::Time(at(29))).unwrap().reached(), set("A:1-2"));
}

#[test]
fn heartbeat_covers_idle_time_after_the_last_commit() {
    let story = simple();
    let mut archive = story.archive(&[]);
    archive.alive = Some(ArchiverHeartbeat {
        at: at(100),
        source: Some(A.parse().unwrap()),
        archived: set("A:1-6"),
        complete_to: Some(at(99)),
        last_commit: Some(at(60)),
        trouble: None,
    });
    assert_eq!(story.decide(&archive, &RecoveryTarget::Time(at(99))).unwrap().reached(), set("A:1-6"));
    assert!(story.decide(&archive, &RecoveryTarget::Time(at(101))).is_err());
    assert_eq!(timeline_coverage(&archive, archive.current(), &story.backups).windows[0].to, at(99));
    // The archiver stored segments that no longer exist: the end is a gap.
    archive.segments.pop();
    let refused = story.decide(&archive, &RecoveryTarget::Latest).unwrap_err();
    assert!(refused.reason.contains(&set("A:5-6").to_string()), "{refused}");
    let gaps = timeline_coverage(&archive, archive.current(), &story.backups).gaps;
    assert_eq!((gaps.len(), gaps[0].to, &gaps[0].missing), (1, None, &set("A:5-6")));
}

#[test]
fn gap_names_its_transactions_moments_and_objects() {
    let mut story = simple();
    let archive = story.archive(&[2]);
    let targets = [
        (RecoveryTarget::Time(at(30)), at(20)),
        (RecoveryTarget::Time(at(45)), at(35)),
        (RecoveryTarget::After(gtid(A, 3)), at(20)),
        (RecoveryTarget::Latest, at(35)),
    ];
    for (target, nearest) in targets {
        let refused = story.decide(&archive, &target).unwrap_err();
        assert!(
            refused.reason.contains(&set("A:4").to_string())
                || refused.reason.contains(&set("A:3-4").to_string()),
            "{refused}"
        );
        assert_eq!(refused.nearest[0].at, nearest, "{refused}");
    }
    let coverage = timeline_coverage(&archive, archive.current(), &story.backups);
    assert_eq!(coverage.gaps.len(), 1);
    let gap = &coverage.gaps[0];
    assert_eq!((gap.from, gap.to, &gap.missing), (at(20), None, &set("A:3-4")));
    assert_eq!(gap.objects, ["segment-2"]);
    // A later backup ends the gap.
    story.backups.push(backup(52, set("A:1-5")));
    let coverage = timeline_coverage(&archive, archive.current(), &story.backups);
    assert_eq!((coverage.gaps[0].to, coverage.windows.len()), (Some(at(52)), 3));
    assert_eq!(story.decide(&archive, &RecoveryTarget::Latest).unwrap().reached(), set("A:1-6"));
}

#[test]
fn timelines_are_never_merged() {
    let mut story = simple();
    let mut archive = story.archive(&[]);
    // B took over with A:1-5 and executed two further transactions.
    archive.timelines.push(line(2, "A:1-5", "A:6"));
    let own: Vec<Commit> =
        (1..=2).map(|n| Commit { gtid: gtid(B, n), committed: Some(at(70 + n as i64)) }).collect();
    archive.segments.push(piece(4, 2, set("A:1-5"), &own));
    story.pieces.push((piece(4, 2, set("A:1-5"), &own), own));
    story.backups.push(backup(65, set("A:1-6")));
    assert_eq!(story.decide(&archive, &RecoveryTarget::Latest).unwrap().reached(), set("A:1-5,B:1-2"));
    assert_eq!(story.decide(&archive, &RecoveryTarget::Time(at(65))).unwrap().reached(), set("A:1-5"));
    assert_eq!(story.decide(&archive, &RecoveryTarget::After(gtid(B, 1))).unwrap().from, set("A:1-3"));
    let refused = story.decide(&archive, &RecoveryTarget::After(gtid(A, 6))).unwrap_err();
    assert!(refused.reason.contains("--line 1"), "{refused}");
    let shard = "orders".parse().unwrap();
    let (target, backups) = (RecoveryTarget::Latest, &story.backups);
    let query = RecoveryQuery {
        shard: &shard,
        archive: &archive,
        backups,
        target: &target,
        timeline: Some(1),
        backup: None,
    };
    let RecoveryOutcome::Ready(decided) = query.decide().unwrap() else { panic!() };
    assert_eq!(decided.replay.unwrap().reached(), set("A:1-6"));
    let refused = RecoveryQuery { timeline: Some(3), ..query }.decide().unwrap_err();
    assert!(refused.reason.contains("1, 2"), "{refused}");
    let coverage = crate::coverage::Coverage::of(&archive, &story.backups);
    assert_eq!((coverage.timeline, coverage.abandoned_timelines[0].lost.clone()), (Some(2), set("A:6")));
    assert!(coverage.gaps.is_empty());
}

#[test]
fn backup_beyond_the_archive_is_latest_and_can_be_requested() {
    let mut story = simple();
    let archive = story.archive(&[]);
    story.backups.push(backup(90, set("A:1-9")));
    let latest = story.decide(&archive, &RecoveryTarget::Latest).unwrap();
    assert_eq!((latest.reached(), latest.transactions), (set("A:1-9"), 0));
    assert_eq!(story.decide(&archive, &RecoveryTarget::Time(at(90))).unwrap().reached(), set("A:1-9"));
    let shard = "orders".parse().unwrap();
    let (target, backups) = (RecoveryTarget::After(gtid(A, 4)), &story.backups);
    let wanted = Some(&backups[0].backup_id);
    let query = RecoveryQuery {
        shard: &shard,
        archive: &archive,
        backups,
        target: &target,
        timeline: None,
        backup: wanted,
    };
    let RecoveryOutcome::NeedsSegment(within) = query.decide().unwrap() else { panic!() };
    let decided = query.within(&within, &story.pieces[1].1).unwrap();
    assert_eq!((decided.chosen.backup, decided.replay.unwrap().transactions), (&backups[0], 4));
}
