//! Location of a repository.

use std::path::PathBuf;

use backstop_types::create_repository::CreateRepository;
use secrecy::SecretString;
use uuid::Uuid;

/// Location of a repository: its URL, and the access to it.
#[derive(Debug, Clone)]
pub struct Location {
    /// `file:///absolute/dir` or `s3://bucket/prefix`.
    pub url: String,
    /// Ignored for `file://`.
    pub s3: S3Access,
    /// Permission for the first lease to create the repository.
    pub create: CreateRepository,
    /// Id of the only repository that is accepted there; `None`: any.
    pub id: Option<Uuid>,
}

/// Access to an S3-compatible store. Fields that are `None` come from the usual `AWS_…` variables.
#[derive(Debug, Clone, Default)]
pub struct S3Access {
    /// `https://host[:port]` of a store other than AWS. Plain `http` only for loopback, unless
    /// `allow_http`.
    pub endpoint: Option<String>,
    /// True if the endpoint may be `http` on another host.
    pub allow_http: bool,
    /// PEM file with certificates to trust besides those of the system.
    pub ca: Option<PathBuf>,
    /// Key of KMS that the store encrypts every object with; `None`: as the bucket's default says.
    pub kms_key: Option<String>,
    /// Storage class of packs; `None`: the store's default.
    pub storage_class: Option<String>,
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
    /// Returns a location that takes everything but the URL from the environment. The repository
    /// must exist.
    pub fn new(url: impl Into<String>) -> Self {
        let (s3, create) = (S3Access::default(), CreateRepository::Never);
        Self { url: url.into(), s3, create, id: None }
    }

    /// Returns the location with permission for the first lease to create the repository if nothing
    /// is stored yet.
    #[must_use]
    pub fn or_new(self) -> Self {
        Self { create: CreateRepository::IfEmpty, ..self }
    }
}
