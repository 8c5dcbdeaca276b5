//! TLS options of a connection, and explanations of TLS failures.

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::login::{TlsMode, TlsSettings};
use mysql_async::{DriverError, IoError, SslOpts, TlsError};
use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Refuses a file of trusted certificates that cannot be read or has none; the driver's error would
/// not name the file.
pub(super) fn check(mode: TlsMode, tls: Option<&TlsSettings>) -> Result<()> {
    let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
    let Some(ca) = tls.and_then(|tls| tls.ca.as_ref()).filter(|_| verifies) else { return Ok(()) };
    let doing = format!("cannot read {}, the tls.ca of the credentials", ca.display());
    let certificates = CertificateDer::pem_file_iter(ca).context(ErrorKind::Usage, &doing)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().context(ErrorKind::Usage, &doing)?;
    if certificates.is_empty() {
        return Err(Error::new(ErrorKind::Usage, format!("{doing}: it has no certificate in PEM format")));
    }
    Ok(())
}

/// Returns the driver's options for a mode; `None` for plain text. `name` is expected in the
/// certificate instead of the host.
pub(super) fn options(mode: TlsMode, tls: Option<&TlsSettings>, name: Option<&str>) -> Option<SslOpts> {
    match mode {
        TlsMode::Off => None,
        TlsMode::Preferred | TlsMode::Required => Some(
            SslOpts::default()
                .with_danger_accept_invalid_certs(true)
                .with_danger_skip_domain_validation(true),
        ),
        TlsMode::VerifyCa | TlsMode::VerifyIdentity => {
            let options = match tls.and_then(|tls| tls.ca.as_ref()) {
                Some(ca) => SslOpts::default()
                    .with_root_certs(vec![ca.clone().into()])
                    .with_disable_built_in_roots(true),
                None => SslOpts::default(),
            };
            Some(options.with_danger_tls_hostname_override(name.map(str::to_owned)))
        }
    }
}

/// Returns true if the server does not support TLS, or client and server could not agree on it.
pub(super) fn is_failure(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer))
        || failure(error).is_some()
}

/// Returns a name that the certificate contains, if the host name was the only mismatch. The
/// authority's signature is checked before the name, and again by the connection that expects this
/// name.
pub(super) fn other_name(error: &mysql_async::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) =
        failure(error)?
    else {
        return None;
    };
    let name = presented.iter().find_map(|name| {
        let name = name.strip_prefix("DnsName(").or_else(|| name.strip_prefix("IpAddress("))?;
        Some(name.strip_suffix(')')?.trim_matches('"'))
    })?;
    Some(name.strip_prefix("*.").map_or_else(|| name.to_owned(), |rest| format!("any.{rest}")))
}

/// Describes a TLS failure; `None` if the error is another one.
pub(super) fn explain(error: &mysql_async::Error) -> Option<String> {
    if matches!(error, mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer)) {
        return Some("the server does not offer TLS, and the credentials require it".to_owned());
    }
    let failure = failure(error)?;
    let nameless = matches!(
        failure,
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })
            if presented.is_empty()
    );
    Some(if nameless {
        "TLS: the server's certificate has no host names (those that MySQL generates have none), so it \
         cannot be verified: give the server a certificate with names, or use tls.mode `required`"
            .to_owned()
    } else {
        format!("TLS: {failure}")
    })
}

/// Returns the TLS library's error inside the driver's error, which holds it directly or as an
/// input/output error.
fn failure(error: &mysql_async::Error) -> Option<&rustls::Error> {
    match error {
        mysql_async::Error::Io(IoError::Tls(TlsError::Tls(error))) => Some(error),
        mysql_async::Error::Io(IoError::Io(error)) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_name(presented: &[&str]) -> mysql_async::Error {
        let expected = rustls::pki_types::ServerName::from(std::net::Ipv4Addr::LOCALHOST);
        let presented = presented.iter().map(|name| (*name).to_owned()).collect();
        let error = CertificateError::NotValidForNameContext { expected, presented };
        std::io::Error::other(rustls::Error::InvalidCertificate(error)).into()
    }

    #[test]
    fn certificate_for_another_name_is_explained() {
        assert_eq!(other_name(&wrong_name(&["DnsName(\"db1.lan\")"])).as_deref(), Some("db1.lan"));
        assert_eq!(other_name(&wrong_name(&["DnsName(\"*.lan\")"])).as_deref(), Some("any.lan"));
        assert_eq!(other_name(&wrong_name(&["IpAddress(10.0.0.1)"])).as_deref(), Some("10.0.0.1"));
        assert_eq!(other_name(&wrong_name(&[])), None);
        assert!(explain(&wrong_name(&[])).is_some_and(|text| text.contains("no host names")));
        let other = mysql_async::Error::from(std::io::Error::other("broken"));
        assert!(!is_failure(&other) && explain(&other).is_none() && other_name(&other).is_none());
    }
}
