//! Version, position and recorded settings of one MySQL server.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::gtid::GtidSet;
use crate::ids::InvalidName;

/// A server's version. MySQL numbers by calendar after 9.7 (26.7, 26.10): only the order counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerVersion {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number, 0 if there is none.
    pub patch: u16,
    /// The text after the numbers (`-log`, `-2-debian`, …), as reported by the server.
    pub suffix: String,
}

impl ServerVersion {
    /// True if the version is at least `major.minor.patch`.
    pub fn at_least(&self, major: u16, minor: u16, patch: u16) -> bool {
        (self.major, self.minor, self.patch) >= (major, minor, patch)
    }

    /// True for every version that Backstop supports: MySQL 8.0.17 and later.
    pub fn is_supported(&self) -> bool {
        !self.is_mariadb() && self.at_least(8, 0, 17)
    }

    /// True for MariaDB, which Backstop does not support.
    pub fn is_mariadb(&self) -> bool {
        self.suffix.to_ascii_lowercase().contains("mariadb")
    }
}

impl FromStr for ServerVersion {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (numbers, suffix) = text.split_at(end);
        let mut parts = numbers.trim_end_matches('.').split('.').map(str::parse::<u16>);
        match (parts.next(), parts.next(), parts.next().unwrap_or(Ok(0))) {
            (Some(Ok(major)), Some(Ok(minor)), Ok(patch)) => {
                Ok(Self { major, minor, patch, suffix: suffix.to_owned() })
            }
            _ => Err(InvalidName {
                what: "MySQL version",
                text: text.to_owned(),
                rule: "expected numbers such as 8.0.36 or 26.7",
            }),
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}{}", self.major, self.minor, self.patch, self.suffix)
    }
}

impl TryFrom<String> for ServerVersion {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ServerVersion> for String {
    fn from(version: ServerVersion) -> String {
        version.to_string()
    }
}

/// Position of a server in its own history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// `@@GLOBAL.gtid_executed`.
    pub gtid_executed: GtidSet,
    /// The binary log being written, if the server keeps one.
    pub binlog_file: Option<String>,
    /// Offset in that file, in bytes.
    pub binlog_position: u64,
}

/// Global variables recorded with a backup, by name: those that were set (not compiled-in
/// defaults), and those on which the data directory depends (page size, case of table names, …).
pub type RecordedSettings = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_of_all_releases_are_parsed_and_compared() {
        let v = |t: &str| t.parse::<ServerVersion>().unwrap();
        assert!(v("26.7").at_least(8, 0, 23) && v("9.7.4-2").at_least(9, 7, 4));
        assert!(!v("8.0.22-log").at_least(8, 0, 23));
        assert!(v("10.11.6-MariaDB-0+deb12u1").is_mariadb() && !v("8.4.0").is_mariadb());
        assert_eq!(v("8.0.36-28").to_string(), "8.0.36-28");
        assert!("next".parse::<ServerVersion>().is_err());
    }
}
