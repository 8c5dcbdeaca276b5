//! The moment to recover to.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::gtid::Gtid;

/// The moment to recover to (`--to`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The newest there is.
    Latest,
    /// Every transaction committed up to this time.
    Time(DateTime<Utc>),
    /// Up to this transaction, with it.
    After(Gtid),
    /// Up to this transaction, without it.
    Before(Gtid),
}

/// A text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a target: {reason}")]
pub struct InvalidTarget {
    /// The text.
    pub text: String,
    /// What would be one.
    pub reason: String,
}

impl FromStr for Target {
    type Err = InvalidTarget;

    /// `latest`, an RFC 3339 time with its zone, `after:GTID` or `before:GTID`.
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

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Time(time) => f.write_str(&time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
            Self::After(gtid) => write!(f, "after:{gtid}"),
            Self::Before(gtid) => write!(f, "before:{gtid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn targets_are_read_and_printed() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        for text in
            ["latest", "2026-11-23T02:21:33Z", &format!("after:{uuid}:5"), &format!("before:{uuid}:x:5")]
        {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        let zoned = "2026-11-23T03:21:33.25+01:00".parse::<Target>().unwrap();
        assert_eq!(zoned.to_string(), "2026-11-23T02:21:33.250Z");
        for bad in ["", "now", "2026-11-23T02:21:33", "2026-11-23", "after:5", &format!("before:{uuid}:1-5")]
        {
            assert!(bad.parse::<Target>().unwrap_err().to_string().contains("is not a target"), "{bad}");
        }
    }
}
