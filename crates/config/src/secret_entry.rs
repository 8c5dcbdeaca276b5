//! Shard entry in AWS Secrets Manager: JSON with the login, the orchestrator addresses and the
//! region.

use std::path::PathBuf;

use backstop_types::freeze::FreezeRules;
use backstop_types::ids::ShardName;
use backstop_types::login::ReplicationAccount;
use backstop_types::topology::SourceRules;
use secrecy::SecretString;

use crate::credentials::{BasicAuth, Credentials, OrchestratorAccess, login, secret, tls};
use crate::settings::{
    ConfigErrors, Document, ErrorCollector, ProviderSetting, RepositoryUrl, SecretRef, ShardSettings,
    SnapshotSettings, TableReader, TopologySettings, WITHOUT_QUORUM, WithoutQuorum, freeze, not_empty,
    snapshot_tags, volume, web_address,
};

/// Keys that only the entry of a whole shard needs. An entry with only a login may have them too.
const SHARD_ONLY_KEYS: &str = "orchestrator_urls";

/// Keys that AWS's rotation functions and the console of Secrets Manager need in an entry of a
/// MySQL account, with any value. Backstop does not read them: orchestrator names the servers.
///
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html>;
/// `ssl` is a key of the functions' templates:
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_available-rotation-templates.html>.
const ROTATION_KEYS: [&str; 8] =
    ["engine", "host", "port", "dbname", "dbInstanceIdentifier", "dbClusterIdentifier", "masterarn", "ssl"];

/// Everything needed to back up one shard. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct SecretEntry {
    /// The shard: the value of `shard`, or else the cluster's name.
    pub shard: ShardName,
    /// The login.
    pub credentials: Credentials,
    /// Its settings: orchestrator reports the members, and EBS stores the snapshots.
    pub settings: ShardSettings,
    /// The region of its instances.
    pub region: String,
    /// The repository of its backups.
    pub repository: RepositoryUrl,
    /// The key of an encrypted repository, with the contents of a key file.
    pub encryption_key: Option<SecretString>,
}

/// Parsed fields of an entry, before its purpose is known.
struct EntryParts {
    credentials: Option<Credentials>,
    urls: Option<Vec<String>>,
    cluster: Option<String>,
    without_quorum: WithoutQuorum,
    region: Option<String>,
    shard: Option<ShardName>,
    repository: Option<RepositoryUrl>,
    encryption_key: Option<SecretString>,
    snapshot: SnapshotSettings,
    freeze: FreezeRules,
    source: SourceRules,
}

impl SecretEntry {
    /// Parses the entry with the name `id`. `repository` is the repository of an entry that names
    /// none.
    ///
    /// Required: `username`, `password`, `orchestrator_urls`, `orchestrator_cluster_name`,
    /// `region`, and `repository` unless it is given. Optional: `shard`, `encryption_key`,
    /// `orchestrator_username` with `orchestrator_password`, `orchestrator_ca`,
    /// `replication_username` with `replication_password`, `tls`, `freeze`, `volume`,
    /// `snapshot_tags`, `source`, `without_quorum`. The keys that AWS rotates passwords with are
    /// accepted and ignored.
    ///
    /// # Errors
    /// Returns all errors in the entry at once. They name keys, but never a value.
    pub fn parse(text: &str, id: &str, repository: Option<&str>) -> Result<Self, ConfigErrors> {
        read(text, id, |root| {
            let mut parts = parts(&root);
            if !root.has("repository") {
                parts.repository = repository.and_then(|url| {
                    let url = RepositoryUrl::parse(url);
                    url.map_err(|why| root.refuse("", format!("BACKSTOP_REPOSITORY: {why}"))).ok()
                });
            }
            refuse_login_only(&root, &parts, repository.is_some());
            root.finish();
            parts.shard_entry(id)
        })
    }
}

/// Parses the login in an entry, for a configuration that has all other settings. The other keys of
/// a whole shard's entry ([`SecretEntry`]) are validated and ignored.
///
/// # Errors
/// Returns the same errors as [`SecretEntry::parse`].
pub fn credentials(text: &str, id: &str) -> Result<Credentials, ConfigErrors> {
    read(text, id, |root| {
        let parts = parts(&root);
        root.finish();
        parts.credentials
    })
}

