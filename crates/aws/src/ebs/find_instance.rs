//! Finds the EC2 instance that a MySQL server runs on.

use std::net::IpAddr;
use std::time::Duration;

use backstop_types::error::{Error, Result};
use backstop_types::ids::Endpoint;

use super::ec2::{Ec2, FoundInstance};

/// Tag of an instance that names its MySQL server: `host` or `host:port`.
pub const HOST_TAG: &str = "MySQL-Host";
const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// Finds the instance: by the tag, otherwise by private address, otherwise by private DNS name.
///
/// # Errors
/// Returns [`Kind::Refused`](backstop_types::error::ErrorKind::Refused) if none or more than one
/// matches.
pub(crate) async fn find_instance(ec2: &Ec2, server: &Endpoint) -> Result<FoundInstance> {
    let tagged = [server.host.clone(), server.to_string()];
    let mut found = ec2.instances(&format!("tag:{HOST_TAG}"), &tagged).await?;
    if found.is_empty() && !server.is_loopback() {
        found = by_network(ec2, server).await?;
    }
    match found.as_slice() {
        [one] if one.state == "running" => Ok(one.clone()),
        [one] => Err(Error::refused(format!(
            "cannot find the instance of {server}: {} is {}, so {server} runs elsewhere",
            one.id, one.state
        ))
        .hint(format!("correct the instance's tag {HOST_TAG}"))),
        [] => Err(missing(ec2, server)),
        several => Err(ambiguous(server, several)),
    }
}

async fn by_network(ec2: &Ec2, server: &Endpoint) -> Result<Vec<FoundInstance>> {
    let addresses = addresses(server).await;
    if !addresses.is_empty() {
        let found = ec2.instances("private-ip-address", &addresses).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    ec2.instances("private-dns-name", std::slice::from_ref(&server.host)).await
}

/// Resolves the name on this host. A name that it cannot resolve may still be one of EC2's.
async fn addresses(server: &Endpoint) -> Vec<String> {
    if let Ok(address) = server.host.parse::<IpAddr>() {
        return vec![address.to_string()];
    }
    let looked =
        tokio::time::timeout(DNS_TIMEOUT, tokio::net::lookup_host((server.host.as_str(), server.port))).await;
    let Ok(Ok(found)) = looked else { return Vec::new() };
    let mut addresses: Vec<_> =
        found.map(|at| at.ip()).filter(|ip| !ip.is_loopback()).map(|ip| ip.to_string()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn missing(ec2: &Ec2, server: &Endpoint) -> Error {
    Error::refused(format!(
        "cannot find the instance of {server}: none in region {} has that private address, private DNS name or tag {HOST_TAG}",
        ec2.region
    ))
    .hint(format!(
        "check that {} is the right region (snapshot.region), or tag the instance with {HOST_TAG}={server}",
        ec2.region
    ))
}

fn ambiguous(server: &Endpoint, several: &[FoundInstance]) -> Error {
    let names: Vec<_> = several
        .iter()
        .map(|one| if one.name.is_empty() { one.id.clone() } else { format!("{} ({})", one.id, one.name) })
        .collect();
    Error::refused(format!("cannot find the instance of {server}: it may be any of {}", names.join(", ")))
        .hint(format!("tag the right one, and only it, with {HOST_TAG}={server}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use aws_config::{BehaviorVersion, Region};
    use aws_sdk_ec2::config::Credentials;
    use backstop_testkit::ec2::FakeEc2;

    use super::*;
    use crate::client::AwsClient;

    #[tokio::test]
    async fn tags_addresses_and_names_find_an_instance() {
        let images = tempfile::tempdir().unwrap();
        let fake = FakeEc2::start(0, images.path()).await;
        fake.with(|state| {
            for (id, host, address) in
                [("i-1", "db1", "10.0.0.1"), ("i-2", "db2:3307", "10.0.0.2"), ("i-3", "", "10.0.0.3")]
            {
                let instance = state.add_mysql_host(id, host, None);
                address.clone_into(&mut instance.private_ip);
                instance.private_dns = format!("ip-{}.invalid", address.replace('.', "-"));
            }
            // Pages of one: an instance on another page must not be missed.
            state.rules.page = 1;
        });
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("eu-test-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(&fake.url);
        let ec2 = Ec2::new(&AwsClient::with(config.load().await).unwrap());
        for (server, expected) in [
            ("db1:3306", "i-1"),
            ("db2:3307", "i-2"),
            ("10.0.0.3:3306", "i-3"),
            ("ip-10-0-0-3.invalid:3306", "i-3"),
        ] {
            assert_eq!(find_instance(&ec2, &server.parse().unwrap()).await.unwrap().id, expected, "{server}");
        }
        for server in ["db2:3306", "10.0.0.4:3306", "db*:3306", "nowhere.invalid:3306"] {
            let error = find_instance(&ec2, &server.parse().unwrap()).await.unwrap_err();
            assert!(error.message.contains(server) && error.message.contains("eu-test-1"), "{error}");
        }
    }
}
