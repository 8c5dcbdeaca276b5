//! What secrets lead to: how to log in.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

/// How to log in to the members of a shard. `Debug` shows no secret.
#[derive(Clone)]
pub struct Credentials {
    /// Account for everything but replication.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Account for replication, if it is another one.
    pub replication: Option<ReplicationAccount>,
    /// How connections are protected; `None`: [`TlsMode::Preferred`] on loopback, else [`TlsMode::Required`].
    pub tls: Option<Tls>,
}

/// The account a replica uses towards its source.
#[derive(Clone)]
pub struct ReplicationAccount {
    /// User name.
    pub user: String,
    /// Password.
    pub password: SecretString,
}

/// `tls` of the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// How much is asked of the connection.
    pub mode: TlsMode,
    /// PEM file with the certificates to trust. Needed by [`TlsMode::VerifyCa`] and [`TlsMode::VerifyIdentity`]
    /// unless the system's own are meant.
    pub ca: Option<PathBuf>,
}

/// MySQL's `--ssl-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text.
    Off,
    /// TLS if the server offers it.
    Preferred,
    /// TLS, with any certificate.
    Required,
    /// TLS, with a certificate that a trusted authority signed.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyIdentity,
}

/// How to log in to an S3-compatible store. `Debug` shows no secret.
#[derive(Clone)]
pub struct StoreCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: SecretString,
    /// Session token of temporary credentials.
    pub session_token: Option<SecretString>,
}

impl Credentials {
    /// The account to replicate with: its own if there is one, else the same user.
    pub fn replication_account(&self) -> ReplicationAccount {
        self.replication.clone().unwrap_or_else(|| ReplicationAccount {
            user: self.user.clone(),
            password: self.password.clone(),
        })
    }

    /// How a connection to this server is to be protected.
    pub fn tls_for(&self, server: &crate::ids::Endpoint) -> Tls {
        let mode = if server.is_loopback() { TlsMode::Preferred } else { TlsMode::Required };
        self.tls.clone().unwrap_or(Tls { mode, ca: None })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("user", &self.user).field("replication", &self.replication).field("tls", &self.tls);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for ReplicationAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationAccount").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoreCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCredentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}
