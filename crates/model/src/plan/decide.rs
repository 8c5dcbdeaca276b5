//! From a target to a backup and a replay, or to a refusal with the nearest moments.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::archive::{Archive, Line};
use crate::coverage::{LineCoverage, line_coverage};
use crate::gtid::GtidSet;
use crate::ids::{BackupId, ShardName};
use crate::target::Target;

use super::aim::{self, Aim, Astray, Moment, Within};
use super::replay::{self, Replay};
use super::{Chosen, Known, NotRecoverable, Reachable, choose_backup, on_line};

/// What is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Quest<'q, 'a> {
    /// Whose history.
    pub shard: &'q ShardName,
    /// What is archived, without what was found to be damaged.
    pub archive: &'q Archive,
    /// The backups there are.
    pub backups: &'a [Known],
    /// The moment.
    pub target: &'q Target,
    /// The line, if a certain one is wanted; else the current one.
    pub line: Option<u32>,
    /// A certain backup.
    pub backup: Option<&'q BackupId>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided<'a> {
    /// The backup.
    pub chosen: Chosen<'a>,
    /// What is replayed on it; `None`: nothing is archived.
    pub replay: Option<Replay>,
}

/// How far a decision is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toward<'a> {
    /// It is made.
    Decided(Decided<'a>),
    /// The transactions of one piece are needed: [`Quest::within`] goes on with them.
    Needs(Box<Within>),
}

