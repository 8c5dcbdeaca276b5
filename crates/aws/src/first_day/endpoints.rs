//! Network paths from this host to the services.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use backstop_config::settings::{RepositoryUrl, SecretRef};
use backstop_policy::first_day::endpoints::{ServiceAddress, address_of, is_private, regional_url};
use backstop_policy::first_day::{AccountAnswer, ENDPOINT};
use backstop_types::error::{Result, ResultExt};
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
    let reached = urls.iter().map(|(service, url)| reach(service, url, asked));
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

async fn reach(service: &str, url: &str, asked: &AccountQuestions) -> AccountAnswer {
    let Some(ServiceAddress { host, port }) = address_of(url) else {
        return ENDPOINT.problem(format!("{service}: {url} is not an address"));
    };
    match connected(&host, port, asked).await {
        Ok(addresses) => {
            let path = match addresses.iter().all(|at| is_private(at.ip())) {
                true => "private addresses",
                false => "public addresses: by NAT, an internet gateway or a gateway endpoint",
            };
            ENDPOINT.ok(format!("{service}: {host}:{port} accepts connections ({path})"))
        }
        Err(error) => ENDPOINT.problem(format!("{service}: {}", error.message)),
    }
}

/// Connects to one of a name's addresses, and returns all of them.
async fn connected(host: &str, port: u16, asked: &AccountQuestions) -> Result<Vec<SocketAddr>> {
    let resolve = async {
        let found = tokio::net::lookup_host((host, port)).await;
        Ok(found.failed(format!("cannot resolve {host}"))?.collect::<Vec<_>>())
    };
    let addresses = asked.in_time(&format!("resolve {host}"), resolve).await?;
    let doing = format!("connect to {host}:{port}");
    let connect = async { TcpStream::connect(&addresses[..]).await.failed(format!("cannot {doing}")) };
    asked.in_time(&doing, connect).await?;
    Ok(addresses)
}
