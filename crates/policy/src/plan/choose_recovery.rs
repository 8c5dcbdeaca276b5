//! Chooses a backup and a replay for a target, or refuses it with the nearest recoverable moments.

use backstop_types::archive::{Archive, Commit, Timeline};
use backstop_types::backup::BackupRef;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};

use super::replay::{self, Replay};
use super::resolve_target::{self, InSegment, RecoveryPoint, Resolution, Unresolvable};
use super::{ChosenBackup, NotRecoverable, ReachablePoint, choose_backup, is_on_timeline};
use crate::recovery_target::RecoveryTarget;
use crate::recovery_window::{TimelineCoverage, timeline_coverage};

/// Input of the decision.
#[derive(Debug, Clone, Copy)]
pub struct RecoveryQuery<'q, 'a> {
    /// The shard.
    pub shard: &'q ShardName,
    /// The archive, without the parts found to be damaged.
    pub archive: &'q Archive,
    /// The existing backups.
    pub backups: &'a [BackupRef],
    /// The target.
    pub target: &'q RecoveryTarget,
    /// The requested timeline; `None`: the current one.
    pub timeline: Option<u32>,
    /// The requested backup, if any.
    pub backup: Option<&'q BackupId>,
}

/// Result of the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryChoice<'a> {
    /// The backup.
    pub chosen: ChosenBackup<'a>,
    /// The replay on it; `None`: the archive is empty.
    pub replay: Option<Replay>,
}

/// State of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryOutcome<'a> {
    /// The decision is complete.
    Ready(RecoveryChoice<'a>),
    /// The transactions of one segment are needed: [`RecoveryQuery::within`] continues with them.
    NeedsSegment(Box<InSegment>),
}

