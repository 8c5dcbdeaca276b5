//! The door to a repository.

use std::sync::{Arc, RwLock};

use backstop_model::error::{Error, ErrorKind, Result};
use backstop_model::ids::ShardName;
use backstop_model::run_history::{Operation, RunRecord};
use backstop_model::settings::CreateRepository;
use futures::future::try_join_all;
use object_store::ObjectStore;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::backend::{ConnectedStore, ObjectLock};
use crate::crypto::Cipher;
use crate::encrypted_store::EncryptedStore;
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

/// An opened repository.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<RepositoryInner>,
}

struct RepositoryInner {
    store: Arc<dyn ObjectStore>,
    /// The directory it is in, if it is in one.
    local_store: Option<LocalStore>,
    /// `None` for a store that was handed in.
    location: Option<Location>,
    key: Option<RepoKey>,
    /// `None` while nothing is stored.
    found: RwLock<Option<Discovery>>,
    probed: OnceCell<()>,
    object_lock: ObjectLock,
}

/// How a repository was found.
#[derive(Clone)]
struct Discovery {
    cipher: Cipher,
    /// `None` where only its root object is lost.
    id: Option<Uuid>,
}

impl Repository {
    /// Opens a repository. Where there is none, that is no error only if the location lets the first claim make it.
    ///
    /// # Errors
    /// [`ErrorKind::NotRecoverable`] when there is none; [`ErrorKind::Refused`] when it is another than the location names;
    /// [`ErrorKind::Usage`] for a malformed location, a missing or a wrong key, or a key for a repository that is
    /// not encrypted; [`ErrorKind::Store`] when the bucket is missing or cannot be reached; [`ErrorKind::Denied`] when
    /// access is denied.
    pub async fn open(location: &Location, key: Option<&RepoKey>) -> Result<Self> {
        let opened = async {
            let repository = Self::look(backend::connect(location)?, Some(location.clone()), key).await?;
            match (repository.exists(), location.create, location.id) {
                (false, CreateRepository::IfEmpty, None) => Ok(repository),
                (false, ..) => Err(absent(location)),
                (true, ..) => repository.expect(location).map(|()| repository),
            }
        };
        opened.await.map_err(|error| error.during(format_args!("open repository {}", location.url)))
    }

    /// Makes a repository where there is none, and opens it. True if it was made now.
    ///
    /// # Errors
    /// As [`Repository::open`]; where the location names one that is not there, none is made.
    pub async fn init(location: &Location, key: Option<&RepoKey>) -> Result<(Self, bool)> {
        let create = if location.id.is_some() { CreateRepository::Never } else { CreateRepository::IfEmpty };
        let repository = Self::open(&Location { create, ..location.clone() }, key).await?;
        if repository.exists() {
            return Ok((repository, false));
        }
        let made = repository.made().await;
        made.map_err(|error| error.during(format_args!("make repository {}", location.url)))?;
        Ok((repository, true))
    }

    /// What tells it from any other. `None` while nothing is stored, and where its root object is lost.
    pub fn id(&self) -> Option<Uuid> {
        self.found().and_then(|found| found.id)
    }

    /// True if there is one: false until the first claim makes it.
    pub fn exists(&self) -> bool {
        self.found().is_some()
    }

