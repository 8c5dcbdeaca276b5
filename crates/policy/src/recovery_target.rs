//! Recovery target.

use std::fmt;
use std::str::FromStr;

use backstop_types::error::Error;
use backstop_types::gtid::Gtid;
use chrono::{DateTime, Utc};

use crate::parse_time::{LocalZone, TimeSpec};

/// Recovery target (`--to`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// The newest recoverable moment.
    Latest,
    /// Every transaction committed up to this time.
    Time(DateTime<Utc>),
    /// Every transaction up to this one, inclusive.
    After(Gtid),
    /// Every transaction up to this one, exclusive.
    Before(Gtid),
}

/// Error: a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a target: {reason}")]
pub struct InvalidTarget {
    /// The text.
    pub text: String,
    /// The reason.
    pub reason: String,
}

impl FromStr for RecoveryTarget {
    type Err = InvalidTarget;

    /// Parses `latest`, an RFC 3339 time with its zone, `after:GTID` or `before:GTID`.
    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let bad = |reason: String| InvalidTarget { text: text.to_owned(), reason };
        let gtid = |part: &str| part.parse::<Gtid>().map_err(|error| bad(error.to_string()));
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(part) = text.strip_prefix("after:") {
            return gtid(part).map(Self::After);
        }
        if let Some(part) = text.strip_prefix("before:") {
            return gtid(part).map(Self::Before);
        }
        DateTime::parse_from_rfc3339(text).map(|time| Self::Time(time.to_utc())).map_err(|_| {
            let forms = "latest, a time with its zone such as 2026-11-23T02:21:33.5Z, after:UUID:NUMBER or before:UUID:NUMBER";
            bad(format!("write {forms}"))
        })
    }
}

/// A target as written: its time may depend on the present time and the local zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSpec {
    /// A target independent of time and zone.
    Sure(RecoveryTarget),
    /// A time.
    Time(TimeSpec),
}

impl FromStr for TargetSpec {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let bad = |reason: String| InvalidTarget { text: text.to_owned(), reason };
        let lower = text.to_ascii_lowercase();
        if text == "latest" || lower.starts_with("after:") || lower.starts_with("before:") {
            return text.parse().map(Self::Sure);
        }
        if lower == "latest" || lower == "now" {
            return Err(bad("write latest".to_owned()));
        }
        if text.parse::<Gtid>().is_ok() {
            return Err(bad(format!(
                "write after:{text} to stop after it, or before:{text} to stop before it"
            )));
        }
        let forms = |reason: String| match reason.strip_prefix("write a time") {
            Some(time) => {
                bad(format!("write latest, after:UUID:NUMBER, before:UUID:NUMBER, or a time{time}"))
            }
            None => bad(reason),
        };
        text.parse().map(Self::Time).map_err(forms)
    }
}

impl TargetSpec {
    /// Returns the resolved target.
    ///
    /// # Errors
    /// Returns the same errors as [`TimeSpec::moment`].
    pub fn target(&self, here: &LocalZone) -> Result<RecoveryTarget, Error> {
        match self {
            Self::Sure(target) => Ok(target.clone()),
            Self::Time(time) => time.moment(here).map(RecoveryTarget::Time),
        }
    }
}

impl fmt::Display for RecoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Time(time) => f.write_str(&time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
            Self::After(gtid) => write!(f, "after:{gtid}"),
            Self::Before(gtid) => write!(f, "before:{gtid}"),
        }
    }
}

/// Formats a moment as an argument of `--to`.
pub(crate) fn moment_as_target(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn misspelled_target_is_refused_with_the_correct_form() {
        let gtid = "3e11fa47-71ca-11e1-9e33-c80aa9429562:5";
        let before = format!("before:{gtid}");
        for (written, right) in [
            ("LATEST", "write latest"),
            ("now", "write latest"),
            (gtid, &before),
            ("tonight", "before:UUID:NUMBER"),
        ] {
            let refused = written.parse::<TargetSpec>().unwrap_err().to_string();
            assert!(refused.contains(right), "{refused}");
        }
        assert_eq!(before.parse(), Ok(TargetSpec::Sure(before.parse().unwrap())));
        assert!(matches!("-20m".parse(), Ok(TargetSpec::Time(TimeSpec::Ago(_)))));
    }

    #[test]
    fn targets_are_parsed_and_printed() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        for text in
            ["latest", "2026-11-23T02:21:33Z", &format!("after:{uuid}:5"), &format!("before:{uuid}:x:5")]
        {
            assert_eq!(text.parse::<RecoveryTarget>().unwrap().to_string(), text);
        }
        let zoned = "2026-11-23T03:21:33.25+01:00".parse::<RecoveryTarget>().unwrap();
        assert_eq!(zoned.to_string(), "2026-11-23T02:21:33.250Z");
        for bad in ["", "now", "2026-11-23T02:21:33", "2026-11-23", "after:5", &format!("before:{uuid}:1-5")]
        {
            assert!(
                bad.parse::<RecoveryTarget>().unwrap_err().to_string().contains("is not a target"),
                "{bad}"
            );
        }
    }
}
