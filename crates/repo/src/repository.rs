//! Opens a repository and gives access to its shards.

mod user_keys;

pub use user_keys::ExportedKey;

use std::sync::{Arc, RwLock};

use backstop_host::Host;
use backstop_types::create_repository::CreateRepository;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::ShardName;
use backstop_types::run_history::{Operation, RunRecord};
use futures::future::try_join_all;
use object_store::ObjectStore;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::backend::{ConnectedStore, ObjectLock};
use crate::encrypted_store::EncryptedStore;
use crate::encryption::Cipher;
use crate::keys::{SHARDS_DIRECTORY, ShardKeys};
use crate::lease::{self, HeartbeatTask};
use crate::local_store::LocalStore;
use crate::repair::{self, LogOwner, LogRepair};
use crate::repo_header::{self, RepoHeader};
use crate::shard_log::ShardLog;
use crate::{
    ArchiveReader, ArchiveWriter, IndexRepair, Location, OnProgress, RepoKey, ShardReader, ShardWriter,
    archive, backend, conditional_put, run_history,
};

/// Open repository.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<RepositoryInner>,
}

struct RepositoryInner {
    store: Arc<dyn ObjectStore>,
    /// Directory of the repository; `None` for an object store.
    local_store: Option<LocalStore>,
    /// `None` for a store that the caller passed in.
    location: Option<Location>,
    key: Option<RepoKey>,
    /// `None` while nothing is stored.
    found: RwLock<Option<Discovery>>,
    probed: OnceCell<()>,
    object_lock: ObjectLock,
    host: Host,
}

/// Result of reading a repository's root objects.
#[derive(Clone)]
struct Discovery {
    cipher: Cipher,
    /// `None` if only the root object is lost.
    id: Option<Uuid>,
}

impl Repository {
    /// Opens a repository. A missing repository is an error unless the location lets the first
    /// lease create it.
    ///
    /// # Errors
    /// Returns [`ErrorKind::NotRecoverable`] if there is no repository; [`ErrorKind::Refused`] if
    /// it is another than the location names; [`ErrorKind::Usage`] for a malformed location, a
    /// missing or wrong key, or a key for a repository that is not encrypted; [`ErrorKind::Store`]
    /// if the bucket is missing or cannot be reached; [`ErrorKind::Denied`] if access is denied.
    pub async fn open(location: &Location, key: Option<&RepoKey>, host: Host) -> Result<Self> {
        let opened = async {
            let repository =
                Self::look(backend::connect(location, &host)?, Some(location.clone()), key, host).await?;
            match (repository.exists(), location.create, location.id) {
                (false, CreateRepository::IfEmpty, None) => Ok(repository),
                (false, ..) => Err(absent(location)),
                (true, ..) => repository.expect(location).map(|()| repository),
            }
        };
        opened.await.map_err(|error| error.during(format_args!("cannot open repository {}", location.url)))
    }

    /// Opens a repository and creates it if there is none. Returns true if this call created it.
    ///
    /// # Errors
    /// Returns the errors of [`Repository::open`]. Creates nothing if the location names the id of
    /// a repository that is not there.
    pub async fn init(location: &Location, key: Option<&RepoKey>, host: Host) -> Result<(Self, bool)> {
        let create = if location.id.is_some() { CreateRepository::Never } else { CreateRepository::IfEmpty };
        let repository = Self::open(&Location { create, ..location.clone() }, key, host).await?;
        if repository.exists() {
            return Ok((repository, false));
        }
        let made = repository.made().await;
        made.map_err(|error| error.during(format_args!("cannot create repository {}", location.url)))?;
        Ok((repository, true))
    }

    /// Returns the repository's unique id: `None` while nothing is stored, or if the root object is
    /// lost.
    pub fn id(&self) -> Option<Uuid> {
        self.found().and_then(|found| found.id)
    }

    /// Returns true if the repository exists: false until the first lease creates it.
    pub fn exists(&self) -> bool {
        self.found().is_some()
    }

