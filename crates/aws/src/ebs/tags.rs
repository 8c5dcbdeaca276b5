//! Tags of a snapshot: a view of the manifest, for people and for the loss of the bucket. Values
//! are never truncated; an oversized GTID set is replaced by its digest.

use std::collections::BTreeMap;

use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, Endpoint, ServerUuid, ShardName};

/// The GTID set, as the reference system names it.
pub const GTID_TAG: &str = "GTID";
/// The cluster, as the reference system names it.
pub const CLUSTER_TAG: &str = "Cluster-name";
/// The run, which is also the backup's id.
pub const RUN_TAG: &str = "Backstop-Run";
/// The shard.
pub const SHARD_TAG: &str = "Backstop-Shard";
/// [`UNPROVEN`] or [`PROVEN`].
pub const STATE_TAG: &str = "Backstop-State";
/// Number of snapshots in the set.
pub const SET_SIZE_TAG: &str = "Backstop-Set";
/// The instance, `host:port`.
pub const SOURCE_TAG: &str = "Backstop-Source";
/// Its `@@server_uuid`.
pub const SERVER_UUID_TAG: &str = "Backstop-Server";
/// URL of the repository that lists the backup.
pub const REPOSITORY_TAG: &str = "Backstop-Repository";
/// Secrets Manager's entry of the shard, if the backup was made from one.
pub const SECRET_TAG: &str = "Backstop-Secret";
/// The snapshot's volume as it was.
pub const VOLUME_TAG: &str = "Backstop-Volume";
/// End of the backup: `completed` or `failed`. Missing while EC2 stores the blocks.
pub const COMPLETION_TAG: &str = "Backstop-Completion";
/// Its `@@version`.
pub const SERVER_VERSION_TAG: &str = "Backstop-Server-Version";

/// Taken, but the lock is not yet proven to have held: never recover from it.
pub const UNPROVEN: &str = "unproven";
/// The lock was held from before the position was read until after the snapshot was taken.
pub const PROVEN: &str = "proven";

/// EC2's limit for a tag value, in Unicode characters.
pub const MAX_TAG_VALUE_CHARS: usize = 256;

/// Inputs for the tags of one snapshot.
pub(crate) struct SnapshotTags<'a> {
    pub(crate) run: &'a BackupId,
    pub(crate) shard: &'a ShardName,
    pub(crate) cluster: &'a str,
    pub(crate) gtids: &'a GtidSet,
    pub(crate) source: &'a Endpoint,
    pub(crate) server: ServerUuid,
    pub(crate) version: &'a str,
    pub(crate) set: usize,
    pub(crate) repository: &'a str,
    pub(crate) secret: Option<&'a str>,
    pub(crate) extra: &'a BTreeMap<String, String>,
}

impl SnapshotTags<'_> {
    /// Returns the tags that a snapshot is created with.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let own = [
            ("Name", format!("backstop {} {}", self.shard, self.run)),
            (GTID_TAG, gtid_value(self.gtids, self.shard, self.run)),
            (CLUSTER_TAG, self.cluster.to_owned()),
            (RUN_TAG, self.run.to_string()),
            (SHARD_TAG, self.shard.to_string()),
            (STATE_TAG, UNPROVEN.to_owned()),
            (SET_SIZE_TAG, self.set.to_string()),
            (SOURCE_TAG, self.source.to_string()),
            (SERVER_UUID_TAG, self.server.to_string()),
            (SERVER_VERSION_TAG, self.version.to_owned()),
            (REPOSITORY_TAG, self.repository.to_owned()),
        ];
        let secret = self.secret.map(|id| (SECRET_TAG, id.to_owned()));
        let own = own.into_iter().chain(secret).map(|(key, value)| (key.to_owned(), tag_value(&value)));
        // The GTID set has a separate rule; no other value that recovery uses can be long.
        self.extra.clone().into_iter().chain(own).collect()
    }
}

/// Truncates a value to EC2's limit.
pub(crate) fn tag_value(value: &str) -> String {
    value.chars().take(MAX_TAG_VALUE_CHARS).collect()
}

/// Returns the whole set, or its digest and the location of the whole set. A GTID set cannot look
/// like a digest.
pub(crate) fn gtid_value(set: &GtidSet, shard: &ShardName, run: &BackupId) -> String {
    let text = set.to_string();
    if text.chars().count() <= MAX_TAG_VALUE_CHARS {
        return text;
    }
    let digest = blake3::hash(text.as_bytes()).to_hex();
    format!("too long for a tag: see the manifest of backup {run} of shard {shard}; blake3={digest}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn label_of(set: &GtidSet) -> BTreeMap<String, String> {
        let run = "20261123T022133Z-9f3a04c1".parse().unwrap();
        let server = "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap();
        SnapshotTags {
            run: &run,
            shard: &"x".repeat(63).parse().unwrap(),
            cluster: "orders",
            gtids: set,
            source: &"db2:3306".parse().unwrap(),
            server,
            version: "9.7.4",
            set: 2,
            repository: "s3://backups/shards",
            secret: Some("prod/orders"),
            extra: &BTreeMap::from([("CostCenter".to_owned(), "7".to_owned())]),
        }
        .tags()
    }

    #[test]
    fn gtid_set_is_tagged_whole_or_not_at_all() {
        let mut text = String::new();
        for number in 0..6 {
            text.push_str(&format!("3e11fa47-71ca-11e1-9e33-c80aa942956{number}:1-{number}5,"));
        }
        let short: GtidSet = text.trim_end_matches(',').parse().unwrap();
        let tag = &label_of(&short)[GTID_TAG];
        assert_eq!(tag.parse::<GtidSet>().unwrap(), short);

        text.push_str("4e11fa47-71ca-11e1-9e33-c80aa9429562:1-999999");
        let long: GtidSet = text.parse().unwrap();
        let tag = &label_of(&long)[GTID_TAG];
        assert!(tag.parse::<GtidSet>().is_err() && tag.chars().count() <= MAX_TAG_VALUE_CHARS, "{tag}");
        assert!(tag.contains("20261123T022133Z-9f3a04c1"));
        assert_ne!(tag, &label_of(&long.subtract(&short))[GTID_TAG]);
    }

    #[test]
    fn new_snapshots_are_tagged_unproven() {
        let tags = label_of(&GtidSet::new());
        assert_eq!(
            (tags[STATE_TAG].as_str(), tags[SET_SIZE_TAG].as_str(), tags[CLUSTER_TAG].as_str()),
            ("unproven", "2", "orders")
        );
        assert_eq!(
            (tags[REPOSITORY_TAG].as_str(), tags[SECRET_TAG].as_str(), tags["CostCenter"].as_str()),
            ("s3://backups/shards", "prod/orders", "7")
        );
        assert!(tags.len() <= 50 && tags.values().all(|value| value.chars().count() <= MAX_TAG_VALUE_CHARS));
    }
}
