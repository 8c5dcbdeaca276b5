//! Addresses on which a recovered server listens in service.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One or several addresses of a host, as `bind_address` accepts them: IP addresses or host names;
/// `*`, `0.0.0.0` and `::` mean all and must be alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(Vec<String>);

/// Error: a text does not name addresses to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address to listen on: write IP addresses or host names of this host, separated by commas, or `*` for all"
)]
pub struct InvalidListenAddress(String);

impl ListenAddress {
    /// Returns the addresses, at least one.
    pub fn hosts(&self) -> &[String] {
        &self.0
    }

    /// Returns the first address at which other hosts reach this host; `None` if no address is
    /// specific, or all are loopback addresses.
    pub fn known_to_others(&self) -> Option<&str> {
        let loopback =
            |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        self.0.iter().map(String::as_str).find(|host| !is_all(host) && !loopback(host))
    }

    /// Returns the first address to which a client can connect; `None` if it means all of the
    /// host's.
    pub fn reachable(&self) -> Option<&str> {
        self.0.first().map(String::as_str).filter(|host| !is_all(host))
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        let hosts: Vec<String> = text.split(',').map(|host| host.trim().to_owned()).collect();
        let alone = hosts.len() == 1;
        if hosts.iter().all(|host| if is_all(host) { alone } else { is_ip(host) || is_name(host) }) {
            return Ok(Self(hosts));
        }
        Err(InvalidListenAddress(text.escape_debug().to_string()))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = InvalidListenAddress;

    fn try_from(text: String) -> Result<Self, InvalidListenAddress> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

fn is_all(host: &str) -> bool {
    matches!(host, "*" | "0.0.0.0" | "::")
}

fn is_ip(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// True for a host name. Digits and dots alone are a mistyped IP address.
fn is_name(host: &str) -> bool {
    let sign = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !host.is_empty()
        && host.len() <= 253
        && host.chars().all(sign)
        && !host.starts_with(['-', '.'])
        && host.chars().any(|c| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn valid_bind_addresses_are_accepted() {
        for (text, reachable) in [
            ("10.7.0.4", Some("10.7.0.4")),
            ("db4.example.net", Some("db4.example.net")),
            ("127.0.0.1, 10.7.0.4", Some("127.0.0.1")),
            ("fe80::1", Some("fe80::1")),
            ("*", None),
            ("0.0.0.0", None),
            ("::", None),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.reachable(), reachable, "{text}");
            assert_eq!(address.to_string().parse::<ListenAddress>().unwrap(), address);
        }
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "",
            ",",
            "10.7.0",
            "10.7.0.400",
            "*,10.7.0.4",
            "db4\nuser=root",
            "db 4",
            "-x",
            "10.7.0.4/netns",
            "#",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
