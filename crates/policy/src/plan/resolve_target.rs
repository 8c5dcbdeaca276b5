//! Resolves a recovery target to the exact set of transactions that it names in an archive.
//!
//! The order of a timeline is that of its segments, and within a segment that of the server's
//! binlog. If a transaction is in several segments, the first counts. A recovery point is a prefix
//! of that order: all transactions up to it, and everything that the servers had executed before.

use backstop_types::archive::{Archive, ArchiveDamage, ArchivedSegment, Commit, Timeline};
use backstop_types::gtid::{Gtid, GtidSet};
use chrono::{DateTime, SecondsFormat, Utc};

use crate::recovery_target::RecoveryTarget;

/// A recovery point in a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// The timeline.
    pub timeline: u32,
    /// Every transaction up to it.
    pub set: GtidSet,
    /// The latest known commit time in it; `None`: nothing archived precedes it.
    pub last_commit: Option<DateTime<Utc>>,
}

/// Result of resolving a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Resolved completely.
    At(RecoveryPoint),
    /// It is within this segment: the segment's transactions must be read.
    InSegment(Box<InSegment>),
}

/// A target within a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InSegment {
    /// The segment whose transactions must be read, in the order of the file.
    pub segment: ArchivedSegment,
    target: RecoveryTarget,
    before: RecoveryPoint,
}

/// Error: a target cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolvable {
    /// The reason in words.
    pub reason: String,
    /// The missing transactions, if they are the reason.
    pub missing: GtidSet,
}

/// Returns the requested timeline, or the current one. `None`: the archive is empty.
///
/// # Errors
/// Returns [`Unresolvable`] if no timeline has this number.
pub fn select_timeline(archive: &Archive, wanted: Option<u32>) -> Result<Option<&Timeline>, Unresolvable> {
    let Some(number) = wanted else { return Ok(archive.current()) };
    let numbers: Vec<String> = archive.timelines.iter().map(|timeline| timeline.number.to_string()).collect();
    let known = if numbers.is_empty() { "nothing is archived".to_owned() } else { numbers.join(", ") };
    archive
        .timeline(number)
        .map(Some)
        .ok_or_else(|| unresolvable(format!("there is no timeline {number}; the timelines are: {known}")))
}

/// Resolves a target in a timeline.
///
/// # Errors
/// Returns [`Unresolvable`] if the target is not in the timeline, or if transactions around it are
/// missing.
pub fn resolve_target(
    archive: &Archive,
    timeline: &Timeline,
    target: &RecoveryTarget,
) -> Result<Resolution, Unresolvable> {
    let history = archive.history(timeline.number);
    let scan = TimelineScan { archive, timeline, target, history: &history };
    match target {
        RecoveryTarget::Latest => scan.end().map(Resolution::At),
        RecoveryTarget::Time(time) => scan.time(*time),
        RecoveryTarget::After(gtid) | RecoveryTarget::Before(gtid) => scan.gtid(gtid),
    }
}

impl InSegment {
    /// Returns the recovery point, given the transactions of the segment.
    ///
    /// # Errors
    /// Returns [`Unresolvable`] if the segment does not hold the transactions that its entry lists.
    pub fn resolve(&self, commits: &[Commit]) -> Result<RecoveryPoint, Unresolvable> {
        let mut moment = self.before.clone();
        for commit in commits {
            if moment.set.contains(&commit.gtid) || !self.segment.gtids.contains(&commit.gtid) {
                continue;
            }
            match &self.target {
                RecoveryTarget::Time(time) if commit.committed.is_some_and(|at| at > *time) => {
                    return Ok(moment);
                }
                RecoveryTarget::Before(gtid) if *gtid == commit.gtid => return Ok(moment),
                _ => {}
            }
            moment.set.insert(&commit.gtid);
            moment.last_commit = moment.last_commit.max(commit.committed);
            if matches!(&self.target, RecoveryTarget::After(gtid) if *gtid == commit.gtid) {
                return Ok(moment);
            }
        }
        match &self.target {
            RecoveryTarget::Time(_) => Ok(moment),
            _ => Err(unresolvable(format!("{} does not match its journal entry", self.segment.object))),
        }
    }
}

struct TimelineScan<'a> {
    archive: &'a Archive,
    timeline: &'a Timeline,
    target: &'a RecoveryTarget,
    history: &'a [ArchivedSegment],
}

