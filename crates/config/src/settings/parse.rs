//! Converts a document to [`Settings`].

use std::path::PathBuf;
use std::time::Duration;

use backstop_types::create_repository::CreateRepository;
use backstop_types::freeze::{FreezeRules, FreezeSetting, OnPrimary};
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::topology::SourceRules;
use uuid::Uuid;

use super::config_errors::ConfigErrors;
use super::document::Document;
use super::table::{ErrorCollector, TableReader, absolute};
use super::{
    ArchiveAck, ArchiveFrom, ArchiveSettings, MysqlSettings, ProviderSetting, RepositorySettings,
    RepositoryUrl, SecretRef, ServerTls, Settings, ShardSettings, SnapshotSettings, TopologySettings,
    VolumeHint, WithoutQuorum, recovery, snapshot_tags, tls,
};
use crate::retention::Retention;
use crate::schedule::Schedule;

/// Longest accepted `freeze.hold`; a longer one is considered a mistake.
const MAX_FREEZE_HOLD: Duration = Duration::from_secs(60);
/// Shortest accepted `freeze.hold`: a busy server cannot take and release a lock faster.
const MIN_FREEZE_HOLD: Duration = Duration::from_millis(100);
/// Longest accepted `snapshot.complete_wait`.
const MAX_COMPLETE_WAIT: Duration = Duration::from_secs(24 * 3600);
/// Longest accepted `freeze.wait`.
const MAX_FREEZE_WAIT: Duration = Duration::from_secs(3600);

impl Document {
    /// Parses the whole configuration.
    ///
    /// # Errors
    /// Returns all errors of the configuration at once.
    pub fn settings(self) -> Result<Settings, ConfigErrors> {
        let found = ErrorCollector::default();
        let settings = settings(TableReader::root(self.root(), &found));
        let errors = found.into_faults();
        self.conclude(errors, settings)
    }
}

fn settings(root: TableReader<'_>) -> Option<Settings> {
    let repository = root.table("repository").and_then(repository);
    let repository = root.required("repository", repository, "[repository] with its url");
    let mysql = root.table("mysql").map_or_else(MysqlSettings::default, mysql);
    let recovery = root.table("recovery").and_then(|table| {
        let tls = tls::read_server_tls(&table);
        table.finish();
        tls
    });
    let shards = root.table("shards").map(|shards| {
        let named = shards.named(|name| name.parse::<ShardName>().map_err(|error| error.to_string()));
        named
            .into_iter()
            .filter_map(|(name, table)| {
                shard(table, recovery.as_ref()).and_then(|shard| Some((name?, shard)))
            })
            .collect()
    });
    root.finish();
    Some(Settings { repository: repository?, mysql, tls: recovery, shards: shards.unwrap_or_default() })
}

/// Keys of `[repository]` that belong to a bucket.
const S3_KEYS: [&str; 7] =
    ["endpoint", "region", "credentials", "allow_http", "ca", "kms_key", "storage_class"];

fn storage_class(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if matches!(text, "GLACIER" | "DEEP_ARCHIVE") {
        return Err(format!("a recovery cannot read `{text}` at once: GLACIER_IR is the coldest that works"));
    }
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not a storage class: write it as S3 does, as in STANDARD_IA"))
}

fn repository(table: TableReader<'_>) -> Option<RepositorySettings> {
    let url = table.read("url", RepositoryUrl::parse);
    let url = table.required("url", url, "url = \"file:///var/lib/backstop\" or \"s3://bucket/prefix\"");
    let words = [("never", CreateRepository::Never), ("if-empty", CreateRepository::IfEmpty)];
    let create = table.choice("create", &words).unwrap_or_default();
    let id = table.read("id", repository_id);
    let endpoint = table.read("endpoint", web_address);
    let region = table.text("region");
    let allow_http = table.boolean("allow_http").unwrap_or(false);
    let ca = table.read("ca", absolute);
    let kms_key = table.read("kms_key", not_empty);
    let storage_class = table.read("storage_class", storage_class);
    let credentials = secret(&table, "credentials");
    let encryption_key = secret(&table, "encryption_key");
    let url = match url {
        Some(RepositoryUrl::S3(s3)) => {
            let s3 = super::S3Settings { endpoint, region, allow_http, ca, kms_key, storage_class, ..s3 };
            Some(RepositoryUrl::S3(super::S3Settings { credentials, ..s3 }))
        }
        Some(file) => {
            for key in S3_KEYS.into_iter().filter(|key| table.has(key)) {
                table.refuse(key, "is only for an s3:// repository");
            }
            Some(file)
        }
        None => None,
    };
    table.finish();
    Some(RepositorySettings { url: url?, create, id, encryption_key })
}

/// Parses `repository.id`.
///
/// # Errors
/// Returns a message that names the command that shows the id, if the text is not an id.
pub fn repository_id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| format!("`{text}` is not a repository's id: `backstop check` prints it"))
}

fn mysql(table: TableReader<'_>) -> MysqlSettings {
    let server = table.read("server", not_empty);
    table.finish();
    server.map_or_else(MysqlSettings::default, |server| MysqlSettings { server })
}

