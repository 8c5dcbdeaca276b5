//! Addresses of AWS's services.

use std::net::IpAddr;

/// Host and port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAddress {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Returns the address in a URL; `None` if it has no host, or a port that is no number.
pub fn address_of(url: &str) -> Option<ServiceAddress> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, after)| after);
    let plain = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[bracket..].rfind(':') {
        Some(colon) => (&authority[..bracket + colon], authority[bracket + colon + 1..].parse().ok()?),
        None => (authority, plain),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| ServiceAddress { host: host.to_owned(), port })
}

/// Returns the URL of a service in a Region
/// (<https://docs.aws.amazon.com/general/latest/gr/rande.html>).
pub fn regional_url(service: &str, region: &str) -> String {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://{service}.{region}.{suffix}")
}

/// Says if traffic to an address stays in a private network: an interface endpoint with private
/// DNS, or this host.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_of_urls_are_found() {
        for (url, host, port) in [
            ("https://ec2.eu-west-1.amazonaws.com", "ec2.eu-west-1.amazonaws.com", 443),
            ("http://127.0.0.1:5000/x", "127.0.0.1", 5000),
            ("https://user@h:8443?x=:1", "h", 8443),
            ("http://[::1]:9000", "::1", 9000),
            ("https://[fd00::1]", "fd00::1", 443),
        ] {
            assert_eq!(address_of(url), Some(ServiceAddress { host: host.to_owned(), port }), "{url}");
        }
        for url in ["", "ec2", "ftp://h", "https://", "https://h:many", "http://:80"] {
            assert_eq!(address_of(url), None, "{url}");
        }
    }

    #[test]
    fn url_of_a_region_has_the_suffix_of_its_partition() {
        assert_eq!(regional_url("kms", "eu-west-1"), "https://kms.eu-west-1.amazonaws.com");
        assert_eq!(regional_url("ec2", "cn-north-1"), "https://ec2.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn private_addresses_are_distinguished() {
        for (address, private) in [
            ("10.1.2.3", true),
            ("172.16.0.9", true),
            ("52.95.1.1", false),
            ("fd00::1", true),
            ("2a05::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
