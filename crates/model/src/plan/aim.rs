//! What a target means in an archive: the exact set of transactions that it names.
//!
//! A line's order is that of its pieces, and within a piece that of the server's log; of a transaction that is in several, the first
//! counts. A moment is a beginning of that order: what comes up to it, and everything that the servers had executed before.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::archive::{Archive, ArchiveDamage, ArchivedSegment, Line};
use crate::gtid::{Gtid, GtidSet};
use crate::target::Target;

/// A transaction as it stands in a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its identifier.
    pub gtid: Gtid,
    /// When it was committed on the server it was made on; `None`: its event does not say.
    pub committed: Option<DateTime<Utc>>,
}

/// A moment of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The line.
    pub line: u32,
    /// Every transaction up to it.
    pub set: GtidSet,
    /// The latest commit known of in it; `None`: nothing archived comes before it.
    pub last_commit: Option<DateTime<Utc>>,
}

/// How far a target could be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// Completely.
    At(Moment),
    /// It is within this piece: its transactions tell.
    Within(Box<Within>),
}

/// A target within a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The piece whose transactions are wanted, in the order of the file.
    pub segment: ArchivedSegment,
    target: Target,
    before: Moment,
}

/// Why a target means nothing that can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    /// In words.
    pub reason: String,
    /// The transactions that are missing, if that is why.
    pub missing: GtidSet,
}

/// The line that is meant: the one asked for, or the current one. `None`: nothing is archived.
///
/// # Errors
/// There is no line of this number.
pub fn line_meant(archive: &Archive, wanted: Option<u32>) -> Result<Option<&Line>, Astray> {
    let Some(number) = wanted else { return Ok(archive.current()) };
    let numbers: Vec<String> = archive.lines.iter().map(|line| line.number.to_string()).collect();
    let known = if numbers.is_empty() { "nothing is archived".to_owned() } else { numbers.join(", ") };
    archive
        .line(number)
        .map(Some)
        .ok_or_else(|| astray(format!("there is no line {number}; the lines are: {known}")))
}

/// Resolves a target in a line.
///
/// # Errors
/// The target is not in the line, or what is around it is missing.
pub fn aim(archive: &Archive, line: &Line, target: &Target) -> Result<Aim, Astray> {
    let history = archive.history(line.number);
    let walk = Walk { archive, line, target, history: &history };
    match target {
        Target::Latest => walk.end().map(Aim::At),
        Target::Time(time) => walk.time(*time),
        Target::After(gtid) | Target::Before(gtid) => walk.gtid(gtid),
    }
}

impl Within {
    /// The moment, now that the transactions of the piece are known.
    ///
    /// # Errors
    /// The piece does not hold what it was said to.
    pub fn resolve(&self, commits: &[Commit]) -> Result<Moment, Astray> {
        let mut moment = self.before.clone();
        for commit in commits {
            if moment.set.contains(&commit.gtid) || !self.segment.gtids.contains(&commit.gtid) {
                continue;
            }
            match &self.target {
                Target::Time(time) if commit.committed.is_some_and(|at| at > *time) => return Ok(moment),
                Target::Before(gtid) if *gtid == commit.gtid => return Ok(moment),
                _ => {}
            }
            moment.set.insert(&commit.gtid);
            moment.last_commit = moment.last_commit.max(commit.committed);
            if matches!(&self.target, Target::After(gtid) if *gtid == commit.gtid) {
                return Ok(moment);
            }
        }
        match &self.target {
            Target::Time(_) => Ok(moment),
            _ => Err(astray(format!("{} does not hold what its entry says", self.segment.object))),
        }
    }
}

struct Walk<'a> {
    archive: &'a Archive,
    line: &'a Line,
    target: &'a Target,
    history: &'a [ArchivedSegment],
}

