//! Formats amounts and times for people.

use chrono::{DateTime, Local, SecondsFormat, TimeZone, Utc};
use chrono_tz::Tz;

const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// Formats bytes: `812 B`, `1.4 GiB`.
pub fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Formats seconds: `350 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 0.9995 => format!("{:.0} ms", seconds.max(0.0) * 1000.0),
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Formats milliseconds: `26 ms`, `1.3 s`.
pub fn millis(millis: f64) -> String {
    if millis > 0.0 && millis < 9.95 { format!("{millis:.1} ms") } else { seconds(millis / 1000.0) }
}

/// Formats a time in UTC: `2026-11-23T02:21:33Z`.
pub fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Formats a time in UTC to the microsecond: `2026-11-23T02:21:33.004711Z`.
pub fn exact_moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Formats the time in a time zone, or in this host's zone if none is named: ` (03:21:33+01:00)`,
/// with its date if that differs from the one in UTC. Returns an empty string if the zone is UTC.
pub fn local(at: DateTime<Utc>, zone: Option<Tz>) -> String {
    match zone {
        Some(zone) => on_clock(at, &zone),
        None => on_clock(at, &Local),
    }
}

fn on_clock<Z: TimeZone>(at: DateTime<Utc>, zone: &Z) -> String {
    let local = at.with_timezone(zone).fixed_offset();
    match local.offset().local_minus_utc() {
        0 => String::new(),
        _ if local.date_naive() == at.date_naive() => local.format(" (%T%:z)").to_string(),
        _ => local.format(" (%F %T%:z)").to_string(),
    }
}

/// Formats a count: `1 table`, `3 tables`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", thousands(number)) }
}

/// Formats a number with separators: `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn local_times_are_shown_beside_utc() {
        let at = |text: &str| text.parse().unwrap();
        let berlin = Some(chrono_tz::Europe::Berlin);
        assert_eq!(local(at("2026-11-23T02:21:33.5Z"), berlin), " (03:21:33+01:00)");
        assert_eq!(local(at("2026-07-23T22:21:33Z"), berlin), " (2026-07-24 00:21:33+02:00)");
        assert_eq!(local(at("2026-11-23T02:21:33Z"), Some(Tz::UTC)), "");
    }

    #[test]
    fn amounts_are_formatted_with_units() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(1_048_575)],
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB"]
        );
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!([seconds(0.0421), seconds(4.24), seconds(59.97)], ["42 ms", "4.2 s", "1 min 0 s"]);
        assert_eq!(
            [seconds(3599.9), seconds(7500.0), seconds(273_600.0)],
            ["1 h 0 min", "2 h 5 min", "3 d 4 h"]
        );
        assert_eq!(
            [millis(0.0), millis(1.25), millis(26.4), millis(2100.0)],
            ["0 ms", "1.2 ms", "26 ms", "2.1 s"]
        );
        assert_eq!([thousands(7), thousands(1234), thousands(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([count(1, "table"), count(0, "table")], ["1 table", "0 tables"]);
    }
}
