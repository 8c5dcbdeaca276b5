//! Sessions: TLS modes, denials, deadlines.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use backstop_adapters::mysql::connection::{Connector, Login};
use backstop_adapters::mysql::error::{SqlCause, code};
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::error::{Error, ErrorKind};
use backstop_types::ids::Endpoint;
use backstop_types::login::{TlsMode, TlsSettings};

use crate::support::certificates::Authority;

fn connector(shard: &TestShard, mode: TlsMode, ca: bool) -> Connector {
    with_ca(shard, mode, ca.then(|| shard.primary().datadir().join("ca.pem")))
}

fn with_ca(shard: &TestShard, mode: TlsMode, ca: Option<PathBuf>) -> Connector {
    let mut credentials = shard.credentials();
    credentials.tls = Some(TlsSettings { mode, ca });
    Connector::new(&credentials)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tls_mode_behaves_as_documented() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let endpoint = shard.primary().endpoint();
    // The server's own certificate comes from its own authority and names no host.
    let cases = [
        (TlsMode::Off, false, Some(false)),
        (TlsMode::Preferred, false, Some(true)),
        (TlsMode::Required, false, Some(true)),
        (TlsMode::VerifyCa, false, None),
        (TlsMode::VerifyCa, true, None),
        (TlsMode::VerifyIdentity, true, None),
    ];
    for (mode, ca, expected) in cases {
        // Without the cache the password must be sent: encrypted by TLS, or with the server's
        // public key.
        shard.primary().run(&["FLUSH PRIVILEGES"]).await;
        match (connector(&shard, mode, ca).connect(&endpoint).await, expected) {
            (Ok(mut session), Some(encrypted)) => {
                assert_eq!(session.is_encrypted().await.unwrap(), encrypted, "{mode:?}");
            }
            (Err(error), None) => assert!(error.is_lost(), "{mode:?}: {error}"),
            (Ok(_), None) => panic!("{mode:?} accepted a certificate that it cannot verify"),
            (Err(error), Some(_)) => panic!("{mode:?}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(&folder.path().join("ours"));
    let stranger = Authority::new(&folder.path().join("theirs"));
    let options = authority.server_options(&["localhost", "db1.lan"]);
    let shard = TestShard::start(ShardLayout { options, ..ShardLayout::single() }).await;
    let port = shard.primary().endpoint().port;
    let (named, unnamed) = (Endpoint::new("localhost", port), Endpoint::new("127.0.0.1", port));
    let cases = [
        (TlsMode::VerifyIdentity, &named, authority.ca(), true),
        (TlsMode::VerifyIdentity, &unnamed, authority.ca(), false),
        (TlsMode::VerifyCa, &named, authority.ca(), true),
        (TlsMode::VerifyCa, &unnamed, authority.ca(), true),
        (TlsMode::VerifyIdentity, &named, stranger.ca(), false),
        (TlsMode::VerifyCa, &named, stranger.ca(), false),
        (TlsMode::VerifyCa, &unnamed, stranger.ca(), false),
    ];
    for (mode, endpoint, ca, accepted) in cases {
        let about = format!("{mode:?} {endpoint} {}", ca.display());
        match with_ca(&shard, mode, Some(ca)).connect(endpoint).await {
            Ok(mut session) => assert!(accepted && session.is_encrypted().await.unwrap(), "{about}"),
            Err(error) => assert!(!accepted && error.to_string().contains("TLS: "), "{about}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_tls_is_used_only_if_allowed() {
    let shard = TestShard::start(ShardLayout::single().option("tls_version =")).await;
    let endpoint = shard.primary().endpoint();
    let mut session = connector(&shard, TlsMode::Preferred, false).connect(&endpoint).await.unwrap();
    assert!(!session.is_encrypted().await.unwrap());
    let refused = connector(&shard, TlsMode::Required, false).connect(&endpoint).await.unwrap_err();
    assert!(refused.to_string().contains("does not offer TLS"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_a_hint() {
    let shard = TestShard::start(ShardLayout { grants: vec!["base"], ..ShardLayout::single() }).await;
    let endpoint = shard.primary().endpoint();

    let login = Login { user: "backstop".into(), password: "wrong-s3cret".into() };
    let denied = Connector::with_login(login, None).connect(&endpoint).await.unwrap_err();
    assert_eq!(denied.code(), Some(code::ACCESS_DENIED));
    let denied = Error::from(denied);
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(!format!("{denied:?}").contains("wrong-s3cret"));

    let mut session = Connector::new(&shard.credentials()).connect(&endpoint).await.unwrap();
    let denied = Error::from(session.run("LOCK INSTANCE FOR BACKUP").await.unwrap_err());
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(denied.hint.as_deref().unwrap_or_default().contains("grant BACKUP_ADMIN"), "{denied:?}");
    assert_eq!(session.one::<u8>("SELECT 1").await.unwrap(), 1, "a refused statement leaves the session");

    let nobody = Endpoint::new("127.0.0.1", backstop_testkit::member::free_port());
    let unreachable = Connector::new(&shard.credentials()).connect(&nobody).await.unwrap_err();
    assert!(matches!(unreachable.cause, SqlCause::Unreachable(_)), "{unreachable:?}");
    assert!(unreachable.to_string().contains(&nobody.to_string()));
    assert_eq!(Error::from(unreachable).kind, ErrorKind::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_is_closed_after_a_late_answer() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let mut session = shard.primary().root().await;
    let begin = Instant::now();
    let late = session.query_within::<u8>("SELECT SLEEP(600)", Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(late.cause, SqlCause::Deadline(_)) && begin.elapsed() < Duration::from_secs(300));
    let lost = session.one::<u8>("SELECT 1").await.unwrap_err();
    assert!(matches!(lost.cause, SqlCause::Lost(_)), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_out_of_errors() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let mut session = shard.primary().root().await;
    let sql = "CREATE USER 'x'@'y' IDENTIFIED BY BY 's3cret'".to_owned().into();
    let error = session.run_secret("create an account", &sql).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
    assert_eq!(error.code(), Some(1064));
}
