//! Availability of a committed backup: whether its data is known to exist now.
//!
//! A commit proves only the state at that time. Where the data is outside the repository (EBS), its
//! present state must be queried.

use backstop_types::backup::{BackupRef, BackupState, VolumeState};
use backstop_types::finding::Finding;
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, SecondsFormat, Utc};

/// Known state of a backup's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupAvailability {
    /// No check has found a defect.
    Available,
    /// Its data is still being stored: it cannot be recovered yet.
    Pending,
    /// It cannot be recovered, for this reason.
    Lost(String),
    /// Its state could not be queried, for this reason.
    Unknown(String),
}

impl BackupAvailability {
    /// Converts the state of a set of volume snapshots to the availability of its backup.
    pub fn of(state: VolumeState, snapshot_ids: &[String]) -> Self {
        let set = || format!("EBS {}", snapshot_ids.join(", "));
        match state {
            VolumeState::Completed => Self::Available,
            VolumeState::Pending => Self::Pending,
            VolumeState::Error => {
                Self::Lost(format!("{} ended in an error: EC2 could not complete it", set()))
            }
            VolumeState::Missing => Self::Lost(format!("{} is gone: EC2 no longer has it", set())),
            VolumeState::Archived => Self::Lost(format!(
                "{} is in the archive tier: restore it with `aws ec2 restore-snapshot-tier`, which takes hours",
                set()
            )),
            VolumeState::Recycled => Self::Lost(format!(
                "{} was deleted and is in the recycle bin: restore it with `aws ec2 \
                 restore-snapshot-from-recycle-bin`",
                set()
            )),
        }
    }

    /// Returns the state for reports.
    pub fn state(&self) -> BackupState {
        match self {
            Self::Available => BackupState::Complete,
            Self::Pending => BackupState::Pending,
            Self::Lost(_) => BackupState::Damaged,
            Self::Unknown(_) => BackupState::Unknown,
        }
    }

    /// True if it is reliable: no check found a defect, and every check ran.
    pub fn is_sound(&self) -> bool {
        *self == Self::Available
    }

