//! Names of all keys, and of the variables that set them.

use super::suggest::nearest;

/// Keys outside of shards.
pub(super) const GLOBAL_KEYS: [&str; 19] = [
    "repository.url",
    "repository.create",
    "repository.id",
    "repository.endpoint",
    "repository.region",
    "repository.allow_http",
    "repository.ca",
    "repository.kms_key",
    "repository.storage_class",
    "repository.credentials.file",
    "repository.credentials.env",
    "repository.credentials.secrets_manager",
    "repository.encryption_key.file",
    "repository.encryption_key.env",
    "repository.encryption_key.secrets_manager",
    "mysql.server",
    "recovery.tls.ca",
    "recovery.tls.cert",
    "recovery.tls.key",
];

/// Keys of a shard.
pub(super) const SHARD_KEYS: [&str; 41] = [
    "credentials.file",
    "credentials.env",
    "credentials.secrets_manager",
    "topology.members",
    "topology.candidate",
    "topology.orchestrator",
    "topology.cluster",
    "topology.orchestrator_discover",
    "topology.without_quorum",
    "source.any_replica",
    "source.max_lag",
    "snapshot.provider",
    "snapshot.work_dir",
    "snapshot.region",
    "snapshot.volume.tag",
    "snapshot.volume.device",
    "snapshot.complete_wait",
    "snapshot.tags",
    "freeze.mode",
    "freeze.wait",
    "freeze.hold",
    "freeze.kill_blockers",
    "freeze.on_primary",
    "schedule",
    "retention.keep_all",
    "retention.daily",
    "retention.weekly",
    "retention.monthly",
    "retention.binlogs",
    "archive.from",
    "archive.semi_sync",
    "archive.ack",
    "recovery.terraform",
    "recovery.playbook",
    "recovery.subnets",
    "recovery.variables",
    "recovery.state",
    "recovery.configuration",
    "recovery.tls.ca",
    "recovery.tls.cert",
    "recovery.tls.key",
];

/// Returns the variable that sets a key: `BACKSTOP_`, then the key in upper case with `_` for every
/// other character, as `BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD`. `BACKSTOP_REPOSITORY` is short for
/// `BACKSTOP_REPOSITORY_URL`.
pub fn variable_name(key: &[&str]) -> String {
    format!("BACKSTOP_{}", capitals(&key.join("_")))
}

/// Returns the key that a variable sets. `None` if the variable does not belong to the
/// configuration; an error if it has the prefix of a key but names none.
pub(super) fn key_of_variable(name: &str, shards: &[String]) -> Option<Result<Vec<String>, String>> {
    let rest = name.strip_prefix("BACKSTOP_")?;
    if rest == "REPOSITORY" {
        return Some(Ok(vec!["repository".to_owned(), "url".to_owned()]));
    }
    if let Some(rest) = rest.strip_prefix("SHARDS_") {
        return Some(shard_key(rest, shards).ok_or_else(|| unknown(name, shards)));
    }
    match GLOBAL_KEYS.iter().find(|key| capitals(key) == rest) {
        Some(key) => Some(Ok(split(key))),
        None if ["REPOSITORY_", "MYSQL_", "RECOVERY_"].iter().any(|section| rest.starts_with(section)) => {
            Some(Err(unknown(name, shards)))
        }
        None => None,
    }
}

/// Returns the keys that exclude this one in the same table.
pub(super) fn alternatives(key: &str) -> &'static [&'static str] {
    match key {
        "file" => &["env", "secrets_manager"],
        "env" => &["file", "secrets_manager"],
        "secrets_manager" => &["file", "env"],
        "members" | "candidate" => &["orchestrator", "cluster", "orchestrator_discover", "without_quorum"],
        "orchestrator" | "cluster" => &["members", "candidate"],
        _ => &[],
    }
}

/// Returns the matching shard of the file, the longest name first; otherwise a shard that only
/// variables describe.
fn shard_key(rest: &str, shards: &[String]) -> Option<Vec<String>> {
    let full = |shard: &str, key: &str| {
        ["shards".to_owned(), shard.to_owned()].into_iter().chain(split(key)).collect()
    };
    let mut known: Vec<&String> = shards.iter().collect();
    known.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let of_known = known.iter().find_map(|shard| {
        let key = rest.strip_prefix(&capitals(shard))?.strip_prefix('_')?;
        Some(full(shard, SHARD_KEYS.iter().find(|known| capitals(known) == key)?))
    });
    of_known.or_else(|| {
        let longest = SHARD_KEYS.iter().filter_map(|key| {
            let shard = rest.strip_suffix(&capitals(key))?.strip_suffix('_')?;
            (!shard.is_empty()).then_some((shard, *key))
        });
        let (shard, key) = longest.min_by_key(|(shard, _)| shard.len())?;
        Some(full(&shard.to_ascii_lowercase(), key))
    })
}

fn unknown(name: &str, shards: &[String]) -> String {
    let of_shards = shards
        .iter()
        .flat_map(|shard| SHARD_KEYS.iter().map(move |key| variable_name(&["shards", shard, key])));
    let all: Vec<String> = GLOBAL_KEYS.iter().map(|key| variable_name(&[key])).chain(of_shards).collect();
    let known = all.iter().map(String::as_str);
    match nearest(name, known) {
        Some(meant) => format!("no key has this variable; did you mean `{meant}`?"),
        None => "no key has this variable".to_owned(),
    }
}

fn capitals(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn split(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}
