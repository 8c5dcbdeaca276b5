//! Parses a time in the forms that people write.

use std::fmt;
use std::str::FromStr;

use backstop_types::error::{Error, ErrorKind, Result};
use chrono::offset::LocalResult;
use chrono::{DateTime, FixedOffset, NaiveDateTime, SecondsFormat, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// The accepted forms of a time, for messages.
pub const TIME_FORMS: &str = "a time such as 2026-11-23T02:21:33Z, 2026-11-23T03:21:33+01:00 or, with --time-zone Europe/Berlin, 2026-11-23T03:21:33, or an age: -20m, \"20 minutes ago\"";

/// A parsed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSpec {
    /// A time with its zone.
    At(DateTime<Utc>),
    /// This long before now.
    Ago(TimeDelta),
    /// A local time without a zone.
    Local(NaiveDateTime),
}

/// Context of a time without a zone.
#[derive(Debug, Clone, Copy)]
pub struct LocalZone {
    /// The present time.
    pub now: DateTime<Utc>,
    /// The configured zone.
    pub zone: Option<Tz>,
    /// Converts a time without a zone by this host's zone.
    pub host: fn(NaiveDateTime) -> Option<DateTime<FixedOffset>>,
}

impl FromStr for TimeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.trim().replace(',', ".");
        if let Some(ago) = parse_ago(text.trim()) {
            return ago.map(Self::Ago);
        }
        let clock = plain.split_once(['T', 't', ' ']).map_or("", |(_, clock)| clock);
        if clock.starts_with("24:") {
            return Err("a day ends at 23:59:59: write 00:00:00 of the next day".to_owned());
        }
        if clock.split(['+', '-', 'Z', 'z']).next().unwrap_or_default().contains(":60") {
            return Err("a minute has no second 60: write second 59, or 00 of the next minute".to_owned());
        }
        let zoned = ["%FT%T%.f%#z", "%F %T%.f%#z", "%F %T%.f %#z", "%FT%R%#z", "%F %R%#z"];
        let with_zone = plain.replace(['z', 'Z'], "+00:00");
        if let Some(at) = zoned.iter().find_map(|form| DateTime::parse_from_str(&with_zone, form).ok()) {
            return Ok(Self::At(at.to_utc()));
        }
        let local = ["%FT%T%.f", "%F %T%.f", "%FT%R", "%F %R"];
        let read = local.iter().find_map(|form| NaiveDateTime::parse_from_str(&plain, form).ok());
        read.map(Self::Local).ok_or_else(|| format!("write {TIME_FORMS}"))
    }
}

/// Parses `-1h30m` or `20 minutes ago`; `None` if it is neither.
fn parse_ago(text: &str) -> Option<Result<TimeDelta, String>> {
    let lower = text.to_ascii_lowercase();
    let span = lower.strip_prefix('-').or_else(|| lower.strip_suffix("ago"))?;
    let wrong = || Some(Err(format!("`{text}` is not a duration: write -20m, -1h30m or \"20 minutes ago\"")));
    let mut rest = span.trim();
    let mut sum = TimeDelta::zero();
    if rest.is_empty() {
        return wrong();
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let behind = behind.trim_start();
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let seconds = match unit {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 604_800,
            _ => return wrong(),
        };
        let part = number.parse::<i64>().ok().and_then(|number| number.checked_mul(seconds));
        let Some(total) = part.and_then(TimeDelta::try_seconds).and_then(|part| sum.checked_add(&part))
        else {
            return wrong();
        };
        (sum, rest) = (total, behind.trim_start());
    }
    Some(Ok(sum))
}

impl TimeSpec {
    /// Returns the moment in UTC.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Usage`] if the moment is ambiguous or does not exist; the hint has the
    /// alternatives.
    pub fn moment(&self, here: &LocalZone) -> Result<DateTime<Utc>> {
        match (self, here.zone) {
            (Self::At(at), _) => Ok(*at),
            (Self::Ago(span), _) => {
                let at = here.now.checked_sub_signed(*span).filter(|at| at.timestamp() > 0);
                at.ok_or_else(|| usage(format!("{} seconds ago is before 1970", span.num_seconds())))
            }
            (Self::Local(local), Some(zone)) => in_zone(*local, zone),
            (Self::Local(local), None) => {
                let words = iso(local);
                let host = (here.host)(*local)
                    .map(|at| format!(", `{}` in this host's zone", text(&at)))
                    .unwrap_or_default();
                Err(usage(format!("the time {words} has no zone")).hint(format!(
                    "write `{words}Z` if it is UTC{host}, or name its zone: --time-zone Europe/Berlin"
                )))
            }
        }
    }
}

