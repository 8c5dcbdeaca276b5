//! Chooses the backup for a recovery.

use backstop_types::backup::BackupRef;
use backstop_types::error::{Error, ErrorKind};
use backstop_types::gtid::Gtid;
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::recovery_target::{RecoveryTarget, moment_as_target};

/// The chosen backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenBackup<'a> {
    /// The backup.
    pub backup: &'a BackupRef,
    /// The reason, in words.
    pub why: String,
}

/// Error: the target cannot be recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("cannot recover shard {shard} to {target}: {reason}")]
pub struct NotRecoverable {
    /// The shard.
    pub shard: ShardName,
    /// The requested target.
    pub target: String,
    /// The reason, in words.
    pub reason: String,
    /// The nearest recoverable moments: at most one before and one after, in order of time.
    pub nearest: Vec<ReachablePoint>,
}

/// A recoverable moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReachablePoint {
    /// The backup that reaches it.
    pub backup_id: BackupId,
    /// The moment.
    pub at: DateTime<Utc>,
}

impl From<NotRecoverable> for Error {
    fn from(refused: NotRecoverable) -> Self {
        let moments = refused
            .nearest
            .iter()
            .map(|near| format!("{} (--backup {})", moment_as_target(near.at), near.backup_id));
        let moments: Vec<String> = moments.collect();
        let hint = if moments.is_empty() {
            format!("make one with `backstop backup {}`", refused.shard)
        } else {
            format!("choose the nearest recoverable moment: {}", moments.join(" or "))
        };
        Self::new(ErrorKind::NotRecoverable, refused.to_string()).hint(hint)
    }
}

/// Chooses the backup for a target without an archive, or takes the requested one. Only the moments
/// of the backups are recoverable.
///
/// # Errors
/// Returns [`NotRecoverable`] with the nearest recoverable moments.
pub fn choose_backup<'a>(
    shard: &ShardName,
    backups: &'a [BackupRef],
    target: &RecoveryTarget,
    wanted: Option<&BackupId>,
) -> Result<ChosenBackup<'a>, NotRecoverable> {
    let refuse = |reason: &str, nearest: Vec<&BackupRef>| NotRecoverable {
        shard: shard.clone(),
        target: target.to_string(),
        reason: reason.to_owned(),
        nearest: nearest.into_iter().map(reachable).collect(),
    };
    let mut by_time: Vec<&BackupRef> = backups.iter().collect();
    by_time.sort_by_key(|backup| (backup.taken_at, &backup.backup_id));
    let Some(newest) = by_time.last().copied() else {
        return Err(refuse("it has no backup yet", vec![]));
    };
    let asked = match wanted {
        Some(id) => match by_time.iter().copied().find(|backup| backup.backup_id == *id) {
            None => return Err(refuse(&format!("there is no backup {id}"), vec![newest])),
            found => found,
        },
        None => None,
    };
    match (asked, target) {
        (Some(backup), RecoveryTarget::Latest) => Ok(chosen(backup, "it was requested")),
        (None, RecoveryTarget::Latest) => {
            Ok(chosen(newest, "it is the newest backup, and there is no archive to replay"))
        }
        (asked, _) => {
            match exact_backup(&by_time, target).filter(|found| asked.is_none_or(|asked| asked == *found)) {
                Some(backup) => Ok(chosen(backup, "it was taken at exactly this moment")),
                None => Err(refuse(
                    "there is no archive: only the moments of backups can be recovered",
                    nearest_backups(&by_time, target),
                )),
            }
        }
    }
}

fn chosen<'a>(backup: &'a BackupRef, why: &str) -> ChosenBackup<'a> {
    ChosenBackup { backup, why: why.to_owned() }
}

fn reachable(backup: &BackupRef) -> ReachablePoint {
    ReachablePoint { backup_id: backup.backup_id.clone(), at: backup.taken_at }
}

/// Returns the backup at exactly the target. Only a backup of that very moment matches a time. No
/// backup matches a transaction, since a set does not say which transactions came before it.
fn exact_backup<'a>(by_time: &[&'a BackupRef], target: &RecoveryTarget) -> Option<&'a BackupRef> {
    let RecoveryTarget::Time(time) = target else { return None };
    by_time.iter().copied().rfind(|backup| backup.taken_at == *time)
}

