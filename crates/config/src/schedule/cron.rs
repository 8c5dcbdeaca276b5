//! A cron expression and the moments it matches.

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc, Weekday};

/// First and last year of the grammar.
pub(super) const FIRST_AND_LAST_YEAR: (u16, u16) = (1970, 2199);

/// A cron expression. Lists are sorted and hold each value once; none is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    pub(super) minutes: Vec<u16>,
    pub(super) hours: Vec<u16>,
    pub(super) days: DayRule,
    pub(super) months: Vec<u16>,
    pub(super) years: Vec<u16>,
}

/// The matching days: by day of the month or by day of the week, since one of the two fields is
/// `?`. Days of the week are counted from 1, Sunday.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DayRule {
    /// Days of the month.
    OfMonth(Vec<u16>),
    /// `L`: the last day of the month.
    LastOfMonth,
    /// `LW`: the last weekday (Monday to Friday) of the month.
    LastWorkday,
    /// `15W`: the weekday (Monday to Friday) nearest to a day, in the same month.
    NearestWorkday(u16),
    /// Days of the week.
    OfWeek(Vec<u16>),
    /// `6L`: the last such day of the week in the month.
    LastOfWeek(u16),
    /// `3#2`: the n-th such day of the week in the month.
    NthOfWeek(u16, u16),
}

impl Cron {
    pub(super) fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let now = moment.naive_utc();
        let mut day = now.date().max(first_day()?);
        while day <= last_day()? {
            if self.has_day(day) {
                let found = self.times().map(|time| day.and_time(time)).find(|at| *at > now);
                if let Some(at) = found {
                    return Some(at.and_utc());
                }
            }
            day = self.next_day(day)?;
        }
        None
    }

    pub(super) fn previous_before(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let now = moment.naive_utc();
        let mut day = now.date().min(last_day()?);
        while day >= first_day()? {
            if self.has_day(day) {
                let found = self.times().map(|time| day.and_time(time)).take_while(|at| *at < now).last();
                if let Some(at) = found {
                    return Some(at.and_utc());
                }
            }
            day = day.checked_sub_days(Days::new(1))?;
        }
        None
    }

    pub(super) fn longest_interval(&self, from: NaiveDate) -> Option<Duration> {
        let until = from.checked_add_days(Days::new(8 * 366))?;
        let (first, last) = (self.times().next()?, self.times().last()?);
        let within = self.times().zip(self.times().skip(1)).map(|(a, b)| b - a).max();
        let mut longest: Option<TimeDelta> = None;
        let mut before: Option<NaiveDateTime> = None;
        for day in from.iter_days().take_while(|day| *day < until).filter(|day| self.has_day(*day)) {
            let gap = before.map(|before| day.and_time(first) - before);
            longest = longest.max(gap).max(within);
            before = Some(day.and_time(last));
        }
        longest.and_then(|gap| gap.to_std().ok())
    }

    /// Returns the following day, or the first day of the next month if no day of the month can
    /// match.
    fn next_day(&self, day: NaiveDate) -> Option<NaiveDate> {
        let in_month = has(&self.months, day.month()) && has(&self.years, day.year().unsigned_abs());
        if in_month {
            return day.succ_opt();
        }
        day.with_day(1)?.checked_add_months(chrono::Months::new(1))
    }

    fn has_day(&self, day: NaiveDate) -> bool {
        has(&self.years, day.year().unsigned_abs()) && has(&self.months, day.month()) && self.days.has(day)
    }

    fn times(&self) -> impl Iterator<Item = NaiveTime> + '_ {
        self.hours.iter().flat_map(|hour| {
            self.minutes
                .iter()
                .filter_map(|minute| NaiveTime::from_hms_opt(u32::from(*hour), u32::from(*minute), 0))
        })
    }
}

impl DayRule {
    fn has(&self, day: NaiveDate) -> bool {
        let length = u32::from(day.num_days_in_month());
        let (number, of_week) = (day.day(), u32::from(weekday_number(day.weekday())));
        match self {
            Self::OfMonth(days) => has(days, number),
            Self::LastOfMonth => number == length,
            Self::LastWorkday => nearest_workday(day, length) == Some(number),
            Self::NearestWorkday(wanted) => nearest_workday(day, u32::from(*wanted)) == Some(number),
            Self::OfWeek(days) => has(days, of_week),
            Self::LastOfWeek(wanted) => of_week == u32::from(*wanted) && number + 7 > length,
            Self::NthOfWeek(wanted, nth) => {
                of_week == u32::from(*wanted) && number.div_ceil(7) == u32::from(*nth)
            }
        }
    }
}

/// Returns the number of a day of the week, from 1 for Sunday.
pub(super) fn weekday_number(day: Weekday) -> u16 {
    u16::try_from(day.num_days_from_sunday()).unwrap_or_default() + 1
}

/// Returns the weekday (Monday to Friday) nearest to a day, within the same month.
fn nearest_workday(month: NaiveDate, wanted: u32) -> Option<u32> {
    let length = u32::from(month.num_days_in_month());
    let number = match month.with_day(wanted)?.weekday() {
        Weekday::Sat if wanted == 1 => 3,
        Weekday::Sat => wanted - 1,
        Weekday::Sun if wanted == length => wanted - 2,
        Weekday::Sun => wanted + 1,
        _ => wanted,
    };
    Some(number)
}

fn has(list: &[u16], value: u32) -> bool {
    u16::try_from(value).is_ok_and(|value| list.binary_search(&value).is_ok())
}

fn first_day() -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(i32::from(FIRST_AND_LAST_YEAR.0), 1, 1)
}

fn last_day() -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(i32::from(FIRST_AND_LAST_YEAR.1), 12, 31)
}
