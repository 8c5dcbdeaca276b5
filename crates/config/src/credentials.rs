//! Credentials that secrets refer to: logins of servers, orchestrator and object stores.

use std::fmt;
use std::path::PathBuf;

use backstop_types::login::{ReplicationAccount, TlsMode, TlsSettings};
use secrecy::{ExposeSecret, SecretString};

use crate::settings::{ConfigErrors, Document, ErrorCollector, TableReader};

/// Login for the members of a shard. `Debug` shows no secret.
#[derive(Clone)]
pub struct Credentials {
    /// Account for everything but replication.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Account for replication, if it differs.
    pub replication: Option<ReplicationAccount>,
    /// Protection of connections; `None`: [`TlsMode::Preferred`] on loopback, else
    /// [`TlsMode::Required`].
    pub tls: Option<TlsSettings>,
    /// Access to orchestrator, if it requires a login or uses its own certificate authority.
    pub orchestrator: OrchestratorAccess,
}

/// Access to orchestrator. `Debug` shows no secret.
#[derive(Debug, Clone, Default)]
pub struct OrchestratorAccess {
    /// Login by basic authentication.
    pub login: Option<BasicAuth>,
    /// PEM file with the certificates to trust over HTTPS; `None`: those of the system.
    pub ca: Option<PathBuf>,
}

/// A login by basic authentication.
#[derive(Clone)]
pub struct BasicAuth {
    /// User name.
    pub user: String,
    /// Password.
    pub password: SecretString,
}

/// Login for an S3-compatible store. `Debug` shows no secret.
#[derive(Clone)]
pub struct S3Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: SecretString,
    /// Session token of temporary credentials.
    pub session_token: Option<SecretString>,
}

impl Credentials {
    /// Parses the TOML text of a credentials file: `user`, `password`, optional `replication_user`
    /// with `replication_password`, optional `tls = { mode = …, ca = … }`, optional
    /// `orchestrator_user` with `orchestrator_password`, optional `orchestrator_ca`.
    ///
    /// # Errors
    /// Returns all errors in the text at once. They contain no value, and no name of an unknown
    /// key.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigErrors> {
        read(text, file_name, |root| {
            let user = root.required("user", root.read("user", not_empty), "user = \"…\"");
            let password = root.required("password", secret(&root, "password"), "password = \"…\"");
            let replication = replication(&root);
            let tls = root.table("tls").map(tls);
            let orchestrator = orchestrator(&root);
            root.finish();
            Some(Self { user: user?, password: password?, replication, tls: tls.flatten(), orchestrator })
        })
    }

    /// True if both credentials log in to every server with the same account.
    pub fn logs_in_like(&self, other: &Self) -> bool {
        let account = |of: &Self| {
            let account = of.replication_account();
            (account.user, account.password.expose_secret().to_owned())
        };
        let same = (&self.user, self.password.expose_secret(), &self.tls)
            == (&other.user, other.password.expose_secret(), &other.tls);
        same && account(self) == account(other)
    }

    /// Returns the replication account if one is configured, otherwise the main account.
    pub fn replication_account(&self) -> ReplicationAccount {
        self.replication.clone().unwrap_or_else(|| self.account())
    }

    /// Returns the main account in the form of a replication account.
    pub fn account(&self) -> ReplicationAccount {
        ReplicationAccount { user: self.user.clone(), password: self.password.clone() }
    }

    /// Returns the TLS settings for a connection to this server.
    pub fn tls_for(&self, server: &backstop_types::ids::Endpoint) -> TlsSettings {
        let mode = if server.is_loopback() { TlsMode::Preferred } else { TlsMode::Required };
        self.tls.clone().unwrap_or(TlsSettings { mode, ca: None })
    }
}

impl S3Credentials {
    /// Parses the TOML text: `access_key_id`, `secret_access_key`, optional `session_token`.
    ///
    /// # Errors
    /// Returns the same errors as [`Credentials::parse`].
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigErrors> {
        read(text, file_name, |root| {
            let id = root.read("access_key_id", not_empty);
            let access_key_id = root.required("access_key_id", id, "access_key_id = \"…\"");
            let key = secret(&root, "secret_access_key");
            let secret_access_key = root.required("secret_access_key", key, "secret_access_key = \"…\"");
            let session_token = secret(&root, "session_token");
            root.finish();
            Some(Self { access_key_id: access_key_id?, secret_access_key: secret_access_key?, session_token })
        })
    }
}

