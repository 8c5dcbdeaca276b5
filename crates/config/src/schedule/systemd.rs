//! Converts schedules to systemd timers.

use std::time::Duration;

use super::cron::{Cron, DayRule, FIRST_AND_LAST_YEAR};

/// Trigger of a systemd timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemdTimer {
    /// Calendar expressions, each the value of an `OnCalendar=`.
    Calendar(Vec<String>),
    /// This long after the start of the last run.
    Every(Duration),
}

/// Error: no systemd timer can express the schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("systemd timers cannot express this schedule: {reason}")]
pub struct NotExpressible {
    /// The part of the schedule, and the reason.
    pub reason: String,
}

impl SystemdTimer {
    /// Returns the trigger's lines in the `[Timer]` section.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Calendar(all) => all.iter().map(|calendar| format!("OnCalendar={calendar}")).collect(),
            Self::Every(every) => {
                vec!["OnBootSec=5min".to_owned(), format!("OnUnitActiveSec={}s", every.as_secs())]
            }
        }
    }
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const WORKDAYS: &str = "Mon..Fri ";

/// Returns one calendar expression, or several where a rule needs cases: `[weekdays ]year-month-day
/// hour:minute:00 UTC`.
pub(super) fn calendar(cron: &Cron) -> Result<Vec<String>, NotExpressible> {
    let month = format!("{}-{}", list(&cron.years, FIRST_AND_LAST_YEAR, 4), list(&cron.months, (1, 12), 2));
    let time = format!("{}:{}:00 UTC", list(&cron.hours, (0, 23), 2), list(&cron.minutes, (0, 59), 2));
    let line = |(weekdays, day): (String, String)| format!("{weekdays}{month}{day} {time}");
    Ok(days(&cron.days)?.into_iter().map(line).collect())
}

/// Returns pairs of weekdays (with a space, or empty) and day of the month (with `-`, or `~` from
/// the month's end).
fn days(rule: &DayRule) -> Result<Vec<(String, String)>, NotExpressible> {
    let pair = |weekdays: &str, day: String| (weekdays.to_owned(), day);
    let one = |weekdays: &str, day: &str| vec![pair(weekdays, day.to_owned())];
    Ok(match rule {
        DayRule::OfMonth(days) => one("", &format!("-{}", list(days, (1, 31), 2))),
        DayRule::LastOfMonth => one("", "~01"),
        DayRule::LastWorkday => {
            // The last day if it is a workday; the Friday before if it is a Saturday or Sunday.
            vec![pair(WORKDAYS, "~01".into()), pair("Fri ", "~02".into()), pair("Fri ", "~03".into())]
        }
        DayRule::NearestWorkday(1) => {
            vec![pair(WORKDAYS, "-01".into()), pair("Mon ", "-02".into()), pair("Mon ", "-03".into())]
        }
        DayRule::NearestWorkday(day @ 2..=27) => vec![
            pair(WORKDAYS, format!("-{day:02}")),
            pair("Fri ", format!("-{:02}", day - 1)),
            pair("Mon ", format!("-{:02}", day + 1)),
        ],
        DayRule::NearestWorkday(day) => {
            let reason = format!("`{day}W` depends on the length of the month; use LW, or a day up to 27");
            return Err(NotExpressible { reason });
        }
        DayRule::OfWeek(days) if days.len() == 7 => one("", "-*"),
        DayRule::OfWeek(days) => {
            let names: Vec<&str> = days.iter().map(|day| weekday(*day)).collect();
            one(&format!("{} ", names.join(",")), "-*")
        }
        DayRule::LastOfWeek(day) => one(&format!("{} ", weekday(*day)), "~07/1"),
        DayRule::NthOfWeek(day, nth) => {
            let last = (7 * nth).min(31);
            one(&format!("{} ", weekday(*day)), &format!("-{:02}..{last:02}", 7 * (nth - 1) + 1))
        }
    })
}

fn weekday(number: u16) -> &'static str {
    WEEKDAYS.get(usize::from(number).saturating_sub(1)).copied().unwrap_or("Sun")
}

/// Formats values as `*` for all, a range where they form one, else a list.
fn list(values: &[u16], (first, last): (u16, u16), digits: usize) -> String {
    let consecutive = values.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    match values {
        [a, .., b] if consecutive && (*a, *b) == (first, last) => "*".to_owned(),
        [a, .., b] if consecutive && values.len() > 2 => format!("{a:0digits$}..{b:0digits$}"),
        _ => values.iter().map(|value| format!("{value:0digits$}")).collect::<Vec<_>>().join(","),
    }
}
