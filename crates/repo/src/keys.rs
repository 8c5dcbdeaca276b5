//! Every key name of a repository, and nothing else.

use backstop_types::ids::{BackupId, ShardName};
use object_store::path::Path;

use crate::encryption::Cipher;

/// Key of the object that describes the repository.
pub(crate) const HEADER_KEY: &str = "backstop";
/// Directories of the wrapped data keys: one object for each user key in each of them, so that no
/// single object is between the user's key and the data.
pub(crate) const KEYS_DIRECTORIES: [&str; 2] = ["keys", "spare-keys"];
/// Directory of the shards: one directory each.
pub(crate) const SHARDS_DIRECTORY: &str = "shards";
/// Directory of probes: objects written to check that the store honours conditional puts.
pub(crate) const PROBES_DIRECTORY: &str = "probes";

/// Directory of a shard's packs.
pub(crate) const PACKS_DIRECTORY: &str = "packs";

/// Directory of the required versions: the versions of Backstop that may read and write, where they
/// were raised above those in the header object.
pub(crate) const REQUIRED_VERSIONS_DIRECTORY: &str = "needs";

/// Keys of the copies of the data key, wrapped by the user key of this id.
pub(crate) fn wrapped_keys(key_id: &str) -> [String; 2] {
    KEYS_DIRECTORIES.map(|directory| format!("{directory}/{key_id}"))
}

/// Key of a probe.
pub(crate) fn probe(id: &str) -> String {
    format!("{PROBES_DIRECTORY}/{id}")
}

/// Keys of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardKeys {
    base: String,
}

impl ShardKeys {
    /// Returns the keys of a shard: under its name, or under a keyed hash of it in an encrypted
    /// repository.
    pub(crate) fn new(shard: &ShardName, cipher: &Cipher) -> Self {
        Self::of_directory(&cipher.directory(shard.as_str()))
    }

    pub(crate) fn of_directory(directory: &str) -> Self {
        Self { base: format!("{SHARDS_DIRECTORY}/{directory}") }
    }

    /// Returns the directory of the shard.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn logs(&self) -> String {
        format!("{}/log", self.base)
    }

    pub(crate) fn log(&self, number: u64) -> String {
        format!("{}/log/{number:020}", self.base)
    }

    pub(crate) fn heartbeats(&self) -> String {
        format!("{}/heartbeats", self.base)
    }

    pub(crate) fn heartbeat(&self, lease: u64) -> String {
        format!("{}/heartbeats/{lease:020}", self.base)
    }

    /// Returns the directories whose names begin with the number of the writing lease, in a shard
    /// or in its archive.
    pub(crate) fn lease_directories(&self) -> [String; 5] {
        ["heartbeats", "backups", "packs", "alive", "segments"].map(|name| format!("{}/{name}", self.base))
    }

    pub(crate) fn backups(&self) -> String {
        format!("{}/backups", self.base)
    }

    /// Returns the key of a part of a backup: `part` is `manifest`, `extents` or `fingerprints`.
    pub(crate) fn backup(&self, lease: u64, attempt: u64, part: &str) -> String {
        format!("{}/backups/{lease:020}-{attempt}/{part}", self.base)
    }

    pub(crate) fn packs(&self) -> String {
        format!("{}/{PACKS_DIRECTORY}", self.base)
    }

    pub(crate) fn pack(&self, id: PackId) -> String {
        format!("{}/{PACKS_DIRECTORY}/{:020}-{:012x}", self.base, id.lease, id.number)
    }

    /// Returns the key of the damage that verifications have recorded.
    pub(crate) fn found(&self) -> String {
        format!("{}/found", self.base)
    }

    /// Returns the key of the last runs of an operation.
    pub(crate) fn runs(&self, operation: &str) -> String {
        format!("{}/runs/{operation}", self.base)
    }

    pub(crate) fn completions(&self) -> String {
        format!("{}/completions", self.base)
    }

    /// Returns the key of the end of a backup in EBS snapshots.
    pub(crate) fn completion(&self, backup: &BackupId) -> String {
        format!("{}/completions/{backup}", self.base)
    }

    pub(crate) fn archive(&self) -> ArchiveKeys {
        ArchiveKeys { base: format!("{}/archive", self.base) }
    }
}

/// Keys of one shard's archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveKeys {
    base: String,
}

