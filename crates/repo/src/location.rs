//! Where a repository is.

use secrecy::SecretString;

/// Where a repository is: its URL, and how to get at it.
#[derive(Debug, Clone)]
pub struct Location {
    /// `file:///absolute/dir` or `s3://bucket/prefix`.
    pub url: String,
    /// Ignored for `file://`.
    pub s3: S3Access,
}

/// How to reach an S3-compatible store. What is `None` is taken from the usual `AWS_…` variables.
#[derive(Debug, Clone, Default)]
pub struct S3Access {
    /// `https://host[:port]` of a store that is not AWS. Plain `http` only for loopback.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Access key id.
    pub access_key_id: Option<String>,
    /// Secret access key.
    pub secret_access_key: Option<SecretString>,
    /// Session token of temporary credentials.
    pub session_token: Option<SecretString>,
}

impl Location {
    /// A location of which everything but the URL comes from the environment.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), s3: S3Access::default() }
    }
}
