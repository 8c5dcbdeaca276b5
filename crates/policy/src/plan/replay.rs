//! Chooses the backup for a recovery point in the archive, and the replay on it.

use backstop_types::archive::{Archive, ArchivedSegment, Timeline};
use backstop_types::backup::BackupRef;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::BackupId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::ChosenBackup;
use super::backup_timeline::is_on_timeline;
use super::resolve_target::RecoveryPoint;

/// Replay on a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The timeline it follows.
    #[serde(rename = "line")]
    pub timeline: u32,
    /// The GTIDs of the backup.
    pub from: GtidSet,
    /// Exactly the transactions to apply: the recovered server then holds `from` and these. Empty:
    /// the backup is the recovery point.
    pub gtids: GtidSet,
    /// Number of these transactions.
    pub transactions: u64,
    /// The latest commit up to the recovery point, if known.
    pub last_commit: Option<DateTime<Utc>>,
    /// Number of segments to read.
    pub segments: u64,
    /// Bytes of these segments.
    pub bytes: u64,
}

impl Replay {
    /// Returns all GTIDs of the server after the replay.
    #[must_use]
    pub fn reached(&self) -> GtidSet {
        self.from.union(&self.gtids)
    }
}

/// A backup for a recovery point, and the replay on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayStart<'a> {
    /// The backup.
    pub chosen: ChosenBackup<'a>,
    /// The replay.
    pub replay: Replay,
}

/// Chooses the backup that reaches a recovery point with the least replay, or takes the requested
/// one.
///
/// # Errors
/// Returns the reason in words if no backup does, with the missing transactions if they are the
/// reason.
pub fn choose_start<'a>(
    archive: &Archive,
    timeline: &Timeline,
    moment: &RecoveryPoint,
    backups: &'a [BackupRef],
    wanted: Option<&BackupId>,
) -> Result<ReplayStart<'a>, (String, GtidSet)> {
    let history = archive.history(moment.timeline);
    let mut fit: Vec<&BackupRef> =
        backups.iter().filter(|backup| is_on_timeline(archive, timeline, backup)).collect();
    fit.retain(|backup| backup.gtid_executed.is_subset_of(&moment.set));
    if let Some(id) = wanted {
        fit.retain(|backup| backup.backup_id == *id);
        if fit.is_empty() {
            let why = format!(
                "backup {id} holds later transactions, or transactions that are not on timeline {}",
                timeline.number
            );
            return Err((why, GtidSet::new()));
        }
    }
    fit.sort_by_key(|backup| (backup.gtid_executed.count(), backup.taken_at, backup.backup_id.clone()));
    let Some(nearest) = fit.last() else {
        return Err(("every backup holds later transactions".to_owned(), GtidSet::new()));
    };
    let lacks = |backup: &BackupRef| first_missing(&history, &backup.gtid_executed, &moment.set);
    let reaches = |backup: &&&BackupRef| lacks(backup).is_empty();
    match fit.iter().rev().find(reaches) {
        Some(backup) => Ok(ReplayStart {
            chosen: ChosenBackup { backup, why: why(backup, wanted, &moment.set) },
            replay: replay(backup, moment, &history),
        }),
        None => {
            let missing = lacks(nearest);
            let id = &nearest.backup_id;
            Err((
                format!(
                    "there is a gap between backup {id} and it: the transactions {missing} are not archived"
                ),
                missing,
            ))
        }
    }
}

/// Returns the transactions missing between two sets: the first gap that a binlog server would
/// reach.
fn first_missing(history: &[ArchivedSegment], from: &GtidSet, to: &GtidSet) -> GtidSet {
    let mut done = from.clone();
    for segment in history {
        let gtids = segment.gtids.intersect(to);
        if gtids.is_subset_of(&done) {
            continue;
        }
        let missing = segment.previous.intersect(to).subtract(&done);
        if !missing.is_empty() {
            return missing;
        }
        done = done.union(&gtids);
    }
    to.subtract(&done)
}

/// Returns the empty replay of a backup that is the recovery point.
pub(super) fn empty_replay(timeline: u32, backup: &BackupRef) -> Replay {
    Replay {
        timeline,
        from: backup.gtid_executed.clone(),
        gtids: GtidSet::new(),
        transactions: 0,
        last_commit: None,
        segments: 0,
        bytes: 0,
    }
}

fn why(backup: &BackupRef, wanted: Option<&BackupId>, set: &GtidSet) -> String {
    match wanted {
        Some(_) => "it was requested".to_owned(),
        None if backup.gtid_executed == *set => "it is at exactly this moment".to_owned(),
        None => "it is the nearest one before this moment".to_owned(),
    }
}

fn replay(backup: &BackupRef, moment: &RecoveryPoint, history: &[ArchivedSegment]) -> Replay {
    let gtids = moment.set.subtract(&backup.gtid_executed);
    let mut left = gtids.clone();
    let mut needed: Vec<&ArchivedSegment> = Vec::new();
    for segment in history {
        if left.is_empty() {
            break;
        }
        if !segment.gtids.intersect(&left).is_empty() {
            left = left.subtract(&segment.gtids);
            needed.push(segment);
        }
    }
    Replay {
        timeline: moment.timeline,
        from: backup.gtid_executed.clone(),
        transactions: gtids.count(),
        gtids,
        last_commit: moment.last_commit,
        segments: needed.len() as u64,
        bytes: needed.iter().map(|segment| segment.size()).sum(),
    }
}
