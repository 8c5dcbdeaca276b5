//! Access to a shard's entry and repository, as every event needs it.

use backstop_aws::client::AwsClient;
use backstop_aws::secrets_manager;
use backstop_config::secret_entry::SecretEntry;
use backstop_host::Host;
use backstop_repo::{Location, RepoKey, Repository, S3Access};
use backstop_types::create_repository::CreateRepository;
use backstop_types::error::Result;
use secrecy::ExposeSecret;
use uuid::Uuid;

/// Reads a shard's entry. It is read in every invocation, so that a rotated password is used.
/// `repository` is the repository of an entry that names none.
///
/// # Errors
/// As [`secrets_manager::read`] and [`SecretEntry::parse`].
pub async fn secret_entry(aws: &AwsClient, id: &str, repository: Option<&str>) -> Result<SecretEntry> {
    let text = secrets_manager::read(aws, id).await?;
    Ok(SecretEntry::parse(text.expose_secret(), id, repository)?)
}

/// Opens a repository, with the key and the region of the entry if there is one.
///
/// # Errors
/// As [`Repository::open`].
pub async fn open_repository(
    url: &str,
    entry: Option<&SecretEntry>,
    (create, id): (CreateRepository, Option<Uuid>),
    host: &Host,
) -> Result<Repository> {
    // Lambda's own region is the bucket's, as for every program in Lambda.
    let known = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = entry.filter(|_| known.is_none()).map(|entry| entry.region.clone());
    let s3 = S3Access { endpoint: variable("AWS_ENDPOINT_URL_S3"), region, ..S3Access::default() };
    let key = entry.and_then(|entry| entry.encryption_key.as_ref()).map(RepoKey::parse).transpose()?;
    let location = Location { url: url.to_owned(), s3, create, id };
    Repository::open(&location, key.as_ref(), host.clone()).await
}

/// Returns an environment variable that is not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