    /// Opens a repository on any store, or makes it at the first claim: for tests, and for stores that are reached another way.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub async fn on(store: Arc<dyn ObjectStore>, key: Option<&RepoKey>) -> Result<Self> {
        Self::look(ConnectedStore { store, local_store: None, object_lock: ObjectLock::default() }, None, key)
            .await
    }

    async fn look(
        ConnectedStore { store, local_store, object_lock }: ConnectedStore,
        location: Option<Location>,
        key: Option<&RepoKey>,
    ) -> Result<Self> {
        let found = match repo_header::read_header(&store, key).await? {
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
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Ok unless the location names another repository than this.
    fn expect(&self, location: &Location) -> Result<()> {
        match (location.id, self.id()) {
            (Some(named), Some(id)) if named != id => Err(Error::refused(format!(
                "it is repository {id}, and the configuration names {named}"
            ))
            .hint("correct `repository.url`, or `repository.id` if this one is meant; is another volume mounted there?")),
            _ => Ok(()),
        }
    }

    /// Finds out whether its store can be written to safely, by writing an object and removing it.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when the store cannot keep two runs apart; [`ErrorKind::Denied`] when it may not be written to.
    pub async fn probe(&self) -> Result<()> {
        let plain = EncryptedStore { backend: self.shared.store.clone(), cipher: Cipher::Plain };
        self.shared
            .probed
            .get_or_try_init(|| conditional_put::probe_conditional_put(&plain))
            .await
            .map(|_| ())
    }

    /// The mode in which its bucket keeps objects (Object Lock), found by writing an object and removing it. `None` for a directory, for a
    /// bucket that keeps nothing, and where the account may not know (`s3:GetObjectRetention`).
    ///
    /// # Errors
    /// The store's.
    pub async fn object_lock(&self) -> Result<Option<String>> {
        if self.shared.local_store.is_some() {
            return Ok(None);
        }
        let plain = EncryptedStore { backend: self.shared.store.clone(), cipher: Cipher::Plain };
        conditional_put::probe_object_lock(&plain).await?;
        Ok(self.shared.object_lock.get().cloned())
    }

    /// A reader of one shard. It needs read access only.
    pub fn reader(&self, shard: &ShardName) -> ShardReader {
        // While nothing is stored it makes no difference how names are sealed: there is nothing to find.
        ShardReader { log: self.log(shard, self.cipher().unwrap_or(Cipher::Plain)) }
    }

    /// The last runs of the commands that write for a shard: newest first within each operation.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs(&self, shard: &ShardName) -> Result<Vec<RunRecord>> {
        let Some(cipher) = self.cipher() else { return Ok(Vec::new()) };
        let log = self.log(shard, cipher);
        let read = Operation::ALL.map(|operation| run_history::read_runs(&log, operation));
        Ok(try_join_all(read).await?.into_iter().flatten().collect())
    }

    /// Writes down how a run stands; nothing while there is no repository. It needs no claim.
    ///
    /// # Errors
    /// The store's.
    pub async fn note_run(&self, shard: &ShardName, run: RunRecord) -> Result<()> {
        let Some(cipher) = self.cipher() else { return Ok(()) };
        run_history::store_run(&self.log(shard, cipher), run).await
    }

    /// The shards that have something stored, sorted.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when the log of one cannot be read.
    pub async fn shards(&self) -> Result<Vec<ShardName>> {
        let Some(cipher) = self.cipher() else { return Ok(Vec::new()) };
        let store = EncryptedStore { backend: self.shared.store.clone(), cipher };
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

    /// Claims a shard for writing. Waits up to 15 s to find out whether another holder is alive.
    /// `operation` is told to others who want the shard meanwhile: `backup`, `prune`, …
    ///
    /// # Errors
    /// [`ErrorKind::Held`] when a living run holds the shard, naming it; [`ErrorKind::Refused`] when the store ignores
    /// conditional puts; [`ErrorKind::Damaged`] when the newest entry of the shard's log is damaged.
    pub async fn acquire_lease(&self, shard: &ShardName, operation: &str) -> Result<ShardWriter> {
        let cipher = self.made().await?;
        let log = self.log(shard, cipher);
        let lease = lease::acquire(&log, operation).await?;
        let heartbeat = HeartbeatTask::begin(&log, lease.number).await?;
        Ok(ShardWriter::new(ShardReader { log }, lease, heartbeat))
    }

    /// A reader of one shard's archive. It needs read access only.
    pub fn archive(&self, shard: &ShardName) -> ArchiveReader {
        self.archive_reader(&self.log(shard, self.cipher().unwrap_or(Cipher::Plain)))
    }

    /// Claims the archive of a shard for writing: one archiver for each shard. It has nothing to do with the claim on the shard's
    /// backups. Waits up to 15 s to find out whether another holder is alive.
    ///
    /// # Errors
    /// As [`Repository::claim`].
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

    /// Shows how the logs of a shard would be repaired, of its backups and of its archive: nothing for one that is whole. Writes nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn plan_repair(&self, shard: &ShardName, progress: OnProgress<'_>) -> Result<Vec<LogRepair>> {
        let reader = self.reader(shard);
        let leases = ShardLog { keys: reader.log.keys.archive().leases(), ..reader.log.clone() };
        let backups = repair::plan_repair(&LogOwner::Backups(&reader), progress).await?;
        let archive = repair::plan_repair(&LogOwner::Archive(&leases), progress).await?;
        Ok(backups.into_iter().chain(archive).collect())
    }

    /// Repairs what [`Repository::plan_repair`] shows, and gives that. Deletes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] when a living run holds a log, or wrote to it first; as [`Repository::claim`].
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

    /// Shows how the indexes of a shard's archive would be rebuilt from its segments: nothing if all are there. Writes nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn plan_index_repair(&self, shard: &ShardName) -> Result<Vec<IndexRepair>> {
        archive::plan_rebuild(&self.archive(shard)).await
    }

    /// Rebuilds what [`Repository::plan_index_repair`] shows and says can be, and gives that. Holds the claims of the shard and of its archive
    /// meanwhile. Deletes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] when a living run holds one of them; as [`Repository::claim`].
    pub async fn repair_indexes(&self, shard: &ShardName) -> Result<Vec<IndexRepair>> {
        let shown = self.plan_index_repair(shard).await?;
        if shown.iter().all(|repair| repair.cannot.is_some()) {
            return Ok(shown);
        }
        // The first keeps a prune away, the second an archiver.
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

    /// Wraps the data key with another key instead of the one this repository was opened with. What is stored
    /// stays as it is. Open the repository with the new key from then on.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the repository is not encrypted.
    pub async fn rewrap(&self, new: &RepoKey) -> Result<()> {
        match (self.cipher(), &self.shared.key) {
            (Some(cipher), Some(old)) => repo_header::rewrap_key(&self.shared.store, &cipher, old, new).await,
            _ => Err(Error::new(
                ErrorKind::Usage,
                "the repository is not encrypted: there is no key to change",
            )),
        }
    }

    /// Makes sure that it exists and that its store can be written to safely.
    async fn made(&self) -> Result<Cipher> {
        if let Some(found) = self.found() {
            let id = repo_header::require_writable(&self.shared.store).await?;
            if found.id.is_some_and(|known| known != id) {
                return Err(Error::refused(format!("write to the repository: {id} is in its place"))
                    .hint("see what is mounted there, and begin again"));
            }
            self.probe().await?;
            return Ok(found.cipher);
        }
        if let Some(location) = &self.shared.location {
            backend::make_directory(location)?;
        }
        self.probe().await?;
        let (cipher, id) = repo_header::create_header(&self.shared.store, self.shared.key.as_ref()).await?;
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

    fn log(&self, shard: &ShardName, cipher: Cipher) -> ShardLog {
        let keys = ShardKeys::new(shard, &cipher);
        let local_store = self.shared.local_store.clone();
        ShardLog {
            store: EncryptedStore { backend: self.shared.store.clone(), cipher },
            keys,
            shard: shard.clone(),
            local_store,
        }
    }
}

fn absent(location: &Location) -> Error {
    let message = match location.id {
        Some(id) => format!("there is none, and the configuration names {id}"),
        None => "there is none".to_owned(),
    };
    let is_file = location.url.starts_with("file://");
    Error::new(ErrorKind::NotRecoverable, message).hint(match (location.id, is_file) {
        (Some(_), true) => "is its volume mounted? (`repository.id` keeps another from being made)",
        (Some(_), false) => "correct `repository.url` (`repository.id` keeps another from being made)",
        (None, true) => "`backstop init` makes it; if there was one, is its volume mounted?",
        (None, false) => "`backstop init` makes it; if there was one, correct `repository.url`",
    })
}
