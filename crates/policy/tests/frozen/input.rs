//! Input from other programs: entries of Secrets Manager, credentials.

use std::path::Path;
use std::time::Duration;

use backstop_config::credentials::{Credentials, S3Credentials};
use backstop_config::secret_entry;
use backstop_config::secret_entry::SecretEntry;
use backstop_config::settings::TopologySettings;
use backstop_types::freeze::{FreezeRules, FreezeSetting, OnPrimary};
use backstop_types::login::TlsMode;
use secrecy::{ExposeSecret, SecretString};

use crate::every;
use crate::frozen::kept;

fn text(name: &str) -> String {
    kept(name, || panic!("{name} is missing"))
}

fn assert_login(login: &Credentials, mode: TlsMode) {
    let secret = |secret: &SecretString| secret.expose_secret().to_owned();
    assert_eq!((login.user.as_str(), secret(&login.password)), ("backstop", "p1".into()));
    let replication = login.replication.as_ref().unwrap();
    assert_eq!((replication.user.as_str(), secret(&replication.password)), ("repl", "p2".into()));
    let web = login.orchestrator.login.as_ref().unwrap();
    assert_eq!((web.user.as_str(), secret(&web.password)), ("web", "p3".into()));
    assert_eq!(login.orchestrator.ca.as_deref(), Some(Path::new("/etc/orc.pem")));
    let tls = login.tls.as_ref().unwrap();
    assert_eq!((tls.mode, tls.ca.as_deref()), (mode, Some(Path::new("/etc/ca.pem"))));
}

#[test]
fn an_entry_of_secrets_manager() {
    let text = text("secret-entry.json");
    let entry = SecretEntry::parse(&text, "prod/orders", None).unwrap();
    assert_login(&entry.credentials, TlsMode::VerifyIdentity);
    assert_login(&secret_entry::credentials(&text, "prod/orders").unwrap(), TlsMode::VerifyIdentity);
    assert_eq!((entry.shard.as_str(), entry.region.as_str()), ("orders", "eu-west-1"));
    assert_eq!(entry.repository.to_string(), "s3://bucket/mysql");
    assert_eq!(entry.encryption_key.unwrap().expose_secret(), "0123");
    let TopologySettings::Orchestrator { urls, cluster, .. } = &entry.settings.topology else {
        panic!("no orchestrator")
    };
    assert_eq!((urls.join(" ").as_str(), cluster.as_str()), ("http://orc1:3000", "orders-cluster"));
    let freeze = FreezeRules {
        mode: FreezeSetting::Lock,
        wait: Duration::from_secs(7),
        hold: Duration::from_secs(3),
        kill_blockers: true,
        on_primary: OnPrimary::Refuse,
    };
    assert_eq!(entry.settings.freeze, freeze);
    assert!(entry.settings.snapshot.volume.is_some());
}

#[test]
fn an_entry_that_aws_rotates() {
    let text = text("secret-entry.rotated.json");
    let entry = SecretEntry::parse(&text, "prod/orders", None).unwrap();
    assert!(entry.settings.source.any_replica);
    assert_eq!((entry.shard.as_str(), entry.credentials.user.as_str()), ("orders", "backstop"));
    let rule = |word: &str| {
        let text = text.replace("any-replica", word);
        SecretEntry::parse(&text, "prod/orders", None).unwrap().settings.source.any_replica
    };
    assert!(!rule("candidate-or-primary") && rule("any-replica"));
}

#[test]
fn credentials() {
    let text = text("credentials.toml");
    assert_login(&Credentials::parse(&text, "file").unwrap(), TlsMode::VerifyCa);
    let modes = every!(
        TlsMode: TlsMode::Off, TlsMode::Preferred, TlsMode::Required, TlsMode::VerifyCa, TlsMode::VerifyIdentity
    );
    let words = ["off", "preferred", "required", "verify-ca", "verify-identity"];
    for (word, mode) in words.into_iter().zip(modes) {
        assert_login(&Credentials::parse(&text.replace("verify-ca", word), "file").unwrap(), mode);
    }
}

#[test]
fn store_credentials() {
    let read = S3Credentials::parse(&text("store-credentials.toml"), "file").unwrap();
    assert_eq!((read.access_key_id.as_str(), read.secret_access_key.expose_secret()), ("id", "key"));
    assert_eq!(read.session_token.unwrap().expose_secret(), "token");
}