impl ArchiveKeys {
    /// Returns the directory of the archive.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Returns the keys of its leases: a separate log and separate heartbeats, so that a backup and
    /// an archiver do not wait for each other.
    pub(crate) fn leases(&self) -> ShardKeys {
        ShardKeys { base: self.base.clone() }
    }

    /// Returns the key of the damage that verifications have recorded.
    pub(crate) fn found(&self) -> String {
        format!("{}/found", self.base)
    }

    pub(crate) fn journal(&self) -> String {
        format!("{}/journal", self.base)
    }

    pub(crate) fn entry(&self, number: u64) -> String {
        format!("{}/journal/{number:020}", self.base)
    }

    pub(crate) fn indexes(&self) -> String {
        format!("{}/index", self.base)
    }

    /// Returns the key of the index of the entries from `first` to `last`.
    pub(crate) fn index(&self, first: u64, last: u64) -> String {
        format!("{}/index/{first:020}-{last:020}", self.base)
    }

    /// Returns the key under which a rebuild keeps the bytes of a damaged index.
    pub(crate) fn aside(&self, first: u64, last: u64, digest: &str) -> String {
        format!("{}/aside/{first:020}-{last:020}-{digest}", self.base)
    }

    pub(crate) fn segments(&self) -> String {
        format!("{}/segments", self.base)
    }

    /// Returns the key of the `number`th segment stored under a lease.
    pub(crate) fn segment(&self, lease: u64, number: u64) -> String {
        format!("{}/segments/{lease:020}-{number:012x}", self.base)
    }

    pub(crate) fn alive(&self) -> String {
        format!("{}/alive", self.base)
    }

    pub(crate) fn alive_of(&self, lease: u64) -> String {
        format!("{}/alive/{lease:020}", self.base)
    }

    pub(crate) fn horizons(&self) -> String {
        format!("{}/horizon", self.base)
    }

    pub(crate) fn horizon(&self, number: u64) -> String {
        format!("{}/horizon/{number:020}", self.base)
    }
}

/// Returns the number that a name in a directory begins with; `None` for a name that is not
/// Backstop's.
pub(crate) fn number_in(directory: &str, key: &str) -> Option<u64> {
    let name = key.strip_prefix(directory)?.strip_prefix('/')?;
    let digits = name.split('-').next()?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Returns the numbers in a name of the form `first-last`.
pub(crate) fn span_in(directory: &str, key: &str) -> Option<(u64, u64)> {
    let name = key.strip_prefix(directory)?.strip_prefix('/')?;
    let (first, last) = name.split_once('-')?;
    let number = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok()).flatten();
    Some((number(first)?, number(last)?))
}

/// Identifies a pack: the lease that wrote it and its number within the lease. The trees that one
/// lease stores number their packs from 0, 2^32, 2 · 2^32, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackId {
    pub(crate) lease: u64,
    pub(crate) number: u64,
}

/// Returns the lease under which an object of a shard was written: the number that its name begins
/// with. `None` for a name that is not Backstop's.
pub(crate) fn lease_of(shard: &ShardKeys, key: &str) -> Option<u64> {
    let rest = key.strip_prefix(shard.base())?.strip_prefix('/')?;
    let (kind, name) = rest.split_once('/')?;
    let digits = name.split(['-', '/']).next()?;
    let known = matches!(kind, "heartbeats" | "backups" | "packs");
    (known && digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Returns the number of a log entry.
pub(crate) fn log_number(shard: &ShardKeys, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(&shard.logs())?.strip_prefix('/')?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Converts a key to the store's form.
pub(crate) fn path(key: &str) -> Path {
    Path::from(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_contain_their_lease() {
        let keys = ShardKeys::of_directory("orders");
        assert_eq!(
            keys.pack(PackId { lease: 7, number: 3 }),
            "shards/orders/packs/00000000000000000007-000000000003"
        );
        for key in
            [keys.heartbeat(7), keys.backup(7, 1, "manifest"), keys.pack(PackId { lease: 7, number: 3 })]
        {
            assert_eq!(lease_of(&keys, &key), Some(7), "{key}");
        }
        for key in ["shards/orders/packs/stranger", "shards/other/packs/00000000000000000007-1", "backstop"] {
            assert_eq!(lease_of(&keys, key), None, "{key}");
        }
        assert_eq!(log_number(&keys, &keys.log(42)), Some(42));
        assert_eq!(lease_of(&keys, &keys.log(42)), None);
    }
}
