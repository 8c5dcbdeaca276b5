//! Logins that a real server refuses, through both clients: the driver for statements, and the
//! replication protocol.

use backstop_adapters::mysql::connection::{Connector, Login};
use backstop_binlog::{ConnectOptions, Session};
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::error::{Error, ErrorKind};
use backstop_types::ids::Endpoint;
use backstop_types::login::{ReplicationAccount, TlsMode, TlsSettings};

const PASSWORD: &str = "s3cret-of-x";

/// Returns the answers of both clients to a login as `x`.
async fn both(endpoint: &Endpoint, password: &str, tls: &TlsSettings) -> [Error; 2] {
    let login = Login { user: "x".into(), password: password.into() };
    let first = Connector::with_login(login, Some(tls.clone())).connect(endpoint).await;
    let account = ReplicationAccount { user: "x".into(), password: password.into() };
    let deadline = std::time::Duration::from_secs(10);
    let connect = ConnectOptions { endpoint: endpoint.clone(), account, tls: tls.clone(), deadline };
    let second = Session::open(&connect).await;
    [first.map(drop).unwrap_err().into(), second.map(drop).unwrap_err()]
}

fn told(errors: &[Error; 2], endpoint: &Endpoint, kind: ErrorKind, what: &str, helps: &str) {
    for error in errors {
        let hint = error.hint.as_deref().unwrap_or_default();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.message.contains(what) && hint.contains(helps), "{what}, {helps}: {error:?}");
        assert!(error.message.contains(&format!("connect to {endpoint} as x")), "{error:?}");
        assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_login_is_reported_with_its_cause() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let (primary, endpoint) = (shard.primary(), shard.primary().endpoint());
    let (off, required) =
        (TlsSettings { mode: TlsMode::Off, ca: None }, TlsSettings { mode: TlsMode::Required, ca: None });
    let alter = |how: &str| format!("ALTER USER x@'%' {how}");
    let fresh = format!("CREATE USER x@'%' IDENTIFIED BY '{PASSWORD}'");
    let cases: &[(&str, &str, &TlsSettings, &str, &str)] = &[
        (
            "PASSWORD EXPIRE",
            PASSWORD,
            &required,
            "password has expired",
            "ALTER USER 'x'@'HOST' IDENTIFIED BY",
        ),
        (
            "ACCOUNT LOCK",
            PASSWORD,
            &required,
            "the account is locked",
            "ALTER USER 'x'@'HOST' ACCOUNT UNLOCK",
        ),
        ("REQUIRE X509", PASSWORD, &required, "not in this way", "X509"),
        ("REQUIRE SSL", PASSWORD, &off, "not in this way", "tls.mode `required`"),
        ("PASSWORD EXPIRE NEVER", "wrong", &required, "user or password is wrong", "check user and password"),
        (
            "FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME 1",
            "wrong",
            &required,
            "temporarily locked",
            "ACCOUNT UNLOCK",
        ),
    ];
    for (how, password, tls, what, helps) in cases {
        primary.run(&[&fresh, &alter(how)]).await;
        let errors = both(&endpoint, password, tls).await;
        told(&errors, &endpoint, ErrorKind::Denied, what, helps);
        primary.run(&["DROP USER x@'%'"]).await;
    }

    primary.run(&[&fresh, "SET GLOBAL require_secure_transport = ON"]).await;
    let errors = both(&endpoint, PASSWORD, &off).await;
    told(&errors, &endpoint, ErrorKind::Denied, "encrypted connections only", "mode = \"required\"");
    primary
        .run(&["SET GLOBAL require_secure_transport = OFF", &alter("WITH MAX_CONNECTIONS_PER_HOUR 1")])
        .await;
    let login = Login { user: "x".into(), password: PASSWORD.into() };
    Connector::with_login(login, None).connect(&endpoint).await.unwrap().close().await;
    let errors = both(&endpoint, PASSWORD, &required).await;
    told(&errors, &endpoint, ErrorKind::Failed, "one of its resource limits", "MAX_CONNECTIONS_PER_HOUR 0");
    primary.run(&[&alter("WITH MAX_CONNECTIONS_PER_HOUR 0"), "SET GLOBAL init_connect = 'garbage'"]).await;
    let errors = both(&endpoint, PASSWORD, &required).await;
    told(&errors, &endpoint, ErrorKind::Failed, "accepted the login", "init_connect");
    primary.run(&["SET GLOBAL init_connect = ''", "DROP USER x@'%'"]).await;

    let missing = shard.base().join("missing.pem");
    let empty = shard.base().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for file in [&missing, &empty] {
        let tls = TlsSettings { mode: TlsMode::VerifyCa, ca: Some(file.clone()) };
        let errors = both(&endpoint, PASSWORD, &tls).await;
        told(&errors, &endpoint, ErrorKind::Usage, &file.display().to_string(), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_without_free_connection_or_plugin_is_explained() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let (primary, endpoint) = (shard.primary(), shard.primary().endpoint());
    let required = TlsSettings { mode: TlsMode::Required, ca: None };
    let create = format!("CREATE USER x@'%' IDENTIFIED BY '{PASSWORD}'");
    primary.run(&[&create, "SET GLOBAL max_user_connections = 1"]).await;
    let login = Login { user: "x".into(), password: PASSWORD.into() };
    let held = Connector::with_login(login, None).connect(&endpoint).await.unwrap();
    let errors = both(&endpoint, PASSWORD, &required).await;
    told(&errors, &endpoint, ErrorKind::Failed, "(error 1203)", "raise max_user_connections");
    // One session for all of it: the server still counts refused logins for a moment, and would
    // refuse another session of root.
    let mut root = primary.root().await;
    root.run("SET GLOBAL max_user_connections = 0").await.unwrap();
    root.run("SET GLOBAL max_connections = 1").await.unwrap();
    let errors = both(&endpoint, PASSWORD, &required).await;
    told(
        &errors,
        &endpoint,
        ErrorKind::Failed,
        "no free connection; the server reports",
        "raise max_connections",
    );
    root.run("SET GLOBAL max_connections = 100").await.unwrap();
    root.close().await;
    held.close().await;

    let unknown = "UPDATE mysql.user SET plugin = 'not_loaded' WHERE user = 'x'";
    primary.run(&[unknown, "FLUSH PRIVILEGES"]).await;
    let errors = both(&endpoint, PASSWORD, &required).await;
    told(
        &errors,
        &endpoint,
        ErrorKind::Denied,
        "authentication plugin is not loaded",
        "caching_sha2_password",
    );
}

/// A login is answered with the hash of its password alone.
#[tokio::test(flavor = "multi_thread")]
async fn account_created_by_hash_accepts_its_password() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let (primary, endpoint) = (shard.primary(), shard.primary().endpoint());
    for password in ["x", PASSWORD, "of more than thirty-two bytes and so of several blocks, ünïcode"] {
        let stored = backstop_binlog::password_hash(&password.into(), *b"0123456789abcdefghij");
        let stored = secrecy::ExposeSecret::expose_secret(&stored);
        let create = format!("CREATE USER x@'%' IDENTIFIED WITH caching_sha2_password AS '{stored}'");
        primary.run(&[&create]).await;
        let login = Login { user: "x".into(), password: password.into() };
        Connector::with_login(login, None).connect(&endpoint).await.unwrap().close().await;
        let login = Login { user: "x".into(), password: format!("{password}.").into() };
        Connector::with_login(login, None).connect(&endpoint).await.map(drop).unwrap_err();
        primary.run(&["DROP USER x@'%'"]).await;
    }
}