    /// True if it can never be recovered.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

/// Returns the findings for a plan from this backup: on its availability, and on newer backups that
/// the plan did not use.
pub fn plan_findings(
    chosen: &BackupId,
    taken_at: DateTime<Utc>,
    backups: &[(BackupRef, BackupAvailability)],
) -> Vec<Finding> {
    let other = "the plan uses another one";
    let about = |(known, availability): &(BackupRef, BackupAvailability)| {
        let (id, own) = (&known.backup_id, known.backup_id == *chosen);
        let of = known.taken_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        match availability {
            BackupAvailability::Unknown(why) if own => Some(Finding::problem(
                "backup-not-asked",
                format!("the state of the EBS snapshots of backup {id} is unknown: {why}"),
                "plan with a build and credentials that can query EC2 (docs/aws.md)",
            )),
            BackupAvailability::Pending if own => Some(Finding::problem(
                "backup-pending",
                format!("backup {id} is not complete yet: it is recoverable when EC2 has stored its blocks"),
                "wait until `backstop backups` lists it as complete, or name an older one with --backup",
            )),
            BackupAvailability::Pending if known.taken_at > taken_at => Some(Finding::warning(
                "backup-pending",
                format!("backup {id} of {of} is newer and not complete yet: {other}"),
                "wait until `backstop backups` lists it as complete",
            )),
            BackupAvailability::Lost(why) if known.taken_at > taken_at => Some(Finding::warning(
                "backup-lost",
                format!("backup {id} of {of} is newer and not recoverable ({why}): {other}"),
                "make a new backup",
            )),
            _ => None,
        }
    };
    backups.iter().filter_map(about).collect()
}

/// Returns the findings of `status` on the availability of a shard's backups.
pub fn availability_findings(shard: &ShardName, backups: &[(BackupRef, BackupAvailability)]) -> Vec<Finding> {
    let about = |(known, availability): &(BackupRef, BackupAvailability)| match availability {
        BackupAvailability::Lost(why) => Some(Finding::problem(
            "backup-lost",
            format!("backup {} of shard {shard} is not recoverable: {why}", known.backup_id),
            format!("make a new one: `backstop backup {shard}`"),
        )),
        BackupAvailability::Pending => Some(Finding::warning(
            "backup-pending",
            format!("backup {} is not complete yet: EC2 is still storing its blocks", known.backup_id),
            "wait until it is complete, and check again",
        )),
        BackupAvailability::Available | BackupAvailability::Unknown(_) => None,
    };
    backups.iter().filter_map(about).chain(unknown_finding(shard, backups)).collect()
}

/// Returns one finding for all unknown backups: mostly they have the same cause.
fn unknown_finding(shard: &ShardName, backups: &[(BackupRef, BackupAvailability)]) -> Option<Finding> {
    let mut reasons = backups.iter().filter_map(|(_, availability)| match availability {
        BackupAvailability::Unknown(why) => Some(why),
        _ => None,
    });
    let why = reasons.next()?;
    let (count, all) = (1 + reasons.count(), backups.len());
    Some(Finding::problem(
        "backup-not-asked",
        format!(
            "{count} of {all} backups of shard {shard} are in EBS snapshots whose state is unknown: {why}"
        ),
        "check with a build and credentials that can list EC2 snapshots (docs/aws.md)",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_types::finding::Severity;
    use backstop_types::gtid::GtidSet;

    use super::*;

    fn backup(day: u32, availability: BackupAvailability) -> (BackupRef, BackupAvailability) {
        let taken_at: DateTime<Utc> = format!("2026-11-{day:02}T23:55:00Z").parse().unwrap();
        let gtid_executed = GtidSet::new();
        (
            BackupRef { backup_id: BackupId::new(taken_at, day), taken_at, gtid_executed, on_timeline: None },
            availability,
        )
    }

    fn said(findings: &[Finding]) -> Vec<(Severity, &str)> {
        findings.iter().map(|finding| (finding.severity, finding.code.as_ref())).collect()
    }

    #[test]
    fn plan_reports_skipped_and_unchecked_backups() {
        let lost = || BackupAvailability::Lost("EBS snap-1 ended in an error".to_owned());
        let unasked = || BackupAvailability::Unknown("denied".to_owned());
        let (sound, pending) = (|| backup(20, BackupAvailability::Available), BackupAvailability::Pending);
        let cases = [
            (vec![sound(), backup(21, lost())], vec![(Severity::Warning, "backup-lost")]),
            (vec![sound(), backup(19, lost())], vec![]),
            (vec![sound(), backup(21, pending.clone())], vec![(Severity::Warning, "backup-pending")]),
            (vec![backup(20, pending)], vec![(Severity::Problem, "backup-pending")]),
            (vec![backup(20, unasked())], vec![(Severity::Problem, "backup-not-asked")]),
            (vec![sound(), backup(19, unasked())], vec![]),
        ];
        for (backups, expected) in cases {
            let (chosen, taken_at) = (backups[0].0.backup_id.clone(), backups[0].0.taken_at);
            assert_eq!(said(&plan_findings(&chosen, taken_at, &backups)), expected);
        }
    }

    #[test]
    fn status_names_lost_backups_and_counts_unchecked_ones() {
        let shard = "orders".parse().unwrap();
        let unasked = || BackupAvailability::Unknown("this build cannot".to_owned());
        let backups = [
            backup(18, unasked()),
            backup(19, BackupAvailability::Lost("gone".to_owned())),
            backup(20, unasked()),
            backup(21, BackupAvailability::Pending),
            backup(22, BackupAvailability::Available),
        ];
        let findings = availability_findings(&shard, &backups);
        let expected = [
            (Severity::Problem, "backup-lost"),
            (Severity::Warning, "backup-pending"),
            (Severity::Problem, "backup-not-asked"),
        ];
        assert_eq!(said(&findings), expected);
        assert!(findings[2].what.starts_with("2 of 5 backups"), "{}", findings[2].what);
    }

    #[test]
    fn backup_state_follows_the_state_of_its_ebs_snapshots() {
        let ids = ["snap-1".to_owned(), "snap-2".to_owned()];
        let state = |volumes| BackupAvailability::of(volumes, &ids).state();
        assert_eq!(state(VolumeState::Completed), BackupState::Complete);
        assert_eq!(state(VolumeState::Pending), BackupState::Pending);
        assert_eq!(state(VolumeState::Error), BackupState::Damaged);
        assert_eq!(state(VolumeState::Missing), BackupState::Damaged);
        for (volumes, part) in
            [(VolumeState::Archived, "archive tier"), (VolumeState::Recycled, "recycle bin")]
        {
            let known = BackupAvailability::of(volumes, &ids);
            assert!(matches!(&known, BackupAvailability::Lost(why) if why.contains(part)), "{known:?}");
        }
        assert_eq!(BackupAvailability::Unknown("denied".to_owned()).state(), BackupState::Unknown);
        assert!(
            !BackupAvailability::Unknown("denied".to_owned()).is_sound()
                && !BackupAvailability::Pending.is_sound()
        );
    }
}
