//! The door to a repository.

use std::sync::{Arc, RwLock};

use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::ids::ShardName;
use backstop_model::runs::{Operation, Run};
use backstop_model::settings::CreateRepository;
use futures::future::try_join_all;
use object_store::ObjectStore;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::claim::{self, Life};
use crate::held::Held;
use crate::keys::{SHARDS, ShardKeys};
use crate::log::Log;
use crate::repair::{self, LogRepair, Of};
use crate::root::{self, Kept};
use crate::seal::Seal;
use crate::shelf::Shelf;
use crate::store::{ObjectLock, Reached};
use crate::{
    ArchiveReader, ArchiveWriter, IndexRepair, Location, OnProgress, Reader, RepoKey, Writer, archive, probe,
    runs, store,
};

/// An opened repository.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    /// The directory it is in, if it is in one.
    held: Option<Held>,
    /// `None` for a store that was handed in.
    location: Option<Location>,
    key: Option<RepoKey>,
    /// `None` while nothing is stored.
    found: RwLock<Option<Found>>,
    probed: OnceCell<()>,
    object_lock: ObjectLock,
}

/// How a repository was found.
#[derive(Clone)]
struct Found {
    seal: Seal,
    /// `None` where only its root object is lost.
    id: Option<Uuid>,
}

impl Repository {
    /// Opens a repository. Where there is none, that is no error only if the location lets the first claim make it.
    ///
    /// # Errors
    /// [`Kind::NotRecoverable`] when there is none; [`Kind::Refused`] when it is another than the location names;
    /// [`Kind::Usage`] for a malformed location, a missing or a wrong key, or a key for a repository that is
    /// not encrypted; [`Kind::Store`] when the bucket is missing or cannot be reached; [`Kind::Denied`] when
    /// access is denied.
    pub async fn open(location: &Location, key: Option<&RepoKey>) -> Result<Self> {
        let opened = async {
            let repository = Self::look(store::connect(location)?, Some(location.clone()), key).await?;
            match (repository.exists(), location.create, location.id) {
                (false, CreateRepository::IfEmpty, None) => Ok(repository),
                (false, ..) => Err(absent(location)),
                (true, ..) => repository.expect(location).map(|()| repository),
            }
        };
        opened.await.map_err(|fault| fault.during(format_args!("open repository {}", location.url)))
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
        made.map_err(|fault| fault.during(format_args!("make repository {}", location.url)))?;
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
        Self::look(Reached { store, held: None, object_lock: ObjectLock::default() }, None, key).await
    }

