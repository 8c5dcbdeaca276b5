//! TLS around a connection to a server, in MySQL's modes.

use std::sync::Arc;

use backstop_model::credentials::{Tls, TlsMode};
use backstop_model::fault::{Context, Fault, Kind, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, client,
};
use tokio_rustls::TlsConnector;

use crate::wire::Wire;

/// Encrypts a connection and checks the server's certificate as far as the mode asks for it.
pub(crate) async fn encrypt(wire: Wire, host: &str, tls: &Tls) -> Result<Wire> {
    let deadline = wire.deadline();
    let name = ServerName::try_from(host.to_owned()).fault(Kind::Usage, format!("use `{host}` for TLS"))?;
    let connecting = TlsConnector::from(Arc::new(config(tls)?)).connect(name, wire.into_socket()?);
    let connected = tokio::time::timeout(deadline, connecting).await;
    let stream = connected
        .map_err(|_| Fault::failed(format!("start TLS: the server did not answer in {deadline:?}")))?
        .map_err(|error| Fault::failed(format!("start TLS: {error}")).hint(HINT))?;
    Ok(Wire::encrypted(stream, deadline))
}

const HINT: &str = "`tls.mode` and `tls.ca` of the credentials say what is asked of the server's certificate; those that \
                    MySQL makes for itself have no host names: they pass with `required`, or with `verify-ca` and that server's ca.pem";

fn config(tls: &Tls) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match tls.mode {
        TlsMode::Off | TlsMode::Preferred | TlsMode::Required => Arc::new(AnyCertificate(provider.clone())),
        TlsMode::VerifyCa => Arc::new(AnyName(authorities(tls, provider.clone())?)),
        TlsMode::VerifyIdentity => authorities(tls, provider.clone())?,
    };
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.failed("prepare TLS")?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// What checks certificates against the configured authorities, or those of the web.
fn authorities(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let doing = format!("read the certificates to trust in {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).fault(Kind::Usage, &doing)? {
                roots.add(certificate.fault(Kind::Usage, &doing)?).fault(Kind::Usage, &doing)?;
            }
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .fault(Kind::Usage, "use the certificates to trust")
}

/// Asks nothing of the certificate: the traffic is hidden, the server is not proven.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

/// Asks for a trusted authority's signature, and for no name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl client::danger::ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The name is looked at last: everything else was right.
            Err(Error::InvalidCertificate(
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
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