fn read<T>(
    text: &str,
    file_name: &str,
    understand: impl FnOnce(TableReader<'_>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let document = Document::read(text, file_name);
    let found = ErrorCollector::discreet();
    let value = understand(TableReader::root(document.root(), &found));
    document.conclude(found.into_faults(), value)
}

fn replication(root: &TableReader<'_>) -> Option<ReplicationAccount> {
    let (user, password) = login(root, "replication_user", "replication_password")?;
    Some(ReplicationAccount { user, password })
}

fn orchestrator(root: &TableReader<'_>) -> OrchestratorAccess {
    let login = login(root, "orchestrator_user", "orchestrator_password");
    let ca = root.read("orchestrator_ca", not_empty).map(PathBuf::from);
    OrchestratorAccess { login: login.map(|(user, password)| BasicAuth { user, password }), ca }
}

/// Reads a user name and its password: both, or neither.
pub(crate) fn login(
    root: &TableReader<'_>,
    user_key: &'static str,
    password_key: &'static str,
) -> Option<(String, SecretString)> {
    let (user, password) = (root.read(user_key, not_empty), secret(root, password_key));
    match (root.has(user_key), root.has(password_key)) {
        (true, false) => root.refuse(user_key, format!("needs `{password_key}`")),
        (false, true) => root.refuse(password_key, format!("needs `{user_key}`")),
        _ => {}
    }
    Some((user?, password?))
}

pub(crate) fn tls(table: TableReader<'_>) -> Option<TlsSettings> {
    let modes = [
        ("off", TlsMode::Off),
        ("preferred", TlsMode::Preferred),
        ("required", TlsMode::Required),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-identity", TlsMode::VerifyIdentity),
    ];
    let mode = table.choice("mode", &modes);
    let mode = table.required("mode", mode, "mode = \"required\"");
    let ca = table.read("ca", not_empty).map(PathBuf::from);
    table.finish();
    Some(TlsSettings { mode: mode?, ca })
}

pub(crate) fn secret(table: &TableReader<'_>, key: &'static str) -> Option<SecretString> {
    table.text(key).map(SecretString::from)
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("user", &self.user).field("replication", &self.replication).field("tls", &self.tls);
        shown.field("orchestrator", &self.orchestrator);
        shown.finish_non_exhaustive()
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCredentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FULL: &str = "user = 'backstop'\npassword = 'hunter2'\nreplication_user = 'repl'\n\
        replication_password = 'hunter3'\ntls = { mode = 'verify-ca', ca = '/etc/ca.pem' }\n\
        orchestrator_user = 'orc'\norchestrator_password = 'hunter4'\norchestrator_ca = '/etc/orc.pem'\n";

    #[test]
    fn credentials_are_read_without_showing_secrets() {
        let credentials = Credentials::parse(FULL, "orders.toml").unwrap();
        assert_eq!(credentials.password.expose_secret(), "hunter2");
        assert_eq!(credentials.replication_account().user, "repl");
        assert_eq!(credentials.tls_for(&"127.0.0.1".parse().unwrap()).mode, TlsMode::VerifyCa);
        let login = credentials.orchestrator.login.as_ref().unwrap();
        assert_eq!((login.user.as_str(), login.password.expose_secret()), ("orc", "hunter4"));
        assert_eq!(credentials.orchestrator.ca, Some("/etc/orc.pem".into()));
        let shown = format!("{credentials:?}");
        assert!(shown.contains("backstop") && !shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn logins_are_equal_only_if_nothing_changed() {
        let of = |text: &str| Credentials::parse(text, "f").unwrap();
        assert!(of(FULL).logs_in_like(&of(FULL)));
        for changed in ["hunter2", "hunter3", "repl'", "/etc/ca.pem"] {
            assert!(!of(FULL).logs_in_like(&of(&FULL.replace(changed, &format!("x{changed}")))), "{changed}");
        }
    }

    #[test]
    fn omitted_keys_have_safe_defaults() {
        let credentials = Credentials::parse("user = 'b'\npassword = ''", "f").unwrap();
        assert_eq!(credentials.replication_account().user, "b");
        assert!(credentials.orchestrator.login.is_none() && credentials.orchestrator.ca.is_none());
        assert_eq!(credentials.tls_for(&"db1:3306".parse().unwrap()).mode, TlsMode::Required);
        assert_eq!(credentials.tls_for(&"127.0.0.1:3306".parse().unwrap()).mode, TlsMode::Preferred);
    }

    #[test]
    fn misspelled_word_gets_a_suggestion() {
        let told = |mode: &str| {
            let text = format!("user = 'b'\npassword = ''\ntls = {{ mode = '{mode}' }}");
            Credentials::parse(&text, "f").unwrap_err().to_string()
        };
        let nearly = told("verify_ca");
        assert!(nearly.contains("`verify_ca` is not one of") && nearly.contains("`verify-ca`?"), "{nearly}");
        let secret = told("hunter2");
        assert!(secret.contains("the value is not one of off, ") && !secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn errors_never_show_the_files_values() {
        for text in [
            "hunter2",
            "hunter2 = 1",
            "password = hunter2",
            "password = 'hunter2",
            "password = 'hunter2' hunter2",
            "password = ['hunter2']",
            "tls = 'hunter2'",
            "tls = { mode = 'hunter2' }",
            "tls = { hunter2 = 1 }",
            "replication_password = 'hunter2'",
            "orchestrator_password = 'hunter2'",
            "[hunter2]\npassword = 'hunter2'",
            "user = 'hunter2'\nuser = 'hunter2'",
            "\"hunter2\" = \"hunter2\"\n\"hunter2\" = 2",
        ] {
            let errors = Credentials::parse(text, "orders.toml").unwrap_err().to_string();
            assert!(!errors.contains("hunter2") && errors.contains("line 1"), "{text}: {errors}");
            let errors = S3Credentials::parse(text, "s3.toml").unwrap_err().to_string();
            assert!(!errors.contains("hunter2"), "{text}: {errors}");
        }
    }

    #[test]
    fn store_credentials_are_read_without_showing_secrets() {
        let text = "access_key_id = 'AKIA'\nsecret_access_key = 'hunter2'";
        let credentials = S3Credentials::parse(text, "s3.toml").unwrap();
        assert_eq!(credentials.secret_access_key.expose_secret(), "hunter2");
        let shown = format!("{credentials:?}");
        assert!(shown.contains("AKIA") && !shown.contains("hunter"), "{shown}");
    }
}
