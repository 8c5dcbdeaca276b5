//! Network paths from this host to the services.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use backstop_config::settings::{RepositoryUrl, SecretRef};
use backstop_policy::first_day::endpoints::{ServiceAddress, address_of, is_private, regional_url};
use backstop_policy::first_day::{AccountAnswer, ENDPOINT};
use tokio::net::TcpStream;

use crate::account_questions::{AccountQuestions, ShardQuestions};
use crate::client::AwsClient;

/// Opens a connection to each service that the shards use.
pub(super) async fn ask(
    aws: &AwsClient,
    asked: &AccountQuestions,
    shards: &[&ShardQuestions],
) -> Vec<AccountAnswer> {
    let urls = urls(aws, asked, shards);
    let reached = urls.iter().map(|(service, url)| reach(service, url, asked.deadline));
    futures::future::join_all(reached).await
}

fn urls(
    aws: &AwsClient,
    asked: &AccountQuestions,
    shards: &[&ShardQuestions],
) -> BTreeMap<&'static str, String> {
    let own = |service: &'static str| {
        let variable = format!("AWS_ENDPOINT_URL_{}", service.to_ascii_uppercase());
        let named = std::env::var(variable.replace("SECRETSMANAGER", "SECRETS_MANAGER")).ok();
        let named = named.or_else(|| aws.config().endpoint_url().map(str::to_owned));
        (service, named.unwrap_or_else(|| regional_url(service, aws.region())))
    };
    let mut urls: BTreeMap<_, _> = ["ec2", "kms", "sts"].map(own).into();
    let secret = |one: &&ShardQuestions| matches!(one.settings.credentials, SecretRef::SecretsManager(_));
    if shards.iter().any(secret) {
        urls.extend([own("secretsmanager")]);
    }
    if let RepositoryUrl::S3(s3) = &asked.repository {
        let region = s3.region.as_deref().unwrap_or(aws.region());
        urls.insert("s3", s3.endpoint.clone().unwrap_or_else(|| regional_url("s3", region)));
    }
    urls
}

async fn reach(service: &str, url: &str, deadline: Duration) -> AccountAnswer {
    let Some(ServiceAddress { host, port }) = address_of(url) else {
        return ENDPOINT.problem(format!("{service}: {url} is not an address"));
    };
    let within = deadline.as_secs_f64().ceil();
    let addresses: Vec<SocketAddr> =
        match tokio::time::timeout(deadline, tokio::net::lookup_host((host.as_str(), port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return ENDPOINT.problem(format!("{service}: {host} does not resolve: {error}")),
            Err(_) => return ENDPOINT.problem(format!("{service}: {host} does not resolve within {within} s")),
        };
    match tokio::time::timeout(deadline, TcpStream::connect(&addresses[..])).await {
        Ok(Ok(_)) => {
            let path = match addresses.iter().all(|at| is_private(at.ip())) {
                true => "private addresses",
                false => "public addresses: by NAT, an internet gateway or a gateway endpoint",
            };
            ENDPOINT.ok(format!("{service}: {host}:{port} accepts connections ({path})"))
        }
        Ok(Err(error)) => ENDPOINT.problem(format!("{service}: cannot connect to {host}:{port}: {error}")),
        Err(_) => ENDPOINT.problem(format!("{service}: {host}:{port} accepts no connection within {within} s")),
    }
}