impl TimelineScan<'_> {
    /// Returns the recovery point before the first segment.
    fn start(&self) -> RecoveryPoint {
        let set =
            self.history.first().map_or_else(|| self.timeline.common.clone(), |first| first.previous.clone());
        RecoveryPoint { timeline: self.timeline.number, set, last_commit: None }
    }

    fn end(&self) -> Result<RecoveryPoint, Unresolvable> {
        let moment = self.history.iter().fold(self.start(), RecoveryPoint::past);
        let told = self.told().map(|(_, archived)| archived).unwrap_or_default();
        self.complete(moment, &told.union(&self.archive.lost(self.timeline.number)))
    }

    fn time(&self, time: DateTime<Utc>) -> Result<Resolution, Unresolvable> {
        let mut moment = self.start();
        let before = self.archive.lost(self.timeline.number).intersect(&moment.set);
        if self.lost_times(&before).is_some_and(|(_, last)| last > time) {
            return Err(self.missing(before));
        }
        for segment in self.history {
            let (first, last) = match segment.committed {
                _ if segment.gtids.is_subset_of(&moment.set) => continue,
                Some(times) => times,
                None => (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MIN_UTC),
            };
            let missing = segment.previous.subtract(&moment.set);
            match self.lost_times(&missing) {
                // The lost commits began later: the target is before them. Commit times of what was
                // never archived are unknown.
                Some((lost, _)) if lost > time => return Ok(Resolution::At(moment)),
                Some((_, lost)) if lost > time => return Err(self.missing(missing)),
                _ => {}
            }
            if first > time {
                // The next commit is later: this is the target, if nothing is missing in between.
                return self.complete(moment, &segment.previous).map(Resolution::At);
            }
            if last > time {
                let before = RecoveryPoint { set: moment.set.union(&segment.previous), ..moment };
                return Ok(within(segment, self.target, before));
            }
            moment = moment.past(segment);
        }
        let known = self.told().map(|(_, archived)| archived).unwrap_or_default();
        let behind = known.union(&self.archive.lost(self.timeline.number)).subtract(&moment.set);
        let explained = behind.is_subset_of(&self.archive.lost(self.timeline.number));
        if explained && self.lost_times(&behind).is_some_and(|(first, _)| first > time) {
            return Ok(Resolution::At(moment));
        }
        let end = self.end()?;
        let complete_to = self.told().and_then(|(to, _)| to).max(end.last_commit);
        if complete_to.is_some_and(|to| time <= to) {
            return Ok(Resolution::At(end));
        }
        let to = complete_to.map_or("nothing".to_owned(), text);
        Err(unresolvable(format!("it is later than the end of the archive, {to}")))
    }

    /// Returns the times of the earliest and the latest commit in the lost objects that held any of
    /// these transactions. `None`: unknown.
    fn lost_times(&self, missing: &GtidSet) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let holds = |damage: &&ArchiveDamage| !damage.gtids.intersect(missing).is_empty();
        let lost = self.archive.damaged.iter().filter(holds);
        let times: Option<Vec<_>> = lost.map(|damage| damage.committed).collect();
        let times = times?;
        Some((times.iter().map(|(first, _)| *first).min()?, times.iter().map(|(_, last)| *last).max()?))
    }

    fn gtid(&self, gtid: &Gtid) -> Result<Resolution, Unresolvable> {
        let mut moment = self.start();
        if moment.set.contains(gtid) {
            return Err(unresolvable(format!("the archive begins after {gtid}")));
        }
        for segment in self.history {
            if segment.gtids.contains(gtid) {
                let before = RecoveryPoint { set: moment.set.union(&segment.previous), ..moment };
                return Ok(within(segment, self.target, before));
            }
            if segment.previous.contains(gtid) {
                let missing = segment.previous.subtract(&moment.set);
                return Err(self.missing(missing));
            }
            moment = moment.past(segment);
        }
        let elsewhere = self.archive.timelines.iter().rev().find(|timeline| {
            self.archive.segments.iter().any(|s| s.timeline == timeline.number && s.gtids.contains(gtid))
        });
        Err(match elsewhere {
            Some(timeline) if timeline.number != self.timeline.number => unresolvable(format!(
                "{gtid} is not on timeline {}, but on timeline {}, which was abandoned: recover it with --line {} --standalone",
                self.timeline.number, timeline.number, timeline.number
            )),
            _ => {
                let set: GtidSet = one(gtid);
                let known =
                    self.archive.damaged.iter().any(|damage| !damage.gtids.intersect(&set).is_empty());
                if known {
                    self.missing(set)
                } else {
                    unresolvable(format!("no transaction {gtid} is archived"))
                }
            }
        })
    }

    /// Returns the recovery point if it holds everything that is known to precede it.
    fn complete(&self, moment: RecoveryPoint, known: &GtidSet) -> Result<RecoveryPoint, Unresolvable> {
        let missing = known.subtract(&moment.set);
        if missing.is_empty() { Ok(moment) } else { Err(self.missing(missing)) }
    }

    fn missing(&self, missing: GtidSet) -> Unresolvable {
        let holds = |damage: &&ArchiveDamage| !damage.gtids.intersect(&missing).is_empty();
        let objects: Vec<String> = self
            .archive
            .damaged
            .iter()
            .filter(holds)
            .map(|damage| format!("{} ({})", damage.object, damage.wrong))
            .collect();
        let why = if objects.is_empty() {
            "were not archived".to_owned()
        } else {
            format!("were in {}", objects.join(", "))
        };
        Unresolvable { reason: format!("it is within a gap: the transactions {missing} {why}"), missing }
    }

    /// Returns the last heartbeat's completeness, if it belongs to this timeline: the time up to
    /// which the archiver has everything, and that set.
    fn told(&self) -> Option<(Option<DateTime<Utc>>, GtidSet)> {
        let alive = self.archive.alive.as_ref()?;
        let ours = self.archive.current().is_some_and(|timeline| timeline.number == self.timeline.number);
        ours.then(|| (alive.complete_to, alive.archived.clone()))
    }
}

impl RecoveryPoint {
    /// Returns the recovery point after a segment.
    #[must_use]
    fn past(self, segment: &ArchivedSegment) -> Self {
        let last_commit = self.last_commit.max(segment.committed.map(|(_, last)| last));
        Self { set: self.set.union(&segment.held_after()), last_commit, ..self }
    }
}

fn within(segment: &ArchivedSegment, target: &RecoveryTarget, before: RecoveryPoint) -> Resolution {
    Resolution::InSegment(Box::new(InSegment { segment: segment.clone(), target: target.clone(), before }))
}

fn one(gtid: &Gtid) -> GtidSet {
    let mut set = GtidSet::new();
    set.insert(gtid);
    set
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn unresolvable(reason: String) -> Unresolvable {
    Unresolvable { reason, missing: GtidSet::new() }
}
