//! Names of shards, backups, runs and servers.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Error: a name is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` is not valid: {rule}")]
pub struct InvalidName {
    /// The kind of name ("shard name", "host:port", …).
    pub what: &'static str,
    /// The text that was given.
    pub text: String,
    /// The rule for a valid name.
    pub rule: &'static str,
}

macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text_value! {
    /// The name of a shard: 1 to 63 lower-case letters, digits, `-`, `_` or `.`, starting with a
    /// letter or digit.
    ShardName
}

impl FromStr for ShardName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let body = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let first_ok = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if first_ok && text.len() <= 63 && text.chars().all(body) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName {
                what: "shard name",
                text: text.to_owned(),
                rule: "use 1 to 63 of a-z, 0-9, `-`, `_`, `.`, starting with a letter or digit",
            })
        }
    }
}

text_value! {
    /// The id of one backup: UTC time to the second and eight random hex digits, so that ids sort
    /// by time: `20261123T022133Z-9f3a04c1`. The run that makes the backup has the same id.
    BackupId
}

impl BackupId {
    /// Returns the id of a run that starts at `now`, made unique by `random`.
    pub fn new(now: DateTime<Utc>, random: u32) -> Self {
        Self(format!("{}-{random:08x}", now.format("%Y%m%dT%H%M%SZ")))
    }
}

impl FromStr for BackupId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let shape = |i: usize, b: u8| match i {
            8 => b == b'T',
            15 => b == b'Z',
            16 => b == b'-',
            17.. => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
            _ => b.is_ascii_digit(),
        };
        if text.len() == 25 && text.bytes().enumerate().all(|(i, b)| shape(i, b)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName {
                what: "backup id",
                text: text.to_owned(),
                rule: "a backup id looks like 20261123T022133Z-9f3a04c1 (see `backstop backups`)",
            })
        }
    }
}

/// A MySQL server's `@@server_uuid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerUuid(pub uuid::Uuid);

impl fmt::Display for ServerUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

impl FromStr for ServerUuid {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        uuid::Uuid::try_parse(text.trim()).map(Self).map_err(|_| InvalidName {
            what: "server UUID",
            text: text.to_owned(),
            rule: "expected 32 hex digits in the form 8-4-4-4-12",
        })
    }
}

/// Address of a MySQL server. Printed as `host:port`, IPv6 addresses in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Returns an endpoint from its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// True for `localhost` and loopback addresses.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidName;

    /// Parses `host`, `host:port` or `[v6]:port`; the port defaults to 3306.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bad = || InvalidName {
            what: "server address",
            text: text.to_owned(),
            rule: "write host:port, for example db1:3306 or [::1]:3306",
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']').ok_or_else(bad)?;
                (host, if tail.is_empty() { None } else { Some(tail.strip_prefix(':').ok_or_else(bad)?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(3306), |p| p.parse().map_err(|_| bad()))?;
        if host.is_empty() || port == 0 || host.contains(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Self::new(host, port))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn malformed_name_is_refused_with_the_rule() {
        assert!("orders".parse::<ShardName>().is_ok());
        for bad in ["", "Orders", "-a", "a/b", "a b", &"x".repeat(64)] {
            let error = bad.parse::<ShardName>().unwrap_err().to_string();
            assert!(error.contains("shard name"), "{error}");
        }
    }

    #[test]
    fn backup_ids_sort_by_time_and_parse_back() {
        let at = |s: i64| DateTime::from_timestamp(1_795_000_000 + s, 0).unwrap();
        let (a, b) = (BackupId::new(at(0), 0xffff_ffff), BackupId::new(at(1), 0));
        assert!(a < b);
        assert_eq!(a.as_str().parse::<BackupId>().unwrap(), a);
        assert!("20261123T022133Z".parse::<BackupId>().is_err());
    }

    #[test]
    fn endpoints_are_parsed_and_printed() {
        assert_eq!("db1".parse::<Endpoint>().unwrap(), Endpoint::new("db1", 3306));
        let v6 = "[::1]:3307".parse::<Endpoint>().unwrap();
        assert_eq!((v6.to_string().as_str(), v6.is_loopback()), ("[::1]:3307", true));
        for bad in ["", ":3306", "db1:", "db1:x", "db1:0", "[::1", "d b:1"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