impl Walk<'_> {
    /// Before the first piece.
    fn start(&self) -> Moment {
        let set =
            self.history.first().map_or_else(|| self.line.common.clone(), |first| first.previous.clone());
        Moment { line: self.line.number, set, last_commit: None }
    }

    fn end(&self) -> Result<Moment, Astray> {
        let moment = self.history.iter().fold(self.start(), Moment::past);
        let told = self.told().map(|(_, archived)| archived).unwrap_or_default();
        self.complete(moment, &told.union(&self.archive.lost(self.line.number)))
    }

    fn time(&self, time: DateTime<Utc>) -> Result<Aim, Astray> {
        let mut moment = self.start();
        let before = self.archive.lost(self.line.number).intersect(&moment.set);
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
                // What is lost began later: the moment is before it. Of what nobody archived the times are not known.
                Some((lost, _)) if lost > time => return Ok(Aim::At(moment)),
                Some((_, lost)) if lost > time => return Err(self.missing(missing)),
                _ => {}
            }
            if first > time {
                // What comes next was committed later: the moment is here, if nothing is missing in between.
                return self.complete(moment, &segment.previous).map(Aim::At);
            }
            if last > time {
                let before = Moment { set: moment.set.union(&segment.previous), ..moment };
                return Ok(within(segment, self.target, before));
            }
            moment = moment.past(segment);
        }
        let known = self.told().map(|(_, archived)| archived).unwrap_or_default();
        let behind = known.union(&self.archive.lost(self.line.number)).subtract(&moment.set);
        let explained = behind.is_subset_of(&self.archive.lost(self.line.number));
        if explained && self.lost_times(&behind).is_some_and(|(first, _)| first > time) {
            return Ok(Aim::At(moment));
        }
        let end = self.end()?;
        let complete_to = self.told().and_then(|(to, _)| to).max(end.last_commit);
        if complete_to.is_some_and(|to| time <= to) {
            return Ok(Aim::At(end));
        }
        let to = complete_to.map_or("nothing".to_owned(), text);
        Err(astray(format!("it is later than everything that is archived: the archive reaches to {to}")))
    }

    /// The earliest and the latest commit in the lost objects that held any of these transactions. `None`: that is not known.
    fn lost_times(&self, missing: &GtidSet) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let holds = |damage: &&ArchiveDamage| !damage.gtids.intersect(missing).is_empty();
        let lost = self.archive.damaged.iter().filter(holds);
        let times: Option<Vec<_>> = lost.map(|damage| damage.committed).collect();
        let times = times?;
        Some((times.iter().map(|(first, _)| *first).min()?, times.iter().map(|(_, last)| *last).max()?))
    }

    fn gtid(&self, gtid: &Gtid) -> Result<Aim, Astray> {
        let mut moment = self.start();
        if moment.set.contains(gtid) {
            return Err(astray(format!("the archive begins after {gtid}")));
        }
        for segment in self.history {
            if segment.gtids.contains(gtid) {
                let before = Moment { set: moment.set.union(&segment.previous), ..moment };
                return Ok(within(segment, self.target, before));
            }
            if segment.previous.contains(gtid) {
                let missing = segment.previous.subtract(&moment.set);
                return Err(self.missing(missing));
            }
            moment = moment.past(segment);
        }
        let elsewhere = self.archive.lines.iter().rev().find(|line| {
            self.archive.segments.iter().any(|s| s.line == line.number && s.gtids.contains(gtid))
        });
        Err(match elsewhere {
            Some(line) if line.number != self.line.number => astray(format!(
                "{gtid} is not in line {}, but in line {}, which was left: recover it with --line {} --standalone",
                self.line.number, line.number, line.number
            )),
            _ => {
                let set: GtidSet = one(gtid);
                let known =
                    self.archive.damaged.iter().any(|damage| !damage.gtids.intersect(&set).is_empty());
                if known { self.missing(set) } else { astray(format!("no transaction {gtid} is archived")) }
            }
        })
    }

    /// The moment, if it holds everything that is known to come before it.
    fn complete(&self, moment: Moment, known: &GtidSet) -> Result<Moment, Astray> {
        let missing = known.subtract(&moment.set);
        if missing.is_empty() { Ok(moment) } else { Err(self.missing(missing)) }
    }

    fn missing(&self, missing: GtidSet) -> Astray {
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
        Astray { reason: format!("it is within a gap: the transactions {missing} {why}"), missing }
    }

    /// What the archiver told, if it is of this line: up to when it has everything, and what that is.
    fn told(&self) -> Option<(Option<DateTime<Utc>>, GtidSet)> {
        let alive = self.archive.alive.as_ref()?;
        let ours = self.archive.current().is_some_and(|line| line.number == self.line.number);
        ours.then(|| (alive.complete_to, alive.archived.clone()))
    }
}

impl Moment {
    /// Behind a piece.
    #[must_use]
    fn past(self, segment: &ArchivedSegment) -> Self {
        let last_commit = self.last_commit.max(segment.committed.map(|(_, last)| last));
        Self { set: self.set.union(&segment.held_after()), last_commit, ..self }
    }
}

fn within(segment: &ArchivedSegment, target: &Target, before: Moment) -> Aim {
    Aim::Within(Box::new(Within { segment: segment.clone(), target: target.clone(), before }))
}

fn one(gtid: &Gtid) -> GtidSet {
    let mut set = GtidSet::new();
    set.insert(gtid);
    set
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn astray(reason: String) -> Astray {
    Astray { reason, missing: GtidSet::new() }
}
