//! Decides which backups retention keeps: every rule votes for backups to keep, and a backup
//! without a vote may be deleted.
//!
//! Every backup is complete by itself, so none is kept for the sake of another.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_config::duration;
use backstop_config::retention::Retention;
use backstop_types::ids::BackupId;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde::Serialize;

/// A backup and the decision on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetentionVote {
    /// Its id.
    #[serde(rename = "backup_id")]
    pub id: BackupId,
    /// The moment of its snapshot.
    pub taken_at: DateTime<Utc>,
    /// The decision.
    #[serde(flatten)]
    pub verdict: RetentionVerdict,
}

impl RetentionVote {
    /// True if the backup may be deleted.
    pub fn is_delete(&self) -> bool {
        matches!(self.verdict, RetentionVerdict::Delete { .. })
    }
}

/// Decision on a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum RetentionVerdict {
    /// The backup is kept.
    Keep {
        /// Every rule that keeps it, in words.
        reasons: Vec<String>,
    },
    /// The backup may be deleted.
    Delete {
        /// The reason, in words.
        reason: String,
    },
}

/// Judges every backup of one shard (its id and the moment of its snapshot). Returns the votes
/// newest first. The newest backup is always kept; without rules, all backups are.
pub fn apply_retention(
    rules: Option<&Retention>,
    backups: &[(BackupId, DateTime<Utc>)],
    now: DateTime<Utc>,
) -> Vec<RetentionVote> {
    let mut newest_first = backups.to_vec();
    newest_first.sort_by(|(id, at), (other, other_at)| (other_at, other).cmp(&(at, id)));
    let mut periods = rules.map(PeriodRule::all);
    let judge = |(index, (id, taken_at)): (usize, (BackupId, DateTime<Utc>))| {
        let newest = (index == 0).then(|| "it is the newest".to_owned());
        let reasons: Vec<String> = match (rules, &mut periods) {
            (Some(rules), Some(periods)) => {
                let young = younger_than(rules.keep_all, taken_at, now);
                let by_period = periods.iter_mut().filter_map(|period| period.vote(taken_at));
                newest.into_iter().chain(young).chain(by_period).collect()
            }
            _ => vec!["the shard has no retention rules".to_owned()],
        };
        RetentionVote { id, taken_at, verdict: verdict(reasons) }
    };
    newest_first.into_iter().enumerate().map(judge).collect()
}

fn verdict(reasons: Vec<String>) -> RetentionVerdict {
    if reasons.is_empty() {
        RetentionVerdict::Delete { reason: "no retention rule keeps it".to_owned() }
    } else {
        RetentionVerdict::Keep { reasons }
    }
}

fn younger_than(keep_all: Duration, taken_at: DateTime<Utc>, now: DateTime<Utc>) -> Option<String> {
    let keep_all = TimeDelta::from_std(keep_all).unwrap_or(TimeDelta::MAX);
    let young = now.signed_duration_since(taken_at) < keep_all;
    young.then(|| format!("it is younger than {}", duration::format(keep_all.to_std().unwrap_or_default())))
}

/// Keeps the newest backup of each period, up to a number of periods.
struct PeriodRule {
    name: &'static str,
    count: u32,
    of: fn(DateTime<Utc>) -> String,
    seen: BTreeSet<String>,
}

impl PeriodRule {
    fn all(rules: &Retention) -> [Self; 3] {
        [
            Self::new("day", rules.daily, |at| at.format("%Y-%m-%d").to_string()),
            Self::new("week", rules.weekly, |at| {
                let week = at.iso_week();
                format!("{}-W{:02}", week.year(), week.week())
            }),
            Self::new("month", rules.monthly, |at| at.format("%Y-%m").to_string()),
        ]
    }

    fn new(name: &'static str, count: u32, of: fn(DateTime<Utc>) -> String) -> Self {
        Self { name, count, of, seen: BTreeSet::new() }
    }