impl<'a> Quest<'_, 'a> {
    /// Decides, as far as that is possible without reading any piece.
    ///
    /// # Errors
    /// [`NotRecoverable`] with the nearest moments that can be reached.
    pub fn decide(&self) -> Result<Toward<'a>, NotRecoverable> {
        let Some(line) =
            aim::line_meant(self.archive, self.line).map_err(|astray| self.refuse(astray, None))?
        else {
            let chosen = choose_backup(self.shard, self.backups, self.target, self.backup)?;
            return Ok(Toward::Decided(Decided { chosen, replay: None }));
        };
        if self.backups.is_empty() {
            let none = Astray { reason: "it has no backup yet".to_owned(), missing: GtidSet::new() };
            return Err(self.refuse(none, Some(line)));
        }
        if let Some(exact) = self.exact(line) {
            return Ok(Toward::Decided(exact));
        }
        match aim::aim(self.archive, line, self.target) {
            Ok(Aim::At(moment)) => self.from(line, &moment).map(Toward::Decided),
            Ok(Aim::Within(within)) => Ok(Toward::Needs(within)),
            Err(astray) => match self.quiet(line).or_else(|| self.mended(line, &astray)) {
                Some(moment) => self.from(line, &moment).map(Toward::Decided),
                None => Err(self.refuse(astray, Some(line))),
            },
        }
    }

    /// Goes on with the transactions of the piece that was asked for, in the order of its file.
    ///
    /// # Errors
    /// As [`Quest::decide`].
    pub fn within(&self, within: &Within, commits: &[aim::Commit]) -> Result<Decided<'a>, NotRecoverable> {
        let line = aim::line_meant(self.archive, self.line).map_err(|astray| self.refuse(astray, None))?;
        let moment = within.resolve(commits).map_err(|astray| self.refuse(astray, line))?;
        match line {
            Some(line) => self.from(line, &moment),
            None => {
                Err(self
                    .refuse(Astray { reason: "nothing is archived".into(), missing: GtidSet::new() }, None))
            }
        }
    }

    fn from(&self, line: &Line, moment: &Moment) -> Result<Decided<'a>, NotRecoverable> {
        if let Some(astray) = self.too_early(moment) {
            return Err(self.refuse(astray, Some(line)));
        }
        let moment = self.beyond(line, moment).unwrap_or_else(|| moment.clone());
        match replay::start(self.archive, line, &moment, self.backups, self.backup) {
            Ok(start) => Ok(Decided { chosen: start.chosen, replay: Some(start.replay) }),
            Err((reason, missing)) => Err(self.refuse(Astray { reason, missing }, Some(line))),
        }
    }

    /// When what came before the archive was committed is not known: only that a backup which holds it was taken later.
    fn too_early(&self, moment: &Moment) -> Option<Astray> {
        let Target::Time(time) = self.target else { return None };
        if moment.last_commit.is_some() || moment.set.is_empty() {
            return None;
        }
        let there =
            |backup: &Known| backup.taken_at <= *time && moment.set.is_subset_of(&backup.gtid_executed);
        let early = !self.backups.iter().any(there);
        early.then(|| Astray {
            reason: "it is before the first moment that can be recovered".to_owned(),
            missing: GtidSet::new(),
        })
    }

    /// A backup that was taken at exactly the time asked for.
    fn exact(&self, line: &Line) -> Option<Decided<'a>> {
        let Target::Time(time) = self.target else { return None };
        let wanted = |backup: &&Known| self.backup.is_none_or(|id| backup.backup_id == *id);
        let ours = |backup: &&Known| backup.taken_at == *time && on_line(self.archive, line, backup);
        let backup = self.backups.iter().filter(wanted).rfind(ours)?;
        let chosen = Chosen { backup, why: "it was taken at exactly this moment".to_owned() };
        Some(Decided { chosen, replay: Some(replay::nothing(line.number, backup)) })
    }

    /// `latest` when a backup holds everything that is archived, and more.
    fn beyond(&self, line: &Line, moment: &Moment) -> Option<Moment> {
        if *self.target != Target::Latest || self.backup.is_some() {
            return None;
        }
        let further = |backup: &&Known| {
            on_line(self.archive, line, backup)
                && moment.set.is_subset_of(&backup.gtid_executed)
                && moment.set != backup.gtid_executed
        };
        let newest = self.backups.iter().filter(further).max_by_key(|backup| backup.gtid_executed.count())?;
        Some(Moment { set: newest.gtid_executed.clone(), ..moment.clone() })
    }

    /// A time after the last archived commit, up to a backup that holds no more than was archived: nothing was committed meanwhile.
    fn quiet(&self, line: &Line) -> Option<Moment> {
        let Target::Time(time) = self.target else { return None };
        let Ok(Aim::At(end)) = aim::aim(self.archive, line, &Target::Latest) else { return None };
        let later = end.last_commit.is_none_or(|last| last <= *time);
        let same = |backup: &Known| backup.gtid_executed == end.set && backup.taken_at >= *time;
        (later && self.backups.iter().any(same)).then_some(end)
    }

    /// `latest` when a backup holds all of the line, and what is missing behind it: it mends the gap, though nothing was archived since.
    fn mended(&self, line: &Line, astray: &Astray) -> Option<Moment> {
        if *self.target != Target::Latest || astray.missing.is_empty() {
            return None;
        }
        let all = self.archive.held(line.number)?.union(&astray.missing);
        let fit = |backup: &&Known| {
            self.backup.is_none_or(|id| backup.backup_id == *id)
                && on_line(self.archive, line, backup)
                && all.is_subset_of(&backup.gtid_executed)
        };
        let newest = self.backups.iter().filter(fit).max_by_key(|backup| backup.gtid_executed.count())?;
        Some(Moment { line: line.number, set: newest.gtid_executed.clone(), last_commit: None })
    }

    fn refuse(&self, astray: Astray, line: Option<&Line>) -> NotRecoverable {
        let coverage = line_coverage(self.archive, line, self.backups);
        NotRecoverable {
            shard: self.shard.clone(),
            target: self.target.to_string(),
            reason: astray.reason,
            nearest: nearest(&coverage, self.target, &astray.missing),
        }
    }
}

/// The last moment before the target and the first one after it that can be recovered.
fn nearest(coverage: &LineCoverage, target: &Target, missing: &GtidSet) -> Vec<Reachable> {
    let windows = &coverage.windows;
    let is_after = |set: &GtidSet, at: DateTime<Utc>| match target {
        Target::Time(time) => at > *time,
        Target::After(gtid) | Target::Before(gtid) => {
            set.contains(gtid) || (!missing.is_empty() && missing.is_subset_of(set))
        }
        Target::Latest => false,
    };
    let before = windows.iter().rev().find_map(|window| {
        if is_after(&window.gtid_from, window.from) {
            return None;
        }
        // A window that the target is in, but that did not help: its beginning is safe.
        let to = if is_after(&window.gtid_to, window.to) { window.from } else { window.to };
        Some(Reachable { backup_id: window.backup_id.clone(), at: to })
    });
    let after = windows
        .iter()
        .find(|window| is_after(&window.gtid_from, window.from))
        .map(|window| Reachable { backup_id: window.backup_id.clone(), at: window.from });
    before.into_iter().chain(after).collect()
}

/// A moment as `--to` takes it.
pub(super) fn as_target(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
