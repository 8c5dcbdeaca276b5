//! Where a repository is.

use backstop_model::settings::CreateRepository;
use secrecy::SecretString;
use uuid::Uuid;

/// Where a repository is: its URL, and how to get at it.
#[derive(Debug, Clone)]
pub struct Location {
    /// `file:///absolute/dir` or `s3://bucket/prefix`.
    pub url: String,
    /// Ignored for `file://`.
    pub s3: S3Access,
    /// Whether the first claim may make it.
    pub create: CreateRepository,
    /// The only repository that is accepted there; `None`: any.
    pub id: Option<Uuid>,
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
    /// A location of which everything but the URL comes from the environment. There must be a repository.
    pub fn new(url: impl Into<String>) -> Self {
        let (s3, create) = (S3Access::default(), CreateRepository::Never);
        Self { url: url.into(), s3, create, id: None }
    }

    /// The same, where the first claim makes the repository if nothing is stored yet.
    #[must_use]
    pub fn or_new(self) -> Self {
        Self { create: CreateRepository::IfEmpty, ..self }
    }
}
