//! Checks the certificate that a recovered server gets, before anything is changed.

use std::path::Path;

use backstop_config::settings::ServerTls;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

const TLS_FILES_HINT: &str = "correct the files that `[recovery.tls]` of the configuration names";

/// Checks that the files exist and hold what they should, and that the key matches the certificate.
///
/// # Errors
/// Returns [`ErrorKind::Usage`] with the file and its fault.
pub fn check(tls: &ServerTls) -> Result<()> {
    let chain = certificates(&tls.cert)?;
    if let Some(ca) = &tls.ca {
        certificates(ca)?;
    }
    let file = tls.key.display();
    let unusable =
        |why: &str| Error::new(ErrorKind::Usage, format!("cannot use {file}: {why}")).hint(TLS_FILES_HINT);
    let key = PrivateKeyDer::from_pem_slice(&read(&tls.key)?)
        .map_err(|_| unusable("it contains no unencrypted private key in PEM format"))?;
    let key = any_supported_type(&key).map_err(|_| unusable("its type is not supported by TLS"))?;
    match CertifiedKey::new(chain, key).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(unusable(&format!("it is not the key of certificate {}", tls.cert.display())))
        }
        Err(rustls::Error::InconsistentKeys(_)) | Ok(()) => Ok(()),
        Err(error) => Err(unusable(&error.to_string())),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::new(
            ErrorKind::Usage,
            format!("cannot use {}: it contains no certificate in PEM format", path.display()),
        )
        .hint(TLS_FILES_HINT)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .context(ErrorKind::Usage, format!("cannot read {}", path.display()))
        .map_err(|error| error.hint(TLS_FILES_HINT))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;

    fn pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let (cert_file, key_file) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}-key.pem")));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        (cert_file, key_file)
    }

    #[test]
    fn key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key), (other, other_key)) = (pair(dir.path(), "db1"), pair(dir.path(), "db2"));
        let check = |cert: &Path, key: &Path, ca: &Path| {
            let tls = ServerTls { ca: Some(ca.to_owned()), cert: cert.to_owned(), key: key.to_owned() };
            check(&tls).map_err(|error| error.message)
        };
        assert_eq!(check(&cert, &key, &other), Ok(()));
        for (cert, key, ca, words) in [
            (&cert, &other_key, &other, "not the key of certificate"),
            (&cert, &cert, &other, "no unencrypted private key"),
            (&key, &key, &other, "no certificate"),
            (&cert, &key, &key, "no certificate"),
            (&cert, &dir.path().join("none"), &other, "none"),
        ] {
            let message = check(cert, key, ca).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