impl<'a> RecoveryQuery<'_, 'a> {
    /// Decides as far as possible without reading a segment.
    ///
    /// # Errors
    /// Returns [`NotRecoverable`] with the nearest recoverable moments.
    pub fn decide(&self) -> Result<RecoveryOutcome<'a>, NotRecoverable> {
        let Some(timeline) = resolve_target::select_timeline(self.archive, self.timeline)
            .map_err(|unresolvable| self.refuse(unresolvable, None))?
        else {
            let chosen = choose_backup(self.shard, self.backups, self.target, self.backup)?;
            return Ok(RecoveryOutcome::Ready(RecoveryChoice { chosen, replay: None }));
        };
        if self.backups.is_empty() {
            let none = Unresolvable { reason: "it has no backup yet".to_owned(), missing: GtidSet::new() };
            return Err(self.refuse(none, Some(timeline)));
        }
        if let Some(exact) = self.exact(timeline) {
            return Ok(RecoveryOutcome::Ready(exact));
        }
        match resolve_target::resolve_target(self.archive, timeline, self.target) {
            Ok(Resolution::At(moment)) => self.from(timeline, &moment).map(RecoveryOutcome::Ready),
            Ok(Resolution::InSegment(within)) => Ok(RecoveryOutcome::NeedsSegment(within)),
            Err(unresolvable) => {
                match self.quiet(timeline).or_else(|| self.mended(timeline, &unresolvable)) {
                    Some(moment) => self.from(timeline, &moment).map(RecoveryOutcome::Ready),
                    None => Err(self.refuse(unresolvable, Some(timeline))),
                }
            }
        }
    }

    /// Continues the decision with the transactions of the requested segment, in the order of its
    /// file.
    ///
    /// # Errors
    /// Returns the same errors as [`RecoveryQuery::decide`].
    pub fn within(
        &self,
        within: &InSegment,
        commits: &[Commit],
    ) -> Result<RecoveryChoice<'a>, NotRecoverable> {
        let timeline = resolve_target::select_timeline(self.archive, self.timeline)
            .map_err(|unresolvable| self.refuse(unresolvable, None))?;
        let moment = within.resolve(commits).map_err(|unresolvable| self.refuse(unresolvable, timeline))?;
        match timeline {
            Some(timeline) => self.from(timeline, &moment),
            None => Err(self.refuse(
                Unresolvable { reason: "nothing is archived".into(), missing: GtidSet::new() },
                None,
            )),
        }
    }

    fn from(
        &self,
        timeline: &Timeline,
        moment: &RecoveryPoint,
    ) -> Result<RecoveryChoice<'a>, NotRecoverable> {
        if let Some(unresolvable) = self.too_early(moment) {
            return Err(self.refuse(unresolvable, Some(timeline)));
        }
        let moment = self.beyond(timeline, moment).unwrap_or_else(|| moment.clone());
        match replay::choose_start(self.archive, timeline, &moment, self.backups, self.backup) {
            Ok(start) => Ok(RecoveryChoice { chosen: start.chosen, replay: Some(start.replay) }),
            Err((reason, missing)) => Err(self.refuse(Unresolvable { reason, missing }, Some(timeline))),
        }
    }

    /// Refuses a time before the archive: commit times there are unknown. A backup that holds those
    /// commits shows only that it was taken later.
    fn too_early(&self, moment: &RecoveryPoint) -> Option<Unresolvable> {
        let RecoveryTarget::Time(time) = self.target else { return None };
        if moment.last_commit.is_some() || moment.set.is_empty() {
            return None;
        }
        let there =
            |backup: &BackupRef| backup.taken_at <= *time && moment.set.is_subset_of(&backup.gtid_executed);
        let early = !self.backups.iter().any(there);
        early.then(|| Unresolvable {
            reason: "it is before the first recoverable moment".to_owned(),
            missing: GtidSet::new(),
        })
    }

    /// Returns a backup that was taken at exactly the requested time.
    fn exact(&self, timeline: &Timeline) -> Option<RecoveryChoice<'a>> {
        let RecoveryTarget::Time(time) = self.target else { return None };
        let wanted = |backup: &&BackupRef| self.backup.is_none_or(|id| backup.backup_id == *id);
        let ours =
            |backup: &&BackupRef| backup.taken_at == *time && is_on_timeline(self.archive, timeline, backup);
        let backup = self.backups.iter().filter(wanted).rfind(ours)?;
        let chosen = ChosenBackup { backup, why: "it was taken at exactly this moment".to_owned() };
        Some(RecoveryChoice { chosen, replay: Some(replay::empty_replay(timeline.number, backup)) })
    }

    /// Resolves `latest` if a backup holds everything that is archived, and more.
    fn beyond(&self, timeline: &Timeline, moment: &RecoveryPoint) -> Option<RecoveryPoint> {
        if *self.target != RecoveryTarget::Latest || self.backup.is_some() {
            return None;
        }
        let further = |backup: &&BackupRef| {
            is_on_timeline(self.archive, timeline, backup)
                && moment.set.is_subset_of(&backup.gtid_executed)
                && moment.set != backup.gtid_executed
        };
        let newest = self.backups.iter().filter(further).max_by_key(|backup| backup.gtid_executed.count())?;
        Some(RecoveryPoint { set: newest.gtid_executed.clone(), ..moment.clone() })
    }

    /// Resolves a time after the last archived commit, up to a backup that holds no more than the
    /// archive: nothing was committed in between.
    fn quiet(&self, timeline: &Timeline) -> Option<RecoveryPoint> {
        let RecoveryTarget::Time(time) = self.target else { return None };
        let Ok(Resolution::At(end)) =
            resolve_target::resolve_target(self.archive, timeline, &RecoveryTarget::Latest)
        else {
            return None;
        };
        let later = end.last_commit.is_none_or(|last| last <= *time);
        let same = |backup: &BackupRef| backup.gtid_executed == end.set && backup.taken_at >= *time;
        (later && self.backups.iter().any(same)).then_some(end)
    }

    /// Resolves `latest` if a backup holds all of the timeline and the transactions missing after
    /// it. The backup closes the gap, even if nothing was archived since.
    fn mended(&self, timeline: &Timeline, unresolvable: &Unresolvable) -> Option<RecoveryPoint> {
        if *self.target != RecoveryTarget::Latest || unresolvable.missing.is_empty() {
            return None;
        }
        let all = self.archive.held(timeline.number)?.union(&unresolvable.missing);
        let fit = |backup: &&BackupRef| {
            self.backup.is_none_or(|id| backup.backup_id == *id)
                && is_on_timeline(self.archive, timeline, backup)
                && all.is_subset_of(&backup.gtid_executed)
        };
        let newest = self.backups.iter().filter(fit).max_by_key(|backup| backup.gtid_executed.count())?;
        Some(RecoveryPoint {
            timeline: timeline.number,
            set: newest.gtid_executed.clone(),
            last_commit: None,
        })
    }

    fn refuse(&self, unresolvable: Unresolvable, timeline: Option<&Timeline>) -> NotRecoverable {
        let coverage = timeline_coverage(self.archive, timeline, self.backups);
        NotRecoverable {
            shard: self.shard.clone(),
            target: self.target.to_string(),
            reason: unresolvable.reason,
            nearest: nearest_points(&coverage, self.target, &unresolvable.missing),
        }
    }
}

/// Returns the last recoverable moment before the target and the first one after it.
fn nearest_points(
    coverage: &TimelineCoverage,
    target: &RecoveryTarget,
    missing: &GtidSet,
) -> Vec<ReachablePoint> {
    let windows = &coverage.windows;
    let is_after = |set: &GtidSet, at: DateTime<Utc>| match target {
        RecoveryTarget::Time(time) => at > *time,
        RecoveryTarget::After(gtid) | RecoveryTarget::Before(gtid) => {
            set.contains(gtid) || (!missing.is_empty() && missing.is_subset_of(set))
        }
        RecoveryTarget::Latest => false,
    };
    let before = windows.iter().rev().find_map(|window| {
        if is_after(&window.gtid_from, window.from) {
            return None;
        }
        // A window contains the target but could not be used: its beginning is safe.
        let to = if is_after(&window.gtid_to, window.to) { window.from } else { window.to };
        Some(ReachablePoint { backup_id: window.backup_id.clone(), at: to })
    });
    let after = windows
        .iter()
        .find(|window| is_after(&window.gtid_from, window.from))
        .map(|window| ReachablePoint { backup_id: window.backup_id.clone(), at: window.from });
    before.into_iter().chain(after).collect()
}
