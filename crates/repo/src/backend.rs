//! Connects to the store of a location.

mod s3_retry;
mod storage_class;

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use backstop_host::Host;
use backstop_types::error::{Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use secrecy::ExposeSecret;

use crate::keys::{KEYS_DIRECTORIES, PROBES_DIRECTORY, REQUIRED_VERSIONS_DIRECTORY, SHARDS_DIRECTORY};
use crate::local_store::LocalStore;
use crate::location::{Location, S3Access};
use crate::store_error::{error_chain, store_error};

pub(crate) use s3_retry::ObjectLock;
use storage_class::ClassedStore;

/// Time limit of one request, including the repetitions of a failing one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// Connected store, and its directory if it is in one.
pub(crate) struct ConnectedStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) local_store: Option<LocalStore>,
    /// Set when the store reports a retention mode.
    pub(crate) object_lock: ObjectLock,
}

/// Returns the store of a location. Sends no request yet.
pub(crate) fn connect(location: &Location, host: &Host) -> Result<ConnectedStore> {
    if let Some(dir) = location.url.strip_prefix("file://") {
        return local(dir, &location.url, host);
    }
    let Some(rest) = location.url.strip_prefix("s3://") else {
        return Err(bad_url(&location.url, "it begins with neither file:// nor s3://"));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(bad_url(&location.url, "it names no bucket"));
    }
    let prefix = Path::parse(prefix).map_err(|error| bad_url(&location.url, &error.to_string()))?;
    let object_lock = ObjectLock::default();
    let store = s3(bucket, &location.s3, &object_lock, host)?;
    let store: Arc<dyn ObjectStore> =
        if prefix.is_root() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) };
    Ok(ConnectedStore { store, local_store: None, object_lock })
}

fn local(dir: &str, url: &str, host: &Host) -> Result<ConnectedStore> {
    if !dir.starts_with('/') {
        return Err(bad_url(url, "the directory is not absolute"));
    }
    Path::parse(dir).map_err(|error| bad_url(url, &error.to_string()))?;
    let local_store = LocalStore::new(dir.into(), host.clone());
    Ok(ConnectedStore {
        store: Arc::new(local_store.clone()),
        local_store: Some(local_store),
        object_lock: ObjectLock::default(),
    })
}

/// Creates a missing directory with access for its owner only: it will hold all data of the
/// database.
pub(crate) fn make_directory(location: &Location) -> Result<()> {
    let Some(dir) = location.url.strip_prefix("file://") else { return Ok(()) };
    let dir = std::path::Path::new(dir);
    let private = |dir: &std::path::Path| match dir.exists() {
        true => Ok(()),
        false => std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir),
    };
    let made = private(dir).and_then(|()| {
        // The subdirectories as well: the directory may have existed already, open to other users.
        [SHARDS_DIRECTORY, PROBES_DIRECTORY, REQUIRED_VERSIONS_DIRECTORY]
            .iter()
            .chain(&KEYS_DIRECTORIES)
            .try_for_each(|below| private(&dir.join(below)))
    });
    made.map_err(|error| {
        let error = object_store::Error::Generic { store: "file", source: Box::new(error) };
        store_error("create", &location.url, &error)
    })
}

fn bad_url(url: &str, why: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("the repository URL `{url}` is not usable: {why}"))
        .hint("write file:///absolute/directory or s3://bucket/prefix")
}

fn s3(bucket: &str, access: &S3Access, object_lock: &ObjectLock, host: &Host) -> Result<impl ObjectStore> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // A bucket with Object Lock rejects puts without a checksum; this one also signs the
        // request.
        .with_checksum_algorithm(Checksum::SHA256)
        .with_http_connector(s3_retry::S3RetryConnector {
            object_lock: object_lock.clone(),
            host: host.clone(),
        })
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: 5,
            retry_timeout: RETRY_TIMEOUT,
        });
    let mut client = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(Duration::from_secs(5))
        .with_user_agent(object_store::HeaderValue::from_static("backstop"));
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let standard = || variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
    if let Some(endpoint) = access.endpoint.clone().or_else(standard) {
        // Set this key: the environment variable would override the general one.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.trim_end_matches('/'));
        if endpoint.starts_with("http://") {
            client = client.with_allow_http(access.allow_http || loopback_only(&endpoint)?);
        }
    }
    if let Some(region) = &access.region {
        builder = builder.with_region(region);
    }
    builder = with_login(builder, access);
    for certificate in access.ca.as_deref().map(certificates).transpose()?.unwrap_or_default() {
        client = client.with_root_certificate(certificate);
    }
    if let Some(key) = &access.kms_key {
        builder = builder.with_sse_kms_encryption(key);
    }
    let store = builder.with_client_options(client).build().map_err(|error| {
        Error::new(
            ErrorKind::Usage,
            format!("the S3 settings of bucket `{bucket}` are not usable: {}", error_chain(&error)),
        )
    })?;
    Ok(ClassedStore { store, class: access.storage_class.clone() })
}

/// Adds the login of the configuration. What it lacks comes from the environment.
fn with_login(mut builder: AmazonS3Builder, access: &S3Access) -> AmazonS3Builder {
    if let Some(id) = &access.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &access.secret_access_key {
        builder = builder.with_secret_access_key(secret.expose_secret());
    }
    if let Some(token) = &access.session_token {
        builder = builder.with_token(token.expose_secret());
    }
    builder
}

/// Reads the certificates of a private authority.
fn certificates(path: &std::path::Path) -> Result<Vec<Certificate>> {
    let doing = format!("cannot read the certificates {} (`repository.ca`)", path.display());
    let pem =
        std::fs::read(path).map_err(|error| Error::new(ErrorKind::Usage, format!("{doing}: {error}")))?;
    let found = Certificate::from_pem_bundle(&pem)
        .map_err(|error| Error::new(ErrorKind::Usage, format!("{doing}: {}", error_chain(&error))))?;
    if found.is_empty() {
        let error = Error::new(ErrorKind::Usage, format!("{doing}: it contains no certificate"));
        return Err(error.hint("name a PEM file with the certificates to trust"));
    }
    Ok(found)
}

/// Returns true for an endpoint on this machine.
fn loopback_only(endpoint: &str) -> Result<bool> {
    let rest = endpoint.trim_start_matches("http://");
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => rest.split([':', '/']).next().unwrap_or_default(),
    };
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback {
        return Ok(true);
    }
    Err(Error::new(ErrorKind::Usage, format!("the S3 endpoint `{endpoint}` is not encrypted"))
        .hint("use https; plain http is accepted for this machine, and with `repository.allow_http = true`"))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod locations {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plain_http_is_accepted_for_loopback_only() {
        for good in ["http://127.0.0.1:8333", "http://localhost", "http://[::1]:9000/"] {
            assert!(loopback_only(good).unwrap(), "{good}");
        }
        for bad in ["http://10.0.0.1:9000", "http://localhost.example:1"] {
            assert_eq!(loopback_only(bad).unwrap_err().kind, ErrorKind::Usage);
            let mut location = Location::new("s3://bucket");
            location.s3.endpoint = Some(bad.to_owned());
            assert!(connect(&location, &Host::system()).is_err());
            location.s3.allow_http = true;
            assert!(connect(&location, &Host::system()).is_ok());
        }
    }

    #[test]
    fn malformed_repository_urls_are_refused() {
        for bad in ["", "/srv", "file://relative", "s3://", "gs://bucket"] {
            assert_eq!(
                connect(&Location::new(bad), &Host::system()).err().unwrap().kind,
                ErrorKind::Usage,
                "{bad}"
            );
        }
    }
}
