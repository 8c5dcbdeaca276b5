//! Schedule of backups, in the grammar of AWS EventBridge: `cron(55 23 * * ? *)` or `rate(6
//! hours)`. All times are UTC.

mod cron;
mod grammar;
mod systemd;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use cron::Cron;
pub use systemd::{NotExpressible, SystemdTimer};

/// Schedule of backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    rule: ScheduleRule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ScheduleRule {
    Cron(Cron),
    Rate(Duration),
}

/// Error: a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a schedule: {reason}")]
pub struct InvalidSchedule {
    /// The text.
    pub text: String,
    /// The invalid field and the reason.
    pub reason: String,
}

impl Schedule {
    /// Returns the expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the first due moment after `moment`. A rate counts from `moment`, so the caller
    /// passes the last run. `None` if there is none before the year 2200.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.rule {
            ScheduleRule::Cron(cron) => cron.next_after(moment),
            ScheduleRule::Rate(every) => moment.checked_add_signed(TimeDelta::from_std(*every).ok()?),
        }
    }

    /// Returns the last due moment before `moment`. A rate counts back from `moment`. `None` if
    /// there is none after the year 1969.
    pub fn previous_before(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.rule {
            ScheduleRule::Cron(cron) => cron.previous_before(moment),
            ScheduleRule::Rate(every) => moment.checked_sub_signed(TimeDelta::from_std(*every).ok()?),
        }
    }

    /// Returns the longest time between two due moments in the eight years after `from`. `None` if
    /// there are not two.
    pub fn longest_interval(&self, from: DateTime<Utc>) -> Option<Duration> {
        match &self.rule {
            ScheduleRule::Cron(cron) => cron.longest_interval(from.date_naive()),
            ScheduleRule::Rate(every) => Some(*every),
        }
    }

    /// Converts the schedule to systemd timers.
    ///
    /// # Errors
    /// Returns [`NotExpressible`] if a timer cannot express it.
    pub fn to_systemd(&self) -> Result<SystemdTimer, NotExpressible> {
        match &self.rule {
            ScheduleRule::Cron(cron) => systemd::calendar(cron).map(SystemdTimer::Calendar),
            ScheduleRule::Rate(every) => Ok(SystemdTimer::Every(*every)),
        }
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let inside = |name: &str| text.trim().strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        let rule =
            match (inside("cron"), inside("rate")) {
                (Some(fields), _) => grammar::parse_cron(fields).map(ScheduleRule::Cron),
                (_, Some(rate)) => grammar::parse_rate(rate).map(ScheduleRule::Rate),
                _ => Err("write cron(minutes hours day-of-month month day-of-week year) or rate(6 hours)"
                    .to_owned()),
            };
        let rule = rule.map_err(|reason| InvalidSchedule { text: text.to_owned(), reason })?;
        Ok(Self { text: text.trim().to_owned(), rule })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
