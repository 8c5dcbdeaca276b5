//! Sample configurations: good ones are accepted, bad ones give exactly the message in the file
//! beside them.
//!
//! A new case is a new file. `BLESS=1` rewrites the messages for review.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_config::settings::{
    ArchiveAck, Document, ProviderSetting, RepositoryUrl, SecretRef, Settings, TopologySettings, parse,
};
use backstop_types::create_repository::CreateRepository;

fn samples(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(kind);
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    assert!(files.len() >= 3, "samples of {kind} configurations");
    files
}

fn read(path: &Path) -> Result<Settings, String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    parse(&std::fs::read_to_string(path).unwrap(), name).map_err(|errors| errors.to_string())
}

fn good(name: &str) -> Document {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/good").join(name);
    Document::read(&std::fs::read_to_string(path).unwrap(), name)
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn good_configurations_are_accepted() {
    for path in samples("good") {
        read(&path).unwrap_or_else(|errors| panic!("{}", errors));
    }
}

#[test]
fn bad_configurations_get_the_expected_message() {
    for path in samples("bad") {
        let errors = read(&path).expect_err("a bad configuration");
        assert!(!errors.contains("hunter2"), "{errors}");
        let beside = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&beside, format!("{errors}\n")).unwrap();
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(errors.trim_end(), expected.trim_end(), "{}", path.display());
    }
}

#[test]
fn every_key_is_read() {
    let settings = good("full.toml").settings().unwrap();
    let RepositoryUrl::S3(s3) = &settings.repository.url else { panic!("{:?}", settings.repository) };
    assert_eq!((s3.bucket.as_str(), s3.prefix.as_str()), ("backups", "mysql/production"));
    assert_eq!(s3.endpoint.as_deref(), Some("https://minio.example:9000"));
    assert_eq!(s3.credentials, Some(SecretRef::Env("BACKUP_STORE".into())));
    assert!(s3.allow_http && s3.ca == Some("/etc/backstop/store-ca.pem".into()));
    assert_eq!(
        (s3.kms_key.as_deref(), s3.storage_class.as_deref()),
        (Some("alias/backups"), Some("STANDARD_IA"))
    );
    assert_eq!(settings.repository.create, CreateRepository::IfEmpty);
    assert_eq!(settings.repository.id.unwrap().to_string(), "6f1c9a52-8a3e-4b0f-9c4e-2f0d6b7a1e55");
    let orders = &settings.shards[&"orders".parse().unwrap()];
    assert_eq!(orders.freeze.hold, Duration::from_millis(1500));
    assert!(orders.freeze.kill_blockers && !orders.source.any_replica);
    assert_eq!(orders.retention.as_ref().unwrap().weekly, 8);
    assert_eq!(orders.archive.as_ref().unwrap().ack, ArchiveAck::Spool);
    let TopologySettings::Members { members, candidate } = &orders.topology else { panic!() };
    assert_eq!(members[2].to_string(), "[2001:db8::3]:3307");
    assert_eq!(candidate.as_ref(), Some(&members[1]));
    let europe = &settings.shards[&"orders-eu".parse().unwrap()];
    assert_eq!(europe.snapshot.provider, ProviderSetting::Ebs);
    assert!(
        matches!(&europe.topology, TopologySettings::Orchestrator { urls, discover: true, .. } if urls.len() == 2)
    );
    assert!(europe.topology.allows_last_known() && !orders.topology.allows_last_known());
}

