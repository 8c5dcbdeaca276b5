//! Shared support for the tests of this crate: repositories to test on and trees to store.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod binlog;
pub mod faulty_store;
pub mod paused_store;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use backstop_host::Host;
use backstop_repo::{
    CatalogEntry, FileChanges, FileContent, Location, Manifest, RepoKey, Repository, ShardReader,
    ShardWriter, Tree, TreeDirectory, TreeFile,
};
use backstop_types::backup::{BackupFacts, BackupKind, BackupSource, Lineage};
use backstop_types::freeze::{FreezeMode, FreezeReport};
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use backstop_types::topology::Role;
use chrono::DateTime;
use object_store::ObjectStore;
use secrecy::SecretString;

pub const SHARD: &str = "orders";

/// Repository to test on.
pub struct Bench {
    pub repository: Repository,
    pub dir: Option<tempfile::TempDir>,
}

impl Bench {
    pub async fn local() -> Self {
        Self::local_with(None).await
    }

    pub async fn local_encrypted() -> Self {
        Self::local_with(Some(&key(1))).await
    }

    async fn local_with(key: Option<&RepoKey>) -> Self {
        let dir = scratch();
        let repository = Repository::open(&location(dir.path()), key, Host::system()).await.unwrap();
        Self { repository, dir: Some(dir) }
    }

    pub async fn on(store: Arc<dyn ObjectStore>) -> Self {
        Self { repository: Repository::on(store, None, Host::system()).await.unwrap(), dir: None }
    }

    pub fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    pub fn reader(&self) -> ShardReader {
        self.repository.reader(&shard())
    }

    pub async fn acquire_lease(&self) -> ShardWriter {
        self.repository.acquire_lease(&shard(), "backup").await.unwrap()
    }

    pub async fn backup(&self, sample: &Sample, parent: Option<&Manifest>) -> CatalogEntry {
        self.backup_tree(&sample.tree(), parent).await
    }

    pub async fn backup_tree(&self, tree: &Tree, parent: Option<&Manifest>) -> CatalogEntry {
        let mut writer = self.acquire_lease().await;
        let stored = writer.store(tree, parent, &|_| {}).await.unwrap();
        let entry = writer.commit(facts(next_id()), stored).await.unwrap();
        writer.release().await.unwrap();
        entry
    }

    /// Restores a backup and returns its files.
    pub async fn restored(&self, id: &BackupId) -> BTreeMap<String, Vec<u8>> {
        let manifest = self.reader().manifest(id).await.unwrap();
        let target = scratch();
        self.reader().restore(&manifest, target.path(), &Default::default(), &|_| {}).await.unwrap();
        tree_of(target.path())
    }
}

/// Returns a temporary directory, in memory if possible: these tests do not examine durability, and
/// it is slow.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn location(dir: &Path) -> Location {
    Location::new(format!("file://{}", dir.display())).or_new()
}

pub fn key(seed: u8) -> RepoKey {
    RepoKey::parse(&SecretString::from(format!("{seed:02x}").repeat(32))).unwrap()
}

pub fn shard() -> ShardName {
    SHARD.parse().unwrap()
}

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

pub fn next_id() -> BackupId {
    let number = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    BackupId::new(DateTime::from_timestamp(1_795_000_000 + i64::from(number), 0).unwrap(), number)
}

pub fn lineage() -> Lineage {
    Lineage {
        server_uuid: "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap(),
        volume: "clone".into(),
        generation: None,
        mark: None,
    }
}

pub fn facts(id: BackupId) -> BackupFacts {
    let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    BackupFacts {
        on_timeline: None,
        backup_id: id,
        shard: shard(),
        occasion: None,
        kind: BackupKind::OnDemand,
        source: BackupSource { endpoint: Endpoint::new("db2", 3306), role: Role::Candidate },
        source_reason: "the candidate is usable".into(),
        server_version: "9.7.4".parse().unwrap(),
        gtid_executed: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77".parse().unwrap(),
        freeze: FreezeReport { mode: FreezeMode::None, held_ms: 0.0, waited_ms: 0.0 },
        lineage: lineage(),
        settings: BTreeMap::from([("innodb_page_size".into(), "16384".into())]),
        started_at: at,
        taken_at: at,
        seconds: 1.5,
        servers: Vec::new(),
        members: Vec::new(),
        primary: None,
        events: None,
        plugins: Vec::new(),
        findings: Vec::new(),
        broken_tables: Vec::new(),
    }
}

