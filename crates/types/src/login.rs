//! Account and TLS settings of a connection to a server.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

/// The account with which a replica connects to its source.
#[derive(Clone)]
pub struct ReplicationAccount {
    /// User name.
    pub user: String,
    /// Password.
    pub password: SecretString,
}

/// `tls` of the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The required protection of the connection.
    pub mode: TlsMode,
    /// PEM file with the certificates to trust. [`TlsMode::VerifyCa`] and
    /// [`TlsMode::VerifyIdentity`] need it unless the system's certificates are meant.
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

impl fmt::Debug for ReplicationAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationAccount").field("user", &self.user).finish_non_exhaustive()
    }
}