    /// Opens a repository on any store, or creates it with the first lease: for tests, and for
    /// stores that are reached another way.
    ///
    /// # Errors
    /// Returns the errors of [`Repository::open`].
    pub async fn on(store: Arc<dyn ObjectStore>, key: Option<&RepoKey>, host: Host) -> Result<Self> {
        let connected = ConnectedStore { store, local_store: None, object_lock: ObjectLock::default() };
        Self::look(connected, None, key, host).await
    }

    async fn look(
        ConnectedStore { store, local_store, object_lock }: ConnectedStore,
        location: Option<Location>,
        key: Option<&RepoKey>,
        host: Host,
    ) -> Result<Self> {
        let plain = EncryptedStore::plain(store.clone(), host.clone());
        let found = match repo_header::read_header(&plain, key).await? {
            RepoHeader::Sealed(cipher, id) => Some(Discovery { cipher, id }),
            RepoHeader::Nothing => None,
        };
        if let (Some(local_store), Some(found)) = (&local_store, &found) {
            local_store.expect(found.id);
        }
        let (key, found) = (key.cloned(), RwLock::new(found));
        let shared = RepositoryInner {
            store,
            local_store,
            location,
            key,
            found,
            probed: OnceCell::new(),
            object_lock,
            host,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Checks that this is the repository that the location names.
    fn expect(&self, location: &Location) -> Result<()> {
        match (location.id, self.id()) {
            (Some(named), Some(id)) if named != id => Err(Error::refused(format!(
                "it is repository {id}, but the configuration names {named}"
            ))
            .hint("correct `repository.url`, or `repository.id` if this one is meant; check which volume is mounted there")),
            _ => Ok(()),
        }
    }

    /// Checks that the store can be written to safely, by writing and removing an object.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Refused`] if the store cannot keep two runs apart;
    /// [`ErrorKind::Denied`] if it denies writing.
    pub async fn probe(&self) -> Result<()> {
        let plain = self.plain();
        let probed = self.shared.probed.get_or_try_init(|| conditional_put::probe_conditional_put(&plain));
        probed.await.map(|_| ())
    }

    /// Returns the retention mode (Object Lock) in which the bucket keeps objects, by writing and
    /// removing an object. `None` for a directory, for a bucket without retention, and if the
    /// account lacks `s3:GetObjectRetention`.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn object_lock(&self) -> Result<Option<String>> {
        if self.shared.local_store.is_some() {
            return Ok(None);
        }
        conditional_put::probe_object_lock(&self.plain()).await?;
        Ok(self.shared.object_lock.get().cloned())
    }

    /// Returns a reader of one shard. The reader needs read access only.
    pub fn reader(&self, shard: &ShardName) -> ShardReader {
        // While nothing is stored, any cipher will do: there is no name to find.
        ShardReader { log: self.log(shard, self.cipher().unwrap_or(Cipher::Plain)) }
    }

    /// Returns the last runs of the commands that write to a shard, newest first within each
    /// operation.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn runs(&self, shard: &ShardName) -> Result<Vec<RunRecord>> {
        let Some(cipher) = self.cipher() else { return Ok(Vec::new()) };
        let log = self.log(shard, cipher);
        let read = Operation::ALL.map(|operation| run_history::read_runs(&log, operation));
        Ok(try_join_all(read).await?.into_iter().flatten().collect())
    }