/// Returns bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Directory that plays the snapshot.
pub struct Sample {
    dir: tempfile::TempDir,
}

impl Sample {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn in_memory() -> Self {
        Self { dir: scratch() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn at(&self, path: &str) -> PathBuf {
        let full = self.path().join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        full
    }

    pub fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.at(path), bytes).unwrap();
    }

    pub fn patch(&self, path: &str, at: u64, bytes: &[u8]) {
        let file = std::fs::OpenOptions::new().write(true).open(self.at(path)).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    pub fn sparse(&self, path: &str, size: u64, at: u64, bytes: &[u8]) {
        let file = std::fs::File::create(self.at(path)).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    pub fn bytes(&self) -> u64 {
        self.snapshot().values().map(|bytes| bytes.len() as u64).sum()
    }

    pub fn snapshot(&self) -> BTreeMap<String, Vec<u8>> {
        tree_of(self.path())
    }

    pub fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        walk(self.path(), self.path(), &mut |relative, path, meta| {
            use std::os::unix::fs::MetadataExt;
            if meta.is_dir() {
                tree.directories.push(TreeDirectory { path: relative, mode: meta.mode() & 0o777 });
            } else {
                tree.files.push(TreeFile {
                    path: relative,
                    content: FileContent::File(path.to_owned()),
                    size: meta.len(),
                    mode: meta.mode() & 0o777,
                    inode: Some(meta.ino()),
                    changed: FileChanges::Unknown,
                });
            }
        });
        tree
    }
}

fn walk(root: &Path, dir: &Path, each: &mut dyn FnMut(String, &Path, &std::fs::Metadata)) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        each(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), &path, &meta);
        if meta.is_dir() {
            walk(root, &path, each);
        }
    }
}

/// Returns files by path, with their bytes.
pub fn tree_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    walk(dir, dir, &mut |relative, path, meta| {
        if meta.is_file() {
            files.insert(relative, std::fs::read(path).unwrap());
        }
    });
    files
}

/// Returns every key of a store, sorted.
pub async fn keys_of(store: &dyn ObjectStore) -> Vec<String> {
    use futures::TryStreamExt;
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut keys: Vec<String> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
    keys.sort();
    keys
}

/// S3 server that `make test` starts.
pub struct S3Server {
    endpoint: String,
    bucket: String,
    access_key_id: String,
    secret_access_key: String,
}

/// Returns the S3 server; `None` if its absence is intended.
pub fn s3() -> Option<S3Server> {
    let var = |name: &str| std::env::var(format!("BACKSTOP_TEST_S3_{name}"));
    let Ok(endpoint) = var("ENDPOINT") else {
        let meant = std::env::var("BACKSTOP_TEST_WITHOUT_S3").is_ok_and(|value| value == "1");
        assert!(
            meant,
            "there is no S3 server: use `make test`, or set BACKSTOP_TEST_WITHOUT_S3=1 to do without"
        );
        return None;
    };
    Some(S3Server {
        endpoint,
        bucket: var("BUCKET").unwrap(),
        access_key_id: var("ACCESS_KEY_ID").unwrap(),
        secret_access_key: var("SECRET_ACCESS_KEY").unwrap(),
    })
}

impl S3Server {
    /// Returns an unused location in the bucket.
    pub fn location(&self, name: &str) -> Location {
        let unique = tempfile::Builder::new().rand_bytes(12).tempdir().unwrap();
        let unique = unique.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        let mut location = Location::new(format!("s3://{}/{unique}/{name}", self.bucket)).or_new();
        location.s3.endpoint = Some(self.endpoint.clone());
        location.s3.region = Some("us-east-1".into());
        location.s3.access_key_id = Some(self.access_key_id.clone());
        location.s3.secret_access_key = Some(self.secret_access_key.clone().into());
        location
    }
}
