//! Durations in text form: `500ms`, `5s`, `30m`, `2h`, `14d`, `2w`.

use std::time::Duration;

/// Units, largest first, in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Parses a whole number with its unit.
///
/// # Errors
/// Returns the valid form if the text is not a duration.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "`{text}` is not a duration: write a whole number with a unit, such as 500ms, 5s, 30m, 2h or 14d"
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(bad)
}

/// Formats a duration in the largest unit that divides it, as [`parse`] accepts it. Fractions of a
/// millisecond are dropped.
pub fn format(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = |unit: u64| millis >= unit && millis.is_multiple_of(unit);
    match UNITS.iter().find(|(_, unit)| whole(*unit)) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_with_units_are_parsed_and_others_refused() {
        assert_eq!(parse("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse("14d").unwrap(), Duration::from_secs(14 * 86_400));
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "5sec",
            "5S",
            "99999999999999999999s",
            "18446744073709551615w",
        ] {
            assert!(parse(bad).unwrap_err().contains("is not a duration"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printed_duration_parses_to_the_same_value(millis in 0u64..1_000_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }
    }
}