    async fn look(
        Reached { store, held, object_lock }: Reached,
        location: Option<Location>,
        key: Option<&RepoKey>,
    ) -> Result<Self> {
        let found = match root::look(&store, key).await? {
            Kept::Sealed(seal, id) => Some(Found { seal, id }),
            Kept::Nothing => None,
        };
        if let (Some(held), Some(found)) = (&held, &found) {
            held.expect(found.id);
        }
        let (key, found) = (key.cloned(), RwLock::new(found));
        let shared = Shared { store, held, location, key, found, probed: OnceCell::new(), object_lock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Ok unless the location names another repository than this.
    fn expect(&self, location: &Location) -> Result<()> {
        match (location.id, self.id()) {
            (Some(named), Some(id)) if named != id => Err(Fault::refused(format!(
                "it is repository {id}, and the configuration names {named}"
            ))
            .hint("correct `repository.url`, or `repository.id` if this one is meant; is another volume mounted there?")),
            _ => Ok(()),
        }
    }

    /// Finds out whether its store can be written to safely, by writing an object and removing it.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the store cannot keep two runs apart; [`Kind::Denied`] when it may not be written to.
    pub async fn probe(&self) -> Result<()> {
        let plain = Shelf { store: self.shared.store.clone(), seal: Seal::Plain };
        self.shared.probed.get_or_try_init(|| probe::probe(&plain)).await.map(|_| ())
    }

    /// The mode in which its bucket keeps objects (Object Lock), found by writing an object and removing it. `None` for a directory, for a
    /// bucket that keeps nothing, and where the account may not know (`s3:GetObjectRetention`).
    ///
    /// # Errors
    /// The store's.
    pub async fn object_lock(&self) -> Result<Option<String>> {
        if self.shared.held.is_some() {
            return Ok(None);
        }
        let plain = Shelf { store: self.shared.store.clone(), seal: Seal::Plain };
        probe::tell(&plain).await?;
        Ok(self.shared.object_lock.get().cloned())
    }

    /// A reader of one shard. It needs read access only.
    pub fn reader(&self, shard: &ShardName) -> Reader {
        // While nothing is stored it makes no difference how names are sealed: there is nothing to find.
        Reader { log: self.log(shard, self.seal().unwrap_or(Seal::Plain)) }
    }

    /// The last runs of the commands that write for a shard: newest first within each operation.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs(&self, shard: &ShardName) -> Result<Vec<Run>> {
        let Some(seal) = self.seal() else { return Ok(Vec::new()) };
        let log = self.log(shard, seal);
        let read = Operation::ALL.map(|operation| runs::read(&log, operation));
        Ok(try_join_all(read).await?.into_iter().flatten().collect())
    }

    /// Writes down how a run stands; nothing while there is no repository. It needs no claim.
    ///
    /// # Errors
    /// The store's.
    pub async fn note_run(&self, shard: &ShardName, run: Run) -> Result<()> {
        let Some(seal) = self.seal() else { return Ok(()) };
        runs::note(&self.log(shard, seal), run).await
    }

    /// The shards that have something stored, sorted.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the log of one cannot be read.
    pub async fn shards(&self) -> Result<Vec<ShardName>> {
        let Some(seal) = self.seal() else { return Ok(Vec::new()) };
        let shelf = Shelf { store: self.shared.store.clone(), seal };
        let mut shards = Vec::new();
        for directory in shelf.directories(SHARDS).await? {
            let keys = ShardKeys::of_directory(&directory);
            if let Some(shard) = crate::log::shard_of(&shelf, &keys).await? {
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
    /// [`Kind::Held`] when a living run holds the shard, naming it; [`Kind::Refused`] when the store ignores
    /// conditional puts; [`Kind::Damaged`] when the newest entry of the shard's log is damaged.
    pub async fn claim(&self, shard: &ShardName, operation: &str) -> Result<Writer> {
        let seal = self.made().await?;
        let log = self.log(shard, seal);
        let claim = claim::claim(&log, operation).await?;
        let life = Life::begin(&log, claim.number).await?;
        Ok(Writer::new(Reader { log }, claim, life))
    }

    /// A reader of one shard's archive. It needs read access only.
    pub fn archive(&self, shard: &ShardName) -> ArchiveReader {
        self.archive_reader(&self.log(shard, self.seal().unwrap_or(Seal::Plain)))
    }

    /// Claims the archive of a shard for writing: one archiver for each shard. It has nothing to do with the claim on the shard's
    /// backups. Waits up to 15 s to find out whether another holder is alive.
    ///
    /// # Errors
    /// As [`Repository::claim`].
    pub async fn claim_archive(&self, shard: &ShardName) -> Result<ArchiveWriter> {
        self.claim_archive_for(shard, "archive").await
    }

    async fn claim_archive_for(&self, shard: &ShardName, operation: &str) -> Result<ArchiveWriter> {
        let seal = self.made().await?;
        let log = self.log(shard, seal);
        let reader = self.archive_reader(&log);
        archive::claim(reader, Log { keys: log.keys.archive().claims(), ..log }, operation).await
    }

    /// Shows how the logs of a shard would be repaired, of its backups and of its archive: nothing for one that is whole. Writes nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn plan_repair(&self, shard: &ShardName, progress: OnProgress<'_>) -> Result<Vec<LogRepair>> {
        let reader = self.reader(shard);
        let claims = Log { keys: reader.log.keys.archive().claims(), ..reader.log.clone() };
        let backups = repair::plan(&Of::Backups(&reader), progress).await?;
        let archive = repair::plan(&Of::Archive(&claims), progress).await?;
        Ok(backups.into_iter().chain(archive).collect())
    }

    /// Repairs what [`Repository::plan_repair`] shows, and gives that. Deletes nothing.
    ///
    /// # Errors
    /// [`Kind::Held`] when a living run holds a log, or wrote to it first; as [`Repository::claim`].
    pub async fn repair(&self, shard: &ShardName, progress: OnProgress<'_>) -> Result<Vec<LogRepair>> {
        let log = self.log(shard, self.made().await?);
        let claims = Log { keys: log.keys.archive().claims(), ..log.clone() };
        let reader = Reader { log };
        let mut repaired = Vec::new();
        for of in [Of::Backups(&reader), Of::Archive(&claims)] {
            if let Some(plan) = repair::plan(&of, progress).await? {
                repair::apply(&of, &plan).await?;
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
    /// [`Kind::Held`] when a living run holds one of them; as [`Repository::claim`].
    pub async fn repair_indexes(&self, shard: &ShardName) -> Result<Vec<IndexRepair>> {
        let shown = self.plan_index_repair(shard).await?;
        if shown.iter().all(|repair| repair.cannot.is_some()) {
            return Ok(shown);
        }
        // The first keeps a prune away, the second an archiver.
        let writer = self.claim(shard, "repair").await?;
        let archive = self.claim_archive_for(shard, "repair").await?;
        let rebuilt = archive::rebuild(archive.reader()).await;
        archive.release().await?;
        writer.release().await?;
        rebuilt
    }

    fn archive_reader(&self, log: &Log) -> ArchiveReader {
        ArchiveReader::new(log.shelf.clone(), log.keys.archive(), log.shard.clone())
    }

    /// Wraps the data key with another key instead of the one this repository was opened with. What is stored
    /// stays as it is. Open the repository with the new key from then on.
    ///
    /// # Errors
    /// [`Kind::Usage`] when the repository is not encrypted.
    pub async fn rewrap(&self, new: &RepoKey) -> Result<()> {
        match (self.seal(), &self.shared.key) {
            (Some(seal), Some(old)) => root::rewrap(&self.shared.store, &seal, old, new).await,
            _ => Err(Fault::new(Kind::Usage, "the repository is not encrypted: there is no key to change")),
        }
    }

    /// Makes sure that it exists and that its store can be written to safely.
    async fn made(&self) -> Result<Seal> {
        if let Some(found) = self.found() {
            let id = root::writable(&self.shared.store).await?;
            if found.id.is_some_and(|known| known != id) {
                return Err(Fault::refused(format!("write to the repository: {id} is in its place"))
                    .hint("see what is mounted there, and begin again"));
            }
            self.probe().await?;
            return Ok(found.seal);
        }
        if let Some(location) = &self.shared.location {
            store::make_directory(location)?;
        }
        self.probe().await?;
        let (seal, id) = root::make(&self.shared.store, self.shared.key.as_ref()).await?;
        if let Some(held) = &self.shared.held {
            held.expect(id);
        }
        if let Ok(mut known) = self.shared.found.write() {
            *known = Some(Found { seal: seal.clone(), id });
        }
        Ok(seal)
    }

    fn found(&self) -> Option<Found> {
        self.shared.found.read().ok().and_then(|found| found.clone())
    }

    fn seal(&self) -> Option<Seal> {
        self.found().map(|found| found.seal)
    }

    fn log(&self, shard: &ShardName, seal: Seal) -> Log {
        let keys = ShardKeys::new(shard, &seal);
        let held = self.shared.held.clone();
        Log { shelf: Shelf { store: self.shared.store.clone(), seal }, keys, shard: shard.clone(), held }
    }
}

fn absent(location: &Location) -> Fault {
    let message = match location.id {
        Some(id) => format!("there is none, and the configuration names {id}"),
        None => "there is none".to_owned(),
    };
    let is_file = location.url.starts_with("file://");
    Fault::new(Kind::NotRecoverable, message).hint(match (location.id, is_file) {
        (Some(_), true) => "is its volume mounted? (`repository.id` keeps another from being made)",
        (Some(_), false) => "correct `repository.url` (`repository.id` keeps another from being made)",
        (None, true) => "`backstop init` makes it; if there was one, is its volume mounted?",
        (None, false) => "`backstop init` makes it; if there was one, correct `repository.url`",
    })
}