#[test]
fn variables_and_flags_override_the_file() {
    let mut document = good("full.toml");
    document.set_from_environment(variables(&[
        ("BACKSTOP_REPOSITORY", "s3://other"),
        ("BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD", "5s"),
        ("BACKSTOP_SHARDS_ORDERS_FREEZE_KILL_BLOCKERS", "false"),
        ("BACKSTOP_SHARDS_ORDERS_RETENTION_DAILY", "3"),
        ("BACKSTOP_SHARDS_ORDERS_CREDENTIALS_ENV", "SECRET"),
        ("BACKSTOP_SHARDS_ORDERS_EU_TOPOLOGY_MEMBERS", "db1:3306, db2:3307"),
        ("BACKSTOP_SHARDS_NEW_ONE_CREDENTIALS_FILE", "/etc/n.toml"),
        ("BACKSTOP_SHARDS_NEW_ONE_TOPOLOGY_MEMBERS", "[\"db7\"]"),
        ("BACKSTOP_MYSQL_SERVER", ""),
        ("BACKSTOP_SERVICE_HOST", "10.0.0.1"),
        ("HOME", "/root"),
    ]));
    document.set(&["shards", "orders", "freeze", "wait"], "1s", "--freeze-wait");
    let settings = document.settings().unwrap();
    assert_eq!(settings.repository.url.to_string(), "s3://other");
    assert_eq!(settings.mysql.server, "/usr/sbin/mysqld");
    let orders = &settings.shards[&"orders".parse().unwrap()];
    assert_eq!((orders.freeze.hold, orders.freeze.wait), (Duration::from_secs(5), Duration::from_secs(1)));
    assert!(!orders.freeze.kill_blockers);
    assert_eq!(orders.retention.as_ref().unwrap().daily, 3);
    assert_eq!(orders.credentials, SecretRef::Env("SECRET".into()));
    let europe = &settings.shards[&"orders-eu".parse().unwrap()];
    assert!(matches!(&europe.topology, TopologySettings::Members { members, .. } if members.len() == 2));
    assert!(settings.shards.contains_key(&"new_one".parse().unwrap()));
}

#[test]
fn errors_name_the_variable_or_flag() {
    let mut document = good("full.toml");
    document.set(&["repository", "url"], "nowhere", "--repository");
    document.set_from_environment(variables(&[
        ("BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD", "soon"),
        ("BACKSTOP_SHARDS_ORDERS_FREEZE_HODL", "5s"),
        ("BACKSTOP_SHARDS_ORDERS_FREEZE_KILL_BLOCKERS", "maybe"),
        ("BACKSTOP_SHARDS_ORDERS_RETENTION_DAILY", "many"),
        ("BACKSTOP_SHARDS_ORDERS_CREDENTIALS_ENV", "A"),
        ("BACKSTOP_SHARDS_ORDERS_CREDENTIALS_FILE", "/b"),
        ("BACKSTOP_MYSQL_SERVR", "x"),
    ]));
    let errors = document.settings().unwrap_err().to_string();
    for part in [
        "--repository, repository.url: `nowhere` is not a repository",
        "BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD, shards.orders.freeze.hold: `soon` is not a duration",
        "BACKSTOP_SHARDS_ORDERS_FREEZE_HODL: no key has this variable; did you mean `BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD`?",
        "BACKSTOP_SHARDS_ORDERS_FREEZE_KILL_BLOCKERS, shards.orders.freeze.kill_blockers: expected true or false",
        "BACKSTOP_SHARDS_ORDERS_RETENTION_DAILY, shards.orders.retention.daily: expected a whole number",
        "shards.orders.credentials: write exactly one of",
        "BACKSTOP_MYSQL_SERVR: no key has this variable; did you mean `BACKSTOP_MYSQL_SERVER`?",
    ] {
        assert!(errors.contains(part), "{part}\nin {errors}");
    }
    assert_eq!(errors.lines().count(), 8, "{errors}");
}

#[test]
fn configuration_is_complete_without_a_file() {
    let mut document = Document::empty();
    document.set_from_environment(variables(&[
        ("BACKSTOP_REPOSITORY_URL", "file:///b"),
        ("BACKSTOP_SHARDS_A_CREDENTIALS_ENV", "A"),
        ("BACKSTOP_SHARDS_A_TOPOLOGY_MEMBERS", "db1"),
        ("BACKSTOP_SHARDS_A_SNAPSHOT_WORK_DIR", "/w"),
    ]));
    let settings = document.settings().unwrap();
    assert_eq!(settings.shards.len(), 1);
    assert_eq!(settings.shards[&"a".parse().unwrap()].snapshot.work_dir, Path::new("/w"));
}