fn shard(table: TableReader<'_>, tls_of_all: Option<&ServerTls>) -> Option<ShardSettings> {
    let credentials = secret(&table, "credentials");
    let credentials =
        table.required("credentials", credentials, "credentials = { file = \"/etc/backstop/NAME.toml\" }");
    let topology = table.table("topology").and_then(topology);
    let topology = table.required("topology", topology, "topology = { members = [\"db1:3306\"] }");
    let source = table.table("source").map_or_else(SourceRules::default, source);
    let snapshot = table.table("snapshot").map_or_else(SnapshotSettings::default, snapshot);
    let freeze = table.table("freeze").map_or_else(FreezeRules::default, freeze);
    let schedule = table.read("schedule", |text| text.parse::<Schedule>().map_err(|error| error.to_string()));
    let retention = table.table("retention").map(retention);
    let archive = table.table("archive").map(archive);
    let (recovery, tls) = table.table("recovery").map(recovery::read_recovery).unwrap_or_default();
    table.finish();
    Some(ShardSettings {
        credentials: credentials?,
        topology: topology?,
        source,
        snapshot,
        freeze,
        schedule,
        retention,
        archive,
        recovery,
        tls: tls.or_else(|| tls_of_all.cloned()),
    })
}

fn topology(table: TableReader<'_>) -> Option<TopologySettings> {
    let endpoint = |text: &str| text.parse::<Endpoint>().map_err(|error| error.to_string());
    let members = table.list("members", endpoint);
    let candidate = table.read("candidate", endpoint);
    let urls = table.list("orchestrator", web_address);
    let cluster = table.read("cluster", not_empty);
    let discover = table.boolean("orchestrator_discover");
    let without_quorum = table.choice("without_quorum", &WITHOUT_QUORUM);
    let by_members = table.has("members") || table.has("candidate");
    let found = if by_members && (table.has("orchestrator") || table.has("cluster")) {
        table.refuse(
            "orchestrator",
            "write either `members` (and `candidate`) or `orchestrator` and `cluster`",
        );
        None
    } else if table.has("orchestrator") || table.has("cluster") {
        let urls = table.required("orchestrator", urls, "orchestrator = [\"http://orchestrator:3000\"]");
        let cluster = table.required("cluster", cluster, "cluster = \"NAME\"");
        let (discover, without_quorum) = (discover.unwrap_or(false), without_quorum.unwrap_or_default());
        let found = urls.zip(cluster).filter(|(urls, _)| has_address(&table, urls));
        found.map(|(urls, cluster)| TopologySettings::Orchestrator {
            urls,
            cluster,
            discover,
            without_quorum,
        })
    } else {
        for key in ["orchestrator_discover", "without_quorum"].into_iter().filter(|key| table.has(key)) {
            table.refuse(key, "needs `orchestrator` and `cluster`");
        }
        let members = table.required("members", members, "members = [\"db1:3306\", \"db2:3306\"]");
        members.and_then(|members| listed(&table, members, candidate))
    };
    table.finish();
    found
}

fn listed(
    table: &TableReader<'_>,
    members: Vec<Endpoint>,
    candidate: Option<Endpoint>,
) -> Option<TopologySettings> {
    if members.is_empty() {
        table.refuse("members", "name at least one member");
        return None;
    }
    let twice = members.iter().enumerate().find(|(i, member)| members[..*i].contains(member));
    if let Some((_, member)) = twice {
        table.refuse("members", format!("{member} is named twice"));
    }
    if let Some(stranger) = candidate.as_ref().filter(|candidate| !members.contains(candidate)) {
        table.refuse("candidate", format!("{stranger} is not one of the members"));
    }
    Some(TopologySettings::Members { members, candidate })
}

/// Words of `topology.without_quorum`.
pub(crate) const WITHOUT_QUORUM: [(&str, WithoutQuorum); 2] =
    [("refuse", WithoutQuorum::Refuse), ("last-known", WithoutQuorum::LastKnown)];

fn has_address(table: &TableReader<'_>, urls: &[String]) -> bool {
    if urls.is_empty() {
        table.refuse("orchestrator", "name at least one address");
    }
    !urls.is_empty()
}

fn source(table: TableReader<'_>) -> SourceRules {
    let default = SourceRules::default();
    let any_replica = table.boolean("any_replica").unwrap_or(default.any_replica);
    let max_lag = table.duration("max_lag").unwrap_or(default.max_lag);
    table.finish();
    SourceRules { any_replica, max_lag }
}

