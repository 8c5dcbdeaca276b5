//! Resolves references to secrets: those on this host, and those in AWS Secrets Manager if this
//! build has AWS.

use backstop_adapters::secrets as local;
use backstop_config::credentials::{Credentials, S3Credentials};
use backstop_config::secret_entry;
use backstop_config::settings::SecretRef;
use backstop_types::error::Result;
use secrecy::{ExposeSecret, SecretString};

/// Returns the text that a reference names.
///
/// # Errors
/// As [`local::resolve`], and an error if an entry of Secrets Manager cannot be read.
pub fn resolve(reference: &SecretRef) -> Result<SecretString> {
    match remote(reference)? {
        Some((_, text)) => Ok(text),
        None => local::resolve(reference),
    }
}

/// Returns the credentials of a shard.
///
/// # Errors
/// As [`local::credentials`] and [`resolve`].
pub fn credentials(reference: &SecretRef) -> Result<Credentials> {
    match remote(reference)? {
        Some((id, text)) => local::check_certificates(secret_entry::credentials(text.expose_secret(), &id)?),
        None => local::credentials(reference),
    }
}

/// Returns the credentials of a store.
///
/// # Errors
/// As [`local::store_credentials`] and [`resolve`].
pub fn store_credentials(reference: &SecretRef) -> Result<S3Credentials> {
    match remote(reference)? {
        Some((id, text)) => Ok(S3Credentials::parse(text.expose_secret(), &format!("secret {id}"))?),
        None => local::store_credentials(reference),
    }
}

/// Returns an entry of Secrets Manager with its id; `None` if the secret is on this host. The entry
/// is read when it is needed, so that a command does not fail for an entry that it does not use.
fn remote(reference: &SecretRef) -> Result<Option<(String, SecretString)>> {
    let SecretRef::SecretsManager(id) = reference else { return Ok(None) };
    Ok(Some((id.clone(), backstop_aws::read_secret(id)?)))
}