/// Returns the last backup before the target and the first one after it.
fn nearest_backups<'a>(by_time: &[&'a BackupRef], target: &RecoveryTarget) -> Vec<&'a BackupRef> {
    let holds = |gtid: &Gtid, backup: &BackupRef| backup.gtid_executed.contains(gtid);
    let is_after = |backup: &&&BackupRef| match target {
        RecoveryTarget::Time(time) => backup.taken_at > *time,
        RecoveryTarget::After(gtid) | RecoveryTarget::Before(gtid) => holds(gtid, backup),
        RecoveryTarget::Latest => false,
    };
    let before = by_time.iter().rfind(|backup| !is_after(backup));
    let after = by_time.iter().find(|backup| is_after(backup));
    before.into_iter().chain(after).copied().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn known(day: u32, last: u64) -> BackupRef {
        let taken_at: DateTime<Utc> = format!("2026-11-{day:02}T23:55:00Z").parse().unwrap();
        let gtid_executed = format!("{UUID}:1-{last}").parse().unwrap();
        BackupRef { backup_id: BackupId::new(taken_at, day), taken_at, gtid_executed, on_timeline: None }
    }

    fn choose<'a>(
        backups: &'a [BackupRef],
        to: &str,
        wanted: Option<&BackupId>,
    ) -> Result<ChosenBackup<'a>, NotRecoverable> {
        choose_backup(&"orders".parse().unwrap(), backups, &to.parse().unwrap(), wanted)
    }

    #[test]
    fn latest_is_the_newest_or_the_requested_backup() {
        let backups = [known(22, 500), known(20, 100), known(21, 300)];
        assert_eq!(choose(&backups, "latest", None).unwrap().backup, &backups[0]);
        let asked = choose(&backups, "latest", Some(&backups[1].backup_id)).unwrap();
        assert_eq!((asked.backup, asked.why.as_str()), (&backups[1], "it was requested"));
        let moment = choose(&backups, "2026-11-21T23:55:00Z", None).unwrap();
        assert_eq!(moment.backup, &backups[2]);
    }

    #[test]
    fn unreachable_target_names_the_nearest_moments() {
        let backups = [known(20, 100), known(21, 300), known(22, 500)];
        let nearest = |to: &str| {
            let refused = choose(&backups, to, None).unwrap_err();
            refused.nearest.iter().map(|near| near.backup_id.clone()).collect::<Vec<_>>()
        };
        let ids: Vec<BackupId> = backups.iter().map(|backup| backup.backup_id.clone()).collect();
        assert_eq!(nearest("2026-11-22T12:00:00Z"), ids[1..]);
        assert_eq!(nearest("2026-11-01T12:00:00Z"), ids[..1]);
        assert_eq!(nearest("2026-12-01T12:00:00Z"), ids[2..]);
        assert_eq!(nearest(&format!("after:{UUID}:200")), ids[..2]);
        assert_eq!(nearest(&format!("before:{UUID}:100")), ids[..1]);
        assert_eq!(nearest(&format!("after:{UUID}:900")), ids[2..]);
    }

    #[test]
    fn refusals_convert_to_errors_with_a_hint() {
        let none = Error::from(choose(&[], "latest", None).unwrap_err());
        assert_eq!((none.kind, none.message.contains("no backup yet")), (ErrorKind::NotRecoverable, true));
        let backups = [known(20, 100)];
        let missing = choose(&backups, "latest", Some(&known(21, 1).backup_id)).unwrap_err();
        assert_eq!(missing.nearest.len(), 1);
        let hint = Error::from(missing).hint.unwrap();
        assert!(hint.contains("2026-11-20T23:55:00Z") && hint.contains("--backup"), "{hint}");
        let other = choose(&backups, "2026-11-21T23:55:00Z", Some(&backups[0].backup_id)).unwrap_err();
        assert!(other.reason.contains("no archive"));
    }
}