    /// Records the state of a run; does nothing while there is no repository. Needs no lease.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn note_run(&self, shard: &ShardName, run: RunRecord) -> Result<()> {
        let Some(cipher) = self.cipher() else { return Ok(()) };
        run_history::store_run(&self.log(shard, cipher), run).await
    }

    /// Returns the shards that have something stored, sorted.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`] if the log of one cannot be read.
    pub async fn shards(&self) -> Result<Vec<ShardName>> {
        let Some(cipher) = self.cipher() else { return Ok(Vec::new()) };
        let store = self.encrypted(cipher);
        let mut shards = Vec::new();
        for directory in store.directories(SHARDS_DIRECTORY).await? {
            let keys = ShardKeys::of_directory(&directory);
            if let Some(shard) = crate::shard_log::shard_of(&store, &keys).await? {
                shards.push(shard);
            }
        }
        shards.sort();
        Ok(shards)
    }

    /// Acquires the lease of a shard for writing. Waits up to 15 s to find out whether another
    /// holder is alive. `operation` is shown to other runs that want the shard in the meantime:
    /// `backup`, `prune`, …
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`], naming the run, if a living run holds the shard;
    /// [`ErrorKind::Refused`] if the store ignores conditional puts; [`ErrorKind::Damaged`] if the
    /// newest entry of the shard's log is damaged.
    pub async fn acquire_lease(&self, shard: &ShardName, operation: &str) -> Result<ShardWriter> {
        let cipher = self.made().await?;
        let log = self.log(shard, cipher);
        let lease = lease::acquire(&log, operation).await?;
        let heartbeat = HeartbeatTask::begin(&log, lease.number).await?;
        Ok(ShardWriter::new(ShardReader { log }, lease, heartbeat))
    }

    /// Returns a reader of one shard's archive. The reader needs read access only.
    pub fn archive(&self, shard: &ShardName) -> ArchiveReader {
        self.archive_reader(&self.log(shard, self.cipher().unwrap_or(Cipher::Plain)))
    }

    /// Acquires the archive lease of a shard for writing: one archiver per shard. It is independent
    /// of the lease on the shard's backups. Waits up to 15 s to find out whether another holder is
    /// alive.
    ///
    /// # Errors
    /// Returns the errors of [`Repository::acquire_lease`].
    pub async fn acquire_archive_lease(&self, shard: &ShardName) -> Result<ArchiveWriter> {
        self.claim_archive_for(shard, "archive").await
    }

    async fn claim_archive_for(&self, shard: &ShardName, operation: &str) -> Result<ArchiveWriter> {
        let cipher = self.made().await?;
        let log = self.log(shard, cipher);
        let reader = self.archive_reader(&log);
        archive::acquire_archive_lease(
            reader,
            ShardLog { keys: log.keys.archive().leases(), ..log },
            operation,
        )
        .await
    }

    /// Plans the repair of a shard's logs, of its backups and of its archive. The plan is empty if
    /// both are whole. Writes nothing.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn plan_repair(&self, shard: &ShardName, progress: OnProgress<'_>) -> Result<Vec<LogRepair>> {
        let reader = self.reader(shard);
        let leases = ShardLog { keys: reader.log.keys.archive().leases(), ..reader.log.clone() };
        let backups = repair::plan_repair(&LogOwner::Backups(&reader), progress).await?;
        let archive = repair::plan_repair(&LogOwner::Archive(&leases), progress).await?;
        Ok(backups.into_iter().chain(archive).collect())
    }

    /// Repairs as [`Repository::plan_repair`] shows, and returns that plan. Deletes nothing.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if a living run holds a log, or wrote to it first; and the
    /// errors of [`Repository::acquire_lease`].
    pub async fn repair(&self, shard: &ShardName, progress: OnProgress<'_>) -> Result<Vec<LogRepair>> {
        let log = self.log(shard, self.made().await?);
        let leases = ShardLog { keys: log.keys.archive().leases(), ..log.clone() };
        let reader = ShardReader { log };
        let mut repaired = Vec::new();
        for of in [LogOwner::Backups(&reader), LogOwner::Archive(&leases)] {
            if let Some(plan) = repair::plan_repair(&of, progress).await? {
                repair::apply_repair(&of, &plan).await?;
                repaired.push(plan);
            }
        }
        Ok(repaired)
    }

    /// Plans how to rebuild the indexes of a shard's archive from its segments. The plan is empty
    /// if no index is missing. Writes nothing.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn plan_index_repair(&self, shard: &ShardName) -> Result<Vec<IndexRepair>> {
        archive::plan_rebuild(&self.archive(shard)).await
    }

    /// Rebuilds the indexes that [`Repository::plan_index_repair`] shows as possible, and returns
    /// that plan. Holds the leases of the shard and of its archive during the repair. Deletes
    /// nothing.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if a living run holds one of them; and the errors of
    /// [`Repository::acquire_lease`].
    pub async fn repair_indexes(&self, shard: &ShardName) -> Result<Vec<IndexRepair>> {
        let shown = self.plan_index_repair(shard).await?;
        if shown.iter().all(|repair| repair.cannot.is_some()) {
            return Ok(shown);
        }
        // The first lease keeps a prune away, the second an archiver.
        let writer = self.acquire_lease(shard, "repair").await?;
        let archive = self.claim_archive_for(shard, "repair").await?;
        let rebuilt = archive::rebuild(archive.reader()).await;
        archive.release().await?;
        writer.release().await?;
        rebuilt
    }

    fn archive_reader(&self, log: &ShardLog) -> ArchiveReader {
        ArchiveReader::new(log.store.clone(), log.keys.archive(), log.shard.clone())
    }

    /// Ensures that the repository exists and that its store can be written to safely.
    async fn made(&self) -> Result<Cipher> {
        if let Some(found) = self.found() {
            let id = repo_header::require_writable(&self.plain()).await?;
            if found.id.is_some_and(|known| known != id) {
                return Err(Error::refused(format!("cannot write to the repository: {id} is in its place"))
                    .hint("check what is mounted there, then repeat"));
            }
            let (probed, ()) = futures::join!(self.probe(), self.mend_wrapped_key(&found.cipher));
            return probed.map(|()| found.cipher);
        }
        if let Some(location) = &self.shared.location {
            backend::make_directory(location)?;
        }
        self.probe().await?;
        let (cipher, id) = repo_header::create_header(&self.plain(), self.shared.key.as_ref()).await?;
        if let Some(local_store) = &self.shared.local_store {
            local_store.expect(id);
        }
        if let Ok(mut known) = self.shared.found.write() {
            *known = Some(Discovery { cipher: cipher.clone(), id });
        }
        Ok(cipher)
    }

    fn found(&self) -> Option<Discovery> {
        self.shared.found.read().ok().and_then(|found| found.clone())
    }

    fn cipher(&self) -> Option<Cipher> {
        self.found().map(|found| found.cipher)
    }

    /// Returns the store of the objects that are never encrypted.
    fn plain(&self) -> EncryptedStore {
        self.encrypted(Cipher::Plain)
    }

    fn encrypted(&self, cipher: Cipher) -> EncryptedStore {
        EncryptedStore { backend: self.shared.store.clone(), cipher, host: self.shared.host.clone() }
    }

    fn log(&self, shard: &ShardName, cipher: Cipher) -> ShardLog {
        let keys = ShardKeys::new(shard, &cipher);
        let local_store = self.shared.local_store.clone();
        ShardLog { store: self.encrypted(cipher), keys, shard: shard.clone(), local_store }
    }
}

fn absent(location: &Location) -> Error {
    let message = match location.id {
        Some(id) => format!("it does not exist, but the configuration names {id}"),
        None => "it does not exist".to_owned(),
    };
    let is_file = location.url.starts_with("file://");
    Error::new(ErrorKind::NotRecoverable, message).hint(match (location.id, is_file) {
        (Some(_), true) => "check that its volume is mounted (`repository.id` prevents a new one)",
        (Some(_), false) => "correct `repository.url` (`repository.id` prevents a new one)",
        (None, true) => "run `backstop init` to create it; if it existed, check that its volume is mounted",
        (None, false) => "run `backstop init` to create it; if it existed, correct `repository.url`",
    })
}