fn in_zone(local: NaiveDateTime, zone: Tz) -> Result<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Ok(at.to_utc()),
        LocalResult::Ambiguous(first, second) => {
            Err(usage(format!("the time {} exists twice in {zone}", iso(&local))).hint(format!(
                "write `{}` for the first, or `{}` for the second",
                text(&first),
                text(&second)
            )))
        }
        LocalResult::None => {
            // No gap is longer than a day; the offsets before and after it give the moments around
            // it.
            let around = [-1, 1].into_iter().filter_map(|days| {
                let near = local.checked_add_signed(TimeDelta::days(days))?;
                let offset = zone.from_local_datetime(&near).earliest()?.fixed_offset().timezone();
                let utc = offset.from_local_datetime(&local).earliest()?;
                Some(format!("`{}`", text(&utc.with_timezone(&zone))))
            });
            let mut around: Vec<String> = around.collect();
            around.reverse();
            Err(usage(format!(
                "the time {} does not exist in {zone}: the clocks were put forward over it",
                iso(&local)
            ))
            .hint(format!("write {}", around.join(" or "))))
        }
    }
}

/// Describes a moment, with the local time if the zone is known.
pub fn describe_time(at: DateTime<Utc>, zone: Option<Tz>) -> String {
    let utc = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    match zone {
        Some(zone) => format!("{utc} ({} in {zone})", text(&at.with_timezone(&zone))),
        None => utc,
    }
}

fn iso(local: &NaiveDateTime) -> String {
    let form = if local.nanosecond() == 0 { "%FT%T" } else { "%FT%T%.f" };
    local.format(form).to_string()
}

fn text<Z: TimeZone>(at: &DateTime<Z>) -> String
where
    Z::Offset: fmt::Display,
{
    at.to_rfc3339_opts(SecondsFormat::AutoSi, false)
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chrono_tz::Europe::Berlin;

    use super::*;

    fn read(written: &str, zone: Option<Tz>) -> Result<String, String> {
        let now = "2026-11-29T12:00:00Z".parse().unwrap();
        let host = |local: NaiveDateTime| FixedOffset::east_opt(7200)?.from_local_datetime(&local).single();
        let moment = written.parse::<TimeSpec>()?.moment(&LocalZone { now, zone, host });
        moment
            .map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
            .map_err(|error| format!("{}; {}", error.message, error.hint.unwrap_or_default()))
    }

    #[test]
    fn times_are_parsed_in_every_written_form() {
        for (written, zone, at) in [
            ("2026-11-23T02:21:33Z", None, "2026-11-23T02:21:33Z"),
            ("2026-11-23T02:21:33.25z", None, "2026-11-23T02:21:33.250Z"),
            ("2026-11-23T02:21:33,25+01:00", None, "2026-11-23T01:21:33.250Z"),
            ("2026-11-23 02:21:33+0100", None, "2026-11-23T01:21:33Z"),
            ("2026-11-23 02:21", Some(Berlin), "2026-11-23T01:21:00Z"),
            ("2026-07-23T02:21:33", Some(Berlin), "2026-07-23T00:21:33Z"),
            ("2026-07-23T02:21:33Z", Some(Berlin), "2026-07-23T02:21:33Z"),
            ("-20m", None, "2026-11-29T11:40:00Z"),
            ("-1h30m", Some(Berlin), "2026-11-29T10:30:00Z"),
            ("20 minutes ago", None, "2026-11-29T11:40:00Z"),
            ("20m ago", None, "2026-11-29T11:40:00Z"),
            ("1 day 2 hours ago", None, "2026-11-28T10:00:00Z"),
        ] {
            assert_eq!(read(written, zone), Ok(at.to_owned()), "{written}");
        }
    }

    #[test]
    fn ambiguous_time_is_refused_with_forms_to_paste() {
        for (written, zone, words) in [
            (
                "2026-11-23T02:21:33",
                None,
                vec!["no zone", "`2026-11-23T02:21:33Z`", "`2026-11-23T02:21:33+02:00`", "--time-zone"],
            ),
            (
                "2026-10-25T02:30:00",
                Some(Berlin),
                vec!["twice", "`2026-10-25T02:30:00+02:00`", "`2026-10-25T02:30:00+01:00`"],
            ),
            (
                "2026-03-29T02:30:00",
                Some(Berlin),
                vec!["does not exist", "`2026-03-29T01:30:00+01:00`", "`2026-03-29T03:30:00+02:00`"],
            ),
            ("2026-11-23T02:21:60Z", None, vec!["no second 60"]),
            ("2026-11-23T24:00:00Z", None, vec!["23:59:59"]),
            ("2026-02-30T01:00:00Z", None, vec!["write a time"]),
            ("yesterday", None, vec!["-20m", "2026-11-23T02:21:33Z"]),
            ("-", None, vec!["not a duration"]),
            ("-20", None, vec!["not a duration"]),
            ("-99999999999999h", None, vec!["not a duration"]),
            ("-99999w", None, vec!["1970"]),
        ] {
            let refused = read(written, zone).unwrap_err();
            assert!(words.iter().all(|word| refused.contains(word)), "{written}: {refused}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_is_parsed_or_refused(text: String, digits in "[-0-9TtZ:+ .hms]{0,30}") {
            let _ = (read(&text, None), read(&digits, Some(Berlin)), read(&digits, None));
        }
    }
}