    /// Votes on a backup. Must be called with the newest backup first.
    fn vote(&mut self, taken_at: DateTime<Utc>) -> Option<String> {
        let period = (self.of)(taken_at);
        let full = self.seen.len() >= usize::try_from(self.count).unwrap_or(usize::MAX);
        if full || !self.seen.insert(period.clone()) {
            return None;
        }
        Some(format!("it is the newest of {} {period} ({} of {})", self.name, self.seen.len(), self.count))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    fn backup(text: &str) -> (BackupId, DateTime<Utc>) {
        let taken_at: DateTime<Utc> = format!("{text}:00Z").parse().unwrap();
        (BackupId::new(taken_at, 0), taken_at)
    }

    fn rules(keep_all_hours: u64, daily: u32, weekly: u32, monthly: u32) -> Retention {
        let keep_all = Duration::from_secs(keep_all_hours * 3600);
        Retention { keep_all, daily, weekly, monthly, binlogs: None }
    }

    fn kept(judged: &[RetentionVote]) -> BTreeSet<BackupId> {
        judged.iter().filter(|j| !j.is_delete()).map(|j| j.id.clone()).collect()
    }

    #[test]
    fn rules_vote_and_give_their_reasons() {
        let times = [
            "2026-09-30T12:00",
            "2026-11-01T06:00",
            "2026-11-22T06:00",
            "2026-11-22T18:00",
            "2026-11-23T06:00",
        ];
        let backups: Vec<(BackupId, DateTime<Utc>)> = times.iter().map(|time| backup(time)).collect();
        let now = backup("2026-11-23T12:00").1;
        let judged = apply_retention(Some(&rules(8, 2, 0, 2)), &backups, now);
        let RetentionVerdict::Keep { reasons } = &judged[0].verdict else { panic!("{judged:?}") };
        assert_eq!(
            reasons.as_slice(),
            [
                "it is the newest",
                "it is younger than 8h",
                "it is the newest of day 2026-11-23 (1 of 2)",
                "it is the newest of month 2026-11 (1 of 2)"
            ]
        );
        let keeps: Vec<bool> = judged.iter().map(|j| !j.is_delete()).collect();
        assert_eq!(keeps, [true, true, false, false, true]);
    }

    #[test]
    fn newest_backup_is_kept_without_rules() {
        let backups = [backup("2020-01-01T00:00"), backup("2020-01-02T00:00")];
        let judged = apply_retention(Some(&rules(0, 0, 0, 0)), &backups, backup("2026-01-01T00:00").1);
        assert_eq!(kept(&judged), BTreeSet::from([backups[1].0.clone()]));
        assert_eq!(kept(&apply_retention(None, &backups, backups[1].1)).len(), 2, "no rules, nothing goes");
        assert!(apply_retention(Some(&rules(0, 0, 0, 0)), &[], DateTime::UNIX_EPOCH).is_empty());
    }

    fn history() -> impl Strategy<Value = Vec<(BackupId, DateTime<Utc>)>> {
        proptest::collection::btree_set(0i64..600 * 24, 0..80).prop_map(|hours| {
            let at = |hour: i64| DateTime::from_timestamp(1_750_000_000 + hour * 3600, 0).unwrap();
            hours.into_iter().map(|h| (BackupId::new(at(h), 1), at(h))).collect()
        })
    }

    fn any_rules() -> impl Strategy<Value = Retention> {
        (0u64..200, 0u32..20, 0u32..10, 0u32..10).prop_map(|(h, d, w, m)| rules(h, d, w, m))
    }

    proptest! {
        #[test]
        fn newest_backup_is_kept_and_second_run_changes_nothing(history in history(), rules in any_rules()) {
            let now = DateTime::from_timestamp(1_750_000_000 + 600 * 86_400, 0).unwrap();
            let judged = apply_retention(Some(&rules), &history, now);
            prop_assert_eq!(judged.len(), history.len());
            let keeps = kept(&judged);
            prop_assert!(history.last().is_none_or(|newest| keeps.contains(&newest.0)));
            let left: Vec<(BackupId, DateTime<Utc>)> = history.iter().filter(|b| keeps.contains(&b.0)).cloned().collect();
            prop_assert_eq!(kept(&apply_retention(Some(&rules), &left, now)), keeps);
        }

        #[test]
        fn more_generous_rules_keep_no_less(history in history(), rules in any_rules(), more in any_rules()) {
            let now = DateTime::from_timestamp(1_750_000_000 + 600 * 86_400, 0).unwrap();
            let generous = Retention {
                keep_all: rules.keep_all + more.keep_all,
                daily: rules.daily + more.daily,
                weekly: rules.weekly + more.weekly,
                monthly: rules.monthly + more.monthly,
                binlogs: None,
            };
            let (few, many) = (apply_retention(Some(&rules), &history, now), apply_retention(Some(&generous), &history, now));
            prop_assert!(kept(&few).is_subset(&kept(&many)));
        }

        #[test]
        fn configured_number_of_days_is_kept(history in history(), daily in 1u32..30) {
            let now = DateTime::from_timestamp(1_750_000_000 + 600 * 86_400, 0).unwrap();
            let days: BTreeSet<_> = history.iter().map(|b| b.1.date_naive()).collect();
            let keeps = kept(&apply_retention(Some(&rules(0, daily, 0, 0)), &history, now));
            prop_assert_eq!(keeps.len(), days.len().min(daily as usize));
        }
    }
}
