//! TLS for a connection to a server, in MySQL's modes.

use std::sync::Arc;

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::login::{TlsMode, TlsSettings};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::connection::PacketConnection;

/// Encrypts a connection and verifies the server's certificate as far as the mode requires.
pub(crate) async fn start_tls(
    connection: PacketConnection,
    host: &str,
    tls: &TlsSettings,
) -> Result<PacketConnection> {
    let deadline = connection.deadline();
    let name = ServerName::try_from(host.to_owned())
        .context(ErrorKind::Usage, format!("cannot use host name `{host}` for TLS"))?;
    let connecting = TlsConnector::from(Arc::new(config(tls)?)).connect(name, connection.into_socket()?);
    let connected = tokio::time::timeout(deadline, connecting).await;
    let stream = connected
        .map_err(|_| Error::failed(format!("cannot start TLS: the server did not answer in {deadline:?}")))?
        .map_err(|error| Error::failed(format!("cannot start TLS: {error}")).hint(TLS_HINT))?;
    Ok(PacketConnection::encrypted(stream, deadline))
}

const TLS_HINT: &str = "set `tls.mode` and `tls.ca` of the credentials to match the server's certificate; those that MySQL \
                    generates have no host names: they pass with `required`, or with `verify-ca` and that server's ca.pem";

fn config(tls: &TlsSettings) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier: Arc<dyn ServerCertVerifier> = match tls.mode {
        TlsMode::Off | TlsMode::Preferred | TlsMode::Required => {
            Arc::new(ServerCertVerifierByMode { algorithms, chain: None })
        }
        TlsMode::VerifyCa => {
            let chain = Some(trusted_authorities(tls, provider.clone())?);
            Arc::new(ServerCertVerifierByMode { algorithms, chain })
        }
        TlsMode::VerifyIdentity => trusted_authorities(tls, provider.clone())?,
    };
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        versions.failed("cannot prepare TLS")?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// Returns a verifier of certificates against the configured authorities, or those of the web.
fn trusted_authorities(
    tls: &TlsSettings,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let doing = format!(
                "cannot read the trusted certificates (tls.ca of the credentials) in {}",
                path.display()
            );
            for certificate in CertificateDer::pem_file_iter(path).context(ErrorKind::Usage, &doing)? {
                roots
                    .add(certificate.context(ErrorKind::Usage, &doing)?)
                    .context(ErrorKind::Usage, &doing)?;
            }
            if roots.is_empty() {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("{doing}: it contains no certificate in PEM format"),
                ));
            }
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .context(ErrorKind::Usage, "cannot use the trusted certificates")
}

/// Requires less of the certificate than web browsers do: the server must have its key, and `chain`
/// must accept it except for the name.
#[derive(Debug)]
struct ServerCertVerifierByMode {
    algorithms: WebPkiSupportedAlgorithms,
    /// The verifier; `None`: any certificate is accepted. The traffic is encrypted, but the
    /// server's identity is not verified.
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for ServerCertVerifierByMode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The name is checked last: all other checks have passed.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