fn read<T>(
    text: &str,
    id: &str,
    understand: impl FnOnce(TableReader<'_>) -> Option<T>,
) -> Result<T, ConfigErrors> {
    let document = Document::read_json(text, &format!("secret {id}"));
    let found = ErrorCollector::naming_keys(document.root());
    let root = TableReader::root(document.root(), &found);
    let value = understand(root);
    document.conclude(found.into_faults(), value)
}

fn parts(root: &TableReader<'_>) -> EntryParts {
    let url = |url: &str| RepositoryUrl::parse(url);
    let (hint, frozen) = (root.table("volume").and_then(volume), root.table("freeze").map(freeze));
    let region = root.read("region", region);
    root.ignore(&ROTATION_KEYS);
    let snapshot = SnapshotSettings {
        provider: ProviderSetting::Ebs,
        region: region.clone(),
        volume: hint,
        tags: snapshot_tags(root, "snapshot_tags"),
        ..SnapshotSettings::default()
    };
    EntryParts {
        credentials: account(root),
        urls: root.list(SHARD_ONLY_KEYS, web_address),
        cluster: root.read("orchestrator_cluster_name", not_empty),
        without_quorum: root.choice("without_quorum", &WITHOUT_QUORUM).unwrap_or_default(),
        shard: root.read("shard", |name| name.parse::<ShardName>().map_err(|error| error.rule.to_owned())),
        repository: root.read("repository", url),
        encryption_key: secret(root, "encryption_key"),
        region,
        snapshot,
        freeze: frozen.unwrap_or_default(),
        source: source(root),
    }
}

/// Reads the rule for the source. Unlike in the configuration, replicas other than the candidate
/// are used by request only: the first snapshot of another volume is a full one.
fn source(root: &TableReader<'_>) -> SourceRules {
    let rules = [("candidate-or-primary", false), ("any-replica", true)];
    let any_replica = root.choice("source", &rules).unwrap_or(false);
    SourceRules { any_replica, ..SourceRules::default() }
}

fn account(root: &TableReader<'_>) -> Option<Credentials> {
    let user = root.required("username", root.read("username", not_empty), "\"username\": \"…\"");
    let password = root.required("password", secret(root, "password"), "\"password\": \"…\"");
    let replication = login(root, "replication_username", "replication_password");
    let web = login(root, "orchestrator_username", "orchestrator_password");
    let ca = root.read("orchestrator_ca", not_empty).map(PathBuf::from);
    let tls = root.table("tls").map(tls);
    Some(Credentials {
        user: user?,
        password: password?,
        replication: replication.map(|(user, password)| ReplicationAccount { user, password }),
        tls: tls.flatten(),
        orchestrator: OrchestratorAccess {
            login: web.map(|(user, password)| BasicAuth { user, password }),
            ca,
        },
    })
}

/// Refuses keys that an entry with only a login does not need.
fn refuse_login_only(root: &TableReader<'_>, parts: &EntryParts, repository_given: bool) {
    root.required(
        SHARD_ONLY_KEYS,
        parts.urls.as_ref(),
        "\"orchestrator_urls\": [\"http://orchestrator:3000\"]",
    );
    if parts.urls.as_ref().is_some_and(Vec::is_empty) {
        root.refuse(SHARD_ONLY_KEYS, "name at least one address");
    }
    let cluster = parts.cluster.as_ref();
    root.required("orchestrator_cluster_name", cluster, "\"orchestrator_cluster_name\": \"NAME\"");
    root.required("region", parts.region.as_ref(), "\"region\": \"eu-west-1\"");
    if !repository_given {
        let example = "\"repository\": \"s3://bucket/prefix\", or set BACKSTOP_REPOSITORY";
        root.required("repository", parts.repository.as_ref(), example);
    }
    if cluster.is_some_and(|name| parts.shard.is_none() && name.parse::<ShardName>().is_err()) {
        root.refuse(
            "orchestrator_cluster_name",
            "cannot be a shard's name: name the shard with \"shard\": \"…\"",
        );
    }
}

impl EntryParts {
    fn shard_entry(self, id: &str) -> Option<SecretEntry> {
        let cluster = self.cluster?;
        let topology = TopologySettings::Orchestrator {
            urls: self.urls?,
            cluster: cluster.clone(),
            discover: false,
            without_quorum: self.without_quorum,
        };
        Some(SecretEntry {
            shard: self.shard.or_else(|| cluster.parse().ok())?,
            credentials: self.credentials?,
            settings: ShardSettings {
                credentials: SecretRef::SecretsManager(id.to_owned()),
                topology,
                source: self.source,
                snapshot: self.snapshot,
                freeze: self.freeze,
                schedule: None,
                retention: None,
                archive: None,
                recovery: None,
                tls: None,
            },
            region: self.region?,
            repository: self.repository?,
            encryption_key: self.encryption_key,
        })
    }
}

fn region(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if plain && text.contains('-') && text.len() <= 32 {
        return Ok(text.to_owned());
    }
    Err("is not a region: write it as in eu-west-1".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::time::Duration;

    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::VolumeHint;

    fn least() -> Value {
        json!({
            "username": "backstop", "password": "hunter2", "orchestrator_urls": ["http://orc1:3000", "https://orc2/x/"],
            "orchestrator_cluster_name": "orders", "region": "eu-west-1", "repository": "s3://bucket/mysql",
        })
    }

    fn with(key: &str, value: Value) -> String {
        let mut entry = least();
        entry[key] = value;
        entry.to_string()
    }

    fn faults(text: &str) -> String {
        SecretEntry::parse(text, "prod/orders", None).unwrap_err().to_string()
    }

    #[test]
    fn minimal_entry_describes_a_shard() {
        let entry = SecretEntry::parse(&least().to_string(), "prod/orders", None).unwrap();
        assert_eq!((entry.shard.as_str(), entry.region.as_str()), ("orders", "eu-west-1"));
        assert_eq!(entry.repository.to_string(), "s3://bucket/mysql");
        assert_eq!(entry.credentials.password.expose_secret(), "hunter2");
        assert_eq!(entry.settings.snapshot.provider, ProviderSetting::Ebs);
        let TopologySettings::Orchestrator { urls, cluster, .. } = &entry.settings.topology else { panic!() };
        assert_eq!(
            (urls.as_slice(), cluster.as_str()),
            (&["http://orc1:3000".to_owned(), "https://orc2/x".to_owned()][..], "orders")
        );
        assert!(!format!("{entry:?}").contains("hunter2"));
    }

    #[test]
    fn optional_keys_are_read() {
        let mut all = least();
        for (key, value) in [
            ("orchestrator_username", json!("orc")),
            ("orchestrator_password", json!("hunter3")),
            ("replication_username", json!("repl")),
            ("replication_password", json!("hunter4")),
            ("tls", json!({"mode": "verify-identity", "ca": "/var/task/ca.pem"})),
            ("freeze", json!({"hold": "10s", "kill_blockers": true})),
            ("volume", json!({"tag": "Role=mysql"})),
            ("orchestrator_cluster_name", json!("Orders EU")),
            ("shard", json!("orders-eu")),
            ("encryption_key", json!("hunter5")),
        ] {
            all[key] = value;
        }
        let entry = SecretEntry::parse(&all.to_string(), "prod/orders", None).unwrap();
        assert!(!format!("{entry:?}").contains("hunter"));
        assert!(entry.encryption_key.is_some_and(|key| key.expose_secret() == "hunter5"));
        assert_eq!(entry.shard.as_str(), "orders-eu");
        assert_eq!(entry.credentials.replication_account().user, "repl");
        assert_eq!(entry.credentials.orchestrator.login.unwrap().user, "orc");
        assert_eq!(entry.settings.freeze.hold, Duration::from_secs(10));
        assert_eq!(entry.settings.snapshot.volume, Some(VolumeHint::tag("Role=mysql").unwrap()));
        let device = with("volume", json!({"device": "/dev/sdf"}));
        assert!(SecretEntry::parse(&device, "prod/orders", None).is_ok());
    }

    #[test]
    fn repository_may_come_from_the_environment() {
        let mut entry = least();
        entry.as_object_mut().unwrap().remove("repository");
        let text = entry.to_string();
        let read = SecretEntry::parse(&text, "x", Some("s3://other/p")).unwrap();
        assert_eq!(read.repository.to_string(), "s3://other/p");
        assert!(faults(&text).contains("BACKSTOP_REPOSITORY"));
        let wrong = SecretEntry::parse(&text, "x", Some("other")).unwrap_err().to_string();
        assert!(wrong.contains("BACKSTOP_REPOSITORY"), "{wrong}");
        let own = SecretEntry::parse(&least().to_string(), "x", Some("s3://other/p")).unwrap();
        assert_eq!(own.repository.to_string(), "s3://bucket/mysql", "the entry wins");
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let told = faults("{}");
        for key in
            ["username", "password", "orchestrator_urls", "orchestrator_cluster_name", "region", "repository"]
        {
            assert!(told.contains(&format!("{key}: is missing")), "{key}: {told}");
        }
        assert!(told.contains("secret prod/orders: 6 errors"), "{told}");
    }

    /// An entry as AWS's rotation functions need it
    /// (docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html).
    #[test]
    fn keys_of_rotation_are_ignored() {
        let plain = SecretEntry::parse(&least().to_string(), "x", None).unwrap();
        for port in [json!(3306), json!("3306")] {
            let mut entry = least();
            for (key, value) in [
                ("engine", json!("mysql")),
                ("host", json!("elsewhere.example")),
                ("port", port),
                ("dbname", json!("shop")),
                ("dbInstanceIdentifier", json!("db-1")),
                ("dbClusterIdentifier", json!("cluster-1")),
                ("masterarn", json!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:root-AbCdEf")),
                ("ssl", json!(true)),
            ] {
                entry[key] = value;
            }
            let rotated = SecretEntry::parse(&entry.to_string(), "x", None).unwrap();
            assert_eq!(format!("{rotated:?}"), format!("{plain:?}"), "none of them changes anything");
            assert_eq!(credentials(&entry.to_string(), "x").unwrap().user, "backstop");
        }
    }

    #[test]
    fn other_replicas_are_used_by_request_only() {
        let rule = |text: &str| SecretEntry::parse(text, "x", None).unwrap().settings.source;
        assert!(!rule(&least().to_string()).any_replica);
        assert!(!rule(&with("source", json!("candidate-or-primary"))).any_replica);
        assert!(rule(&with("source", json!("any-replica"))).any_replica);
        let told = faults(&with("source", json!("any_replica")));
        assert!(told.contains("did you mean `any-replica`?"), "{told}");
        assert!(!faults(&with("source", json!("somewhere"))).contains("somewhere"));
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let mut entry = least();
        for key in ["pasword", "dbName", "team"] {
            entry[key] = json!("hunter2");
        }
        entry["freeze"] = json!({"hodl": "10s"});
        let told = faults(&entry.to_string());
        assert!(told.contains("pasword: unknown key; did you mean `password`?"), "{told}");
        assert!(told.contains("dbName: unknown key; did you mean `dbname`?"), "{told}");
        assert!(told.contains("team: unknown key; known keys: "), "{told}");
        assert!(told.contains("freeze.hodl: unknown key; did you mean `hold`?"), "{told}");
        let text = "a line\nof a log";
        for key in [text, "s3cret+/", "hunter2", "0123456789012345678901234567890123456789x"] {
            let told = faults(&with(key, json!("value")));
            assert!(!told.contains(key) && told.contains("unknown key"), "{told}");
        }
    }

    #[test]
    fn alternating_users_are_read_with_their_entry() {
        let of = |user: &str| credentials(&with("username", json!(user)), "x").unwrap();
        assert_eq!(of("backstop_clone").user, "backstop_clone");
        assert!(!of("backstop_clone").logs_in_like(&of("backstop")), "another account, another login");
    }

    #[test]
    fn errors_never_show_the_entrys_values() {
        let wrong = [
            ("username", json!(5)),
            ("password", json!({"hunter2": 1})),
            ("password", Value::Null),
            ("orchestrator_urls", json!(["hunter2"])),
            ("orchestrator_urls", json!([])),
            ("orchestrator_urls", json!("http://orc:3000")),
            ("orchestrator_urls", json!(["http://u:hunter2@orc:3000"])),
            ("orchestrator_cluster_name", json!("Hunter2 x")),
            ("region", json!("hunter2")),
            ("repository", json!("hunter2")),
            ("encryption_key", json!({"hunter2": 1})),
            ("tls", json!({"mode": "hunter2"})),
            ("tls", json!("hunter2")),
            ("freeze", json!({"hold": "hunter2"})),
            ("freeze", json!({"hold": "5h"})),
            ("freeze", json!({"hunter2": true})),
            ("tls", json!({"mode": "hunter2", "hunter2": 1})),
            ("volume", json!({"tag": "hunter2"})),
            ("volume", json!({"device": "hunter2"})),
            ("volume", json!({})),
            ("orchestrator_password", json!("hunter2")),
            ("replication_password", json!("hunter2")),
            ("hunter2", json!("hunter2")),
        ];
        for (key, value) in wrong {
            let text = with(key, value);
            let told = faults(&text);
            assert!(!told.to_lowercase().contains("hunter2"), "{text}: {told}");
        }
        for text in
            ["hunter2", "\"hunter2\"", "[\"hunter2\"]", "{\"hunter2\"", "{\"password\": hunter2}", "5", ""]
        {
            let told = faults(text);
            assert!(!told.contains("hunter2") && told.contains("JSON"), "{text}: {told}");
        }
        let twice = least().to_string().replacen('{', "{\"password\": \"hunter2\", ", 1);
        assert!(faults(&twice).contains("written twice"));
    }

    #[test]
    fn login_alone_suffices_as_credentials() {
        let login = json!({"username": "b", "password": "hunter2"}).to_string();
        assert_eq!(credentials(&login, "x").unwrap().user, "b");
        assert_eq!(credentials(&least().to_string(), "x").unwrap().user, "backstop");
        let told = credentials("{\"username\": \"b\"}", "x").unwrap_err().to_string();
        assert!(told.contains("password: is missing"), "{told}");
    }
}
