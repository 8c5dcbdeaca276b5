//! Compares the age of a shard's newest backup with its schedule.

use std::time::Duration;

use backstop_config::schedule::Schedule;
use backstop_types::finding::Finding;
use backstop_types::ids::ShardName;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// Freshness of the newest backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// There is no backup.
    None,
    /// There is no schedule to compare with.
    Unscheduled,
    /// The next one is not overdue.
    Fresh,
    /// The next one is overdue.
    Stale {
        /// Its due time.
        due: DateTime<Utc>,
    },
}

/// Judges the moment of the newest backup's snapshot. A due backup may take a tenth of the
/// schedule's longest interval, at least 15 minutes and at most 6 hours.
pub fn freshness(
    newest: Option<DateTime<Utc>>,
    schedule: Option<&Schedule>,
    now: DateTime<Utc>,
) -> Freshness {
    let Some(newest) = newest else { return Freshness::None };
    let Some(schedule) = schedule else { return Freshness::Unscheduled };
    let Some(due) = schedule.next_after(newest) else { return Freshness::Fresh };
    let patience = TimeDelta::from_std(patience(schedule, newest)).unwrap_or_default();
    if now.signed_duration_since(due) > patience { Freshness::Stale { due } } else { Freshness::Fresh }
}

impl Freshness {
    /// Returns the finding for `status` and `check`.
    pub fn finding(&self, shard: &ShardName) -> Finding {
        let command = format!("run `backstop backup {shard}`");
        match self {
            Self::None => Finding::problem("no-backup", format!("shard {shard} has no backup"), command),
            Self::Unscheduled => Finding::warning(
                "no-schedule",
                format!("shard {shard} has no schedule: a stale backup cannot be detected"),
                format!("set shards.{shard}.schedule, for example \"cron(55 23 * * ? *)\""),
            ),
            Self::Fresh => Finding::ok("backup-fresh", format!("no backup of shard {shard} is overdue")),
            Self::Stale { due } => Finding::problem(
                "backup-stale",
                format!(
                    "a backup of shard {shard} was due at {} and is missing",
                    due.to_rfc3339_opts(SecondsFormat::Secs, true)
                ),
                format!("{command}, and find out why the schedule did not (`backstop check {shard}`)"),
            ),
        }
    }
}

fn patience(schedule: &Schedule, from: DateTime<Utc>) -> Duration {
    let tenth = schedule.longest_interval(from).unwrap_or_default() / 10;
    tenth.clamp(Duration::from_secs(15 * 60), Duration::from_secs(6 * 3600))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-{text}:00Z").parse().unwrap()
    }

    fn daily(newest: &str, now: &str) -> Freshness {
        freshness(Some(at(newest)), Some(&"cron(55 23 * * ? *)".parse().unwrap()), at(now))
    }

    #[test]
    fn overdue_backup_is_stale() {
        assert_eq!(daily("22T23:56", "23T23:50"), Freshness::Fresh);
        assert_eq!(daily("22T23:56", "24T02:00"), Freshness::Fresh, "it may be running");
        assert_eq!(daily("22T23:56", "24T02:30"), Freshness::Stale { due: at("23T23:55") });
        assert_eq!(daily("23T12:00", "24T02:30"), Freshness::Stale { due: at("23T23:55") });
        let hourly = "rate(1 hour)".parse().unwrap();
        assert_eq!(freshness(Some(at("23T01:00")), Some(&hourly), at("23T02:10")), Freshness::Fresh);
        let stale = freshness(Some(at("23T01:00")), Some(&hourly), at("23T02:16"));
        assert_eq!(stale, Freshness::Stale { due: at("23T02:00") });
    }

    #[test]
    fn missing_backup_or_schedule_is_reported() {
        let shard = "orders".parse().unwrap();
        let nothing = freshness(None, None, at("23T00:00"));
        assert_eq!((nothing, nothing.finding(&shard).code.as_ref()), (Freshness::None, "no-backup"));
        let unscheduled = freshness(Some(at("23T00:00")), None, at("29T00:00"));
        assert_eq!(unscheduled.finding(&shard).code, "no-schedule");
        let once = "cron(0 0 1 1 ? 2020)".parse().unwrap();
        assert_eq!(freshness(Some(at("01T00:00")), Some(&once), at("29T00:00")), Freshness::Fresh);
    }
}
