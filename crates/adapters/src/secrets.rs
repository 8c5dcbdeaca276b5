//! Resolves references to secrets: files that only their owner can read, and environment variables.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use backstop_config::credentials::{Credentials, S3Credentials};
use backstop_config::settings::SecretRef;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::login::{TlsMode, TlsSettings};
use secrecy::{ExposeSecret, SecretString};

/// Limit for a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Returns the text that a reference names.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] for a file that others can read, or that belongs to another user;
/// [`ErrorKind::Usage`] if the secret does not exist or is not text; [`ErrorKind::Denied`] if it
/// cannot be read.
pub fn resolve(reference: &SecretRef) -> Result<SecretString> {
    match reference {
        SecretRef::File(path) => read_file(path),
        SecretRef::Env(name) => read_variable(name),
        SecretRef::SecretsManager(id) => Err(without_secrets_manager(id)),
    }
}

/// Returns the error for an entry of Secrets Manager in a build that cannot read it.
pub fn without_secrets_manager(id: &str) -> Error {
    let message = format!("cannot read secret {id}: this build does not support Secrets Manager");
    Error::new(ErrorKind::Usage, message).hint("keep the secret in a file, or build with the feature `aws`")
}

/// Returns the credentials of a shard.
///
/// # Errors
/// As [`resolve`]; [`ErrorKind::Usage`] with every fault in the text, and no value of it; as
/// [`check_certificates`].
pub fn credentials(reference: &SecretRef) -> Result<Credentials> {
    let text = resolve(reference)?;
    check_certificates(Credentials::parse(text.expose_secret(), &name(reference))?)
}

/// Returns the credentials if the certificate files that they name can be read: a connection that
/// fails for that reason does not name the file.
///
/// # Errors
/// Returns [`ErrorKind::Usage`] or [`ErrorKind::Denied`] with the path.
pub fn check_certificates(credentials: Credentials) -> Result<Credentials> {
    let verifies = |tls: &&TlsSettings| matches!(tls.mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
    let tls = credentials.tls.as_ref().filter(verifies).and_then(|tls| tls.ca.as_ref());
    let named = [("tls.ca", tls), ("orchestrator_ca", credentials.orchestrator.ca.as_ref())];
    for (key, path) in named.into_iter().filter_map(|(key, path)| Some((key, path?))) {
        let doing =
            format!("cannot read the certificates {}, which the credentials name as `{key}`", path.display());
        std::fs::read(path).map_err(|error| not_opened(&doing, &error))?;
    }
    Ok(credentials)
}

/// Returns the credentials of a store.
///
/// # Errors
/// As [`credentials`].
pub fn store_credentials(reference: &SecretRef) -> Result<S3Credentials> {
    let text = resolve(reference)?;
    Ok(S3Credentials::parse(text.expose_secret(), &name(reference))?)
}

/// Returns the name of a reference in messages.
fn name(reference: &SecretRef) -> String {
    match reference {
        SecretRef::File(path) => path.display().to_string(),
        SecretRef::Env(name) => format!("environment variable {name}"),
        SecretRef::SecretsManager(id) => format!("secret {id}"),
    }
}

fn read_variable(name: &str) -> Result<SecretString> {
    let missing = |why: &str| {
        let error = Error::new(ErrorKind::Usage, format!("cannot read environment variable {name}: {why}"));
        error.hint("set it to the contents of a credentials file")
    };
    match std::env::var(name) {
        Ok(text) => Ok(SecretString::from(text)),
        Err(std::env::VarError::NotPresent) => Err(missing("it is not set")),
        Err(std::env::VarError::NotUnicode(_)) => Err(missing("it is not valid UTF-8")),
    }
}

fn read_file(path: &Path) -> Result<SecretString> {
    let doing = format!("cannot read {}", path.display());
    let file = File::open(path).map_err(|error| not_opened(&doing, &error))?;
    // The check uses the open file and not its name, so that the file cannot be exchanged in
    // between.
    refuse_readable_by_others(path, &file)?;
    let mut text = String::new();
    file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).map_err(|error| not_opened(&doing, &error))?;
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{doing}: it is longer than {MAX_SECRET_BYTES} bytes"),
        ));
    }
    Ok(SecretString::from(text))
}

fn refuse_readable_by_others(path: &Path, file: &File) -> Result<()> {
    let path = path.display();
    let meta = file.metadata().map_err(|error| not_opened(&format!("cannot inspect {path}"), &error))?;
    let myself = rustix::process::geteuid().as_raw();
    if meta.uid() != myself && meta.uid() != 0 {
        let message = format!("cannot read {path}: it belongs to user {}, not to Backstop's", meta.uid());
        return Err(Error::refused(message).hint(format!("run `chown {myself} {path}`")));
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let message = format!("cannot read {path}: its mode {mode:04o} gives other users access");
        return Err(Error::refused(message).hint(format!("run `chmod 600 {path}`")));
    }
    Ok(())
}

fn not_opened(doing: &str, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Usage,
    };
    Error::new(kind, format!("{doing}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, SecretRef) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orders.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, SecretRef::File(path))
    }

    #[test]
    fn files_must_be_private() {
        let text = "user = \"backstop\"\npassword = \"s3cret\"\n";
        for mode in [0o600, 0o400] {
            let (_dir, reference) = file(text, mode);
            assert_eq!(credentials(&reference).unwrap().user, "backstop");
        }
        for mode in [0o640, 0o604, 0o660] {
            let (_dir, reference) = file(text, mode);
            let refused = credentials(&reference).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Refused);
            let hint = refused.hint.unwrap();
            assert!(hint.contains("chmod 600 ") && hint.contains("orders.toml"), "{hint}");
        }
    }

    #[test]
    fn certificates_that_are_missing_are_named() {
        let text = "user = 'a'\npassword = 'b'\ntls = { mode = 'verify-ca', ca = '/nowhere/ca.pem' }";
        let (_dir, reference) = file(text, 0o600);
        let error = credentials(&reference).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains("/nowhere/ca.pem") && error.message.contains("`tls.ca`"), "{error}");
        let (_dir, reference) = file(&text.replace("verify-ca", "required"), 0o600);
        assert!(credentials(&reference).is_ok(), "nothing is verified");
    }

    #[test]
    fn errors_name_the_reference_and_no_secret() {
        let (_dir, wrong) = file("user = \"backstop\"\npasword = \"s3cret\"\n", 0o600);
        let error = credentials(&wrong).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains("orders.toml") && !format!("{error:?}").contains("s3cret"), "{error}");
        let missing = SecretRef::File("/nonexistent/orders.toml".into());
        assert_eq!(resolve(&missing).unwrap_err().kind, ErrorKind::Usage);
        let unset = resolve(&SecretRef::Env("BACKSTOP_TEST_NOT_SET".into())).unwrap_err();
        assert!(unset.message.contains("BACKSTOP_TEST_NOT_SET"));
        assert!(resolve(&SecretRef::Env("PATH".into())).is_ok());
    }
}
