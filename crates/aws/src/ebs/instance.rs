//! The EC2 instance that a MySQL server runs on.

use std::net::IpAddr;
use std::time::Duration;

use backstop_model::fault::{Fault, Result};
use backstop_model::ids::Endpoint;

use super::ec2::{Ec2, Found};

/// The tag of an instance that names its MySQL server: `host` or `host:port`.
pub const HOST_TAG: &str = "MySQL-Host";
const LOOKUP: Duration = Duration::from_secs(5);

/// Finds it: by the tag, else by private address, else by private DNS name.
///
/// # Errors
/// [`Kind::Refused`](backstop_model::fault::Kind::Refused) when there is none, or more than one.
pub(crate) async fn find(ec2: &Ec2, server: &Endpoint) -> Result<Found> {
    let tagged = [server.host.clone(), server.to_string()];
    let mut found = ec2.instances(&format!("tag:{HOST_TAG}"), &tagged).await?;
    if found.is_empty() && !server.is_loopback() {
        found = by_network(ec2, server).await?;
    }
    match found.as_slice() {
        [one] if one.state == "running" => Ok(one.clone()),
        [one] => Err(Fault::refused(format!(
            "find the instance of {server}: {} is {}, so {server} runs elsewhere",
            one.id, one.state
        ))
        .hint(format!("correct the instance's tag {HOST_TAG}"))),
        [] => Err(missing(ec2, server)),
        several => Err(ambiguous(server, several)),
    }
}

async fn by_network(ec2: &Ec2, server: &Endpoint) -> Result<Vec<Found>> {
    let addresses = addresses(server).await;
    if !addresses.is_empty() {
        let found = ec2.instances("private-ip-address", &addresses).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    ec2.instances("private-dns-name", std::slice::from_ref(&server.host)).await
}

/// What the name means here. A name that this host cannot resolve may still be one of EC2's.
async fn addresses(server: &Endpoint) -> Vec<String> {
    if let Ok(address) = server.host.parse::<IpAddr>() {
        return vec![address.to_string()];
    }
    let looked =
        tokio::time::timeout(LOOKUP, tokio::net::lookup_host((server.host.as_str(), server.port))).await;
    let Ok(Ok(found)) = looked else { return Vec::new() };
    let mut addresses: Vec<_> =
        found.map(|at| at.ip()).filter(|ip| !ip.is_loopback()).map(|ip| ip.to_string()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn missing(ec2: &Ec2, server: &Endpoint) -> Fault {
    Fault::refused(format!(
        "find the instance of {server}: none in region {} has that private address, private DNS name or tag {HOST_TAG}",
        ec2.region
    ))
    .hint(format!(
        "see whether {} is the right region (snapshot.region), or tag the instance with {HOST_TAG}={server}",
        ec2.region
    ))
}

fn ambiguous(server: &Endpoint, several: &[Found]) -> Fault {
    let names: Vec<_> = several
        .iter()
        .map(|one| if one.name.is_empty() { one.id.clone() } else { format!("{} ({})", one.id, one.name) })
        .collect();
    Fault::refused(format!("find the instance of {server}: it may be any of {}", names.join(", ")))
        .hint(format!("tag the right one, and only it, with {HOST_TAG}={server}"))
}
