//! Parses the text of a schedule.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::DateTime;

use super::cron::{Cron, DayRule, FIRST_AND_LAST_YEAR};

/// One field of a cron expression: its name, its values, and their names from the first value on.
struct CronField {
    name: &'static str,
    first: u16,
    last: u16,
    names: &'static [&'static str],
}

const MINUTES: CronField = CronField { name: "minutes", first: 0, last: 59, names: &[] };
const HOURS: CronField = CronField { name: "hours", first: 0, last: 23, names: &[] };
const DAYS_OF_MONTH: CronField = CronField { name: "day-of-month", first: 1, last: 31, names: &[] };
const MONTHS: CronField = CronField {
    name: "month",
    first: 1,
    last: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
const DAYS_OF_WEEK: CronField = CronField {
    name: "day-of-week",
    first: 1,
    last: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};
const YEAR: CronField =
    CronField { name: "year", first: FIRST_AND_LAST_YEAR.0, last: FIRST_AND_LAST_YEAR.1, names: &[] };

/// Parses the text between `cron(` and `)`.
pub(super) fn parse_cron(text: &str) -> Result<Cron, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, of_month, month, of_week, year] = fields[..] else {
        return Err(format!(
            "cron needs six fields (minutes hours day-of-month month day-of-week year), found {}",
            fields.len()
        ));
    };
    let days = match (of_month, of_week) {
        ("?", "?") => {
            Err("day-of-month and day-of-week are both `?`: write a value or `*` in one".to_owned())
        }
        ("?", of_week) => days_of_week(of_week),
        (of_month, "?") => days_of_month(of_month),
        _ => Err("one of day-of-month and day-of-week must be `?`".to_owned()),
    };
    let cron = Cron {
        minutes: MINUTES.set(minutes)?,
        hours: HOURS.set(hours)?,
        days: days?,
        months: MONTHS.set(month)?,
        years: YEAR.set(year)?,
    };
    match cron.next_after(DateTime::UNIX_EPOCH - chrono::TimeDelta::minutes(1)) {
        Some(_) => Ok(cron),
        None => Err("no day matches: it would never run".to_owned()),
    }
}

/// Parses the text between `rate(` and `)`.
pub(super) fn parse_rate(text: &str) -> Result<Duration, String> {
    let bad = || "rate needs a whole number and a unit: rate(1 hour), rate(6 hours)".to_owned();
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [number, unit] = parts[..] else { return Err(bad()) };
    let number: u64 = number.parse().map_err(|_| bad())?;
    let (singular, plural) = (unit, unit.strip_suffix('s'));
    let units = [("minute", 60), ("hour", 3600), ("day", 86_400)];
    let seconds = |name: &str| units.iter().find(|(unit, _)| *unit == name).map(|(_, seconds)| *seconds);
    let seconds: u64 = match (number, seconds(singular), plural.and_then(seconds)) {
        (0, _, _) => return Err("rate needs a number above 0".to_owned()),
        (1, Some(seconds), _) | (2.., _, Some(seconds)) => seconds,
        (1, _, Some(_)) => {
            return Err(format!("with 1 the unit is singular: rate(1 {})", plural.unwrap_or(unit)));
        }
        (_, Some(_), _) => return Err(format!("with {number} the unit is plural: rate({number} {unit}s)")),
        _ => return Err(format!("`{unit}` is not a unit: write minute(s), hour(s) or day(s)")),
    };
    let longest = 366 * 86_400;
    match number.checked_mul(seconds) {
        Some(total) if total <= longest => Ok(Duration::from_secs(total)),
        _ => Err("rate is longer than a year".to_owned()),
    }
}

fn days_of_month(text: &str) -> Result<DayRule, String> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "L" => return Ok(DayRule::LastOfMonth),
        "LW" => return Ok(DayRule::LastWorkday),
        _ => {}
    }
    if let Some(day) = upper.strip_suffix('W') {
        return DAYS_OF_MONTH.value(day).map(DayRule::NearestWorkday);
    }
    if upper.contains(['L', 'W']) {
        return Err(format!("day-of-month: `{text}`: `L` and `W` stand alone, as L, LW or 15W"));
    }
    DAYS_OF_MONTH.set(text).map(DayRule::OfMonth)
}

fn days_of_week(text: &str) -> Result<DayRule, String> {
    let upper = text.to_ascii_uppercase();
    if upper == "L" {
        return Ok(DayRule::OfWeek(vec![DAYS_OF_WEEK.last]));
    }
    if let Some((day, nth)) = upper.split_once('#') {
        let nth: u16 = nth.parse().ok().filter(|nth| (1..=5).contains(nth)).ok_or_else(|| {
            format!("day-of-week: `{text}`: after `#` comes a number from 1 to 5, and nothing else")
        })?;
        return Ok(DayRule::NthOfWeek(DAYS_OF_WEEK.value(day)?, nth));
    }
    if let Some(day) = upper.strip_suffix('L') {
        return DAYS_OF_WEEK.value(day).map(DayRule::LastOfWeek);
    }
    DAYS_OF_WEEK.set(text).map(DayRule::OfWeek)
}

impl CronField {
    /// Parses a list of values, ranges and steps.
    fn set(&self, text: &str) -> Result<Vec<u16>, String> {
        let mut values = BTreeSet::new();
        for item in text.split(',') {
            let (first, last, step) = self.item(item)?;
            values.extend((first..=last).step_by(step));
        }
        Ok(values.into_iter().collect())
    }

    /// Parses `*`, `5` or `5-9`, each with an optional `/step`; `5/2` runs to the end of the field.
    fn item(&self, item: &str) -> Result<(u16, u16, usize), String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(item, step)?)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None if step.is_some() => (self.value(range)?, self.last),
            None => (self.value(range)?, self.value(range)?),
        };
        if first > last {
            return Err(format!("{}: the range `{range}` runs backwards", self.name));
        }
        Ok((first, last, step.unwrap_or(1)))
    }

    fn step(&self, item: &str, step: &str) -> Result<usize, String> {
        let widest = usize::from(self.last - self.first) + 1;
        let number = step.parse().ok().filter(|step| (1..=widest).contains(step));
        number.ok_or_else(|| format!("{}: `{item}`: the step is a number from 1 to {widest}", self.name))
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        let named = self.names.iter().zip(self.first..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number =
            || text.parse().ok().filter(|number| digits && (self.first..=self.last).contains(number));
        named.map(|(_, value)| value).or_else(number).ok_or_else(|| self.not_a_value(text))
    }

    fn not_a_value(&self, text: &str) -> String {
        let names = match self.names {
            [first, .., last] => format!(" or {first}-{last}"),
            _ => String::new(),
        };
        format!("{}: `{text}` is not a value: write {}-{}{names}", self.name, self.first, self.last)
    }
}