fn snapshot(table: TableReader<'_>) -> SnapshotSettings {
    let default = SnapshotSettings::default();
    let providers = [
        ("auto", ProviderSetting::Auto),
        ("btrfs", ProviderSetting::Btrfs),
        ("clone", ProviderSetting::Clone),
        ("ebs", ProviderSetting::Ebs),
    ];
    let provider = table.choice("provider", &providers).unwrap_or(default.provider);
    let work_dir = table.read("work_dir", absolute).unwrap_or(default.work_dir);
    let region = table.read("region", not_empty);
    let volume = table.table_such_as("volume", "{ tag = \"Key=Value\" }").and_then(volume);
    let complete_wait = table.duration("complete_wait").unwrap_or(default.complete_wait);
    if complete_wait > MAX_COMPLETE_WAIT {
        table.refuse("complete_wait", "is too long: the maximum is 24h");
    }
    if provider != ProviderSetting::Ebs {
        for key in ["region", "volume", "complete_wait", "tags"].into_iter().filter(|key| table.has(key)) {
            table.refuse(key, "is only for provider = \"ebs\"");
        }
    }
    let tags = snapshot_tags(&table, "tags");
    table.finish();
    SnapshotSettings { provider, work_dir, region, volume, complete_wait, tags }
}

pub(crate) fn volume(table: TableReader<'_>) -> Option<VolumeHint> {
    let tag = table.read("tag", VolumeHint::tag);
    let device = table.read("device", VolumeHint::device);
    if table.has("tag") == table.has("device") {
        table.refuse("", "write either `tag` or `device`");
    }
    table.finish();
    tag.or(device)
}

pub(crate) fn freeze(table: TableReader<'_>) -> FreezeRules {
    let default = FreezeRules::default();
    let modes = [
        ("auto", FreezeSetting::Auto),
        ("lock-free", FreezeSetting::LockFree),
        ("lock", FreezeSetting::Lock),
    ];
    let mode = table.choice("mode", &modes).unwrap_or(default.mode);
    let wait = table.duration("wait").unwrap_or(default.wait);
    if wait > MAX_FREEZE_WAIT {
        table.refuse("wait", "is too long: the maximum is 1h");
    }
    let hold = table.duration("hold").unwrap_or(default.hold);
    if !(MIN_FREEZE_HOLD..=MAX_FREEZE_HOLD).contains(&hold) {
        table.refuse("hold", "must be between 100ms and 60s: writes may wait this long");
    }
    let kill_blockers = table.boolean("kill_blockers").unwrap_or(default.kill_blockers);
    let uses = [("lock", OnPrimary::Lock), ("refuse", OnPrimary::Refuse)];
    let on_primary = table.choice("on_primary", &uses).unwrap_or(default.on_primary);
    table.finish();
    FreezeRules { mode, wait, hold, kill_blockers, on_primary }
}

fn retention(table: TableReader<'_>) -> Retention {
    let keep_all = table.duration("keep_all").unwrap_or_default();
    let [daily, weekly, monthly] =
        ["daily", "weekly", "monthly"].map(|key| table.count(key).unwrap_or_default());
    let binlogs = table.duration("binlogs");
    let says_something = ["keep_all", "daily", "weekly", "monthly"].iter().any(|key| table.has(key));
    if !says_something {
        table.refuse("", "keeps nothing: write at least one of `keep_all`, `daily`, `weekly`, `monthly`");
    }
    table.finish();
    Retention { keep_all, daily, weekly, monthly, binlogs }
}

fn archive(table: TableReader<'_>) -> ArchiveSettings {
    let from = [
        ("primary", ArchiveFrom::Primary),
        ("candidate", ArchiveFrom::Candidate),
        ("replica", ArchiveFrom::Replica),
    ];
    let from = table.choice("from", &from).unwrap_or(ArchiveFrom::Primary);
    let semi_sync = table.boolean("semi_sync").unwrap_or(false);
    let acks = [("store", ArchiveAck::Store), ("spool", ArchiveAck::Spool)];
    let ack = table.choice("ack", &acks).unwrap_or(ArchiveAck::Store);
    if semi_sync && from != ArchiveFrom::Primary {
        table.refuse("semi_sync", "needs `from = \"primary\"`: only the primary waits for acknowledgements");
    }
    table.finish();
    ArchiveSettings { from, semi_sync, ack }
}

/// Reads a reference to a secret. A text in its place might be the secret itself, so messages do
/// not repeat it.
pub(crate) fn secret(table: &TableReader<'_>, key: &'static str) -> Option<SecretRef> {
    let table = table.table_such_as(key, "{ file = \"/path\" }")?;
    let file = table.read("file", not_empty).map(|path| SecretRef::File(PathBuf::from(path)));
    let env = table.read("env", variable).map(SecretRef::Env);
    let entry = table.read("secrets_manager", not_empty).map(SecretRef::SecretsManager);
    let written = ["file", "env", "secrets_manager"].iter().filter(|key| table.has(key)).count();
    if written != 1 {
        table.refuse("", "write exactly one of `file`, `env`, `secrets_manager`");
    }
    table.finish();
    file.or(env).or(entry)
}

pub(crate) fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn variable(text: &str) -> Result<String, String> {
    let name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // Do not repeat the text: it might be the secret itself.
    if name { Ok(text.to_owned()) } else { Err("is not the name of an environment variable".to_owned()) }
}

pub(crate) fn web_address(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = host.map(|rest| rest.trim_end_matches('/'));
    match host {
        Some(host) if host.contains('@') => {
            Err("contains a user name: write credentials by reference".to_owned())
        }
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("`{text}` is not an address: write http://host:port or https://host:port")),
    }
}
