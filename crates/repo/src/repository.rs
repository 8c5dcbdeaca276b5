//! The door to a repository.

use std::sync::{Arc, RwLock};

use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::ids::ShardName;
use object_store::ObjectStore;
use tokio::sync::OnceCell;

use crate::claim::{self, Life};
use crate::keys::{SHARDS, ShardKeys};
use crate::log::Log;
use crate::root::{self, Kept};
use crate::seal::Seal;
use crate::shelf::Shelf;
use crate::{ArchiveReader, ArchiveWriter, Location, Reader, RepoKey, Writer, archive, probe, staged, store};

/// An opened repository.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    /// `None` for a store that was handed in.
    location: Option<Location>,
    key: Option<RepoKey>,
    /// `None` while nothing is stored.
    seal: RwLock<Option<Seal>>,
    probed: OnceCell<()>,
}

impl Repository {
    /// Opens a repository. An empty or absent one is no error: the first claim makes it.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a malformed location, a missing or a wrong key, or a key for a repository that is
    /// not encrypted; [`Kind::Store`] when the bucket is missing or cannot be reached; [`Kind::Denied`] when
    /// access is denied.
    pub async fn open(location: &Location, key: Option<&RepoKey>) -> Result<Self> {
        let store = store::connect(location)?;
        Self::look(store, Some(location.clone()), key)
            .await
            .map_err(|fault| fault.during(format_args!("open repository {}", location.url)))
    }

    /// Opens a repository on any store: for tests, and for stores that are reached another way.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub async fn on(store: Arc<dyn ObjectStore>, key: Option<&RepoKey>) -> Result<Self> {
        Self::look(store, None, key).await
    }

    async fn look(
        store: Arc<dyn ObjectStore>,
        location: Option<Location>,
        key: Option<&RepoKey>,
    ) -> Result<Self> {
        let seal = match root::look(&store, key).await? {
            Kept::Sealed(seal) => Some(seal),
            Kept::Nothing => None,
        };
        let shared =
            Shared { store, location, key: key.cloned(), seal: RwLock::new(seal), probed: OnceCell::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A reader of one shard. It needs read access only.
    pub fn reader(&self, shard: &ShardName) -> Reader {
        // While nothing is stored it makes no difference how names are sealed: there is nothing to find.
        Reader { log: self.log(shard, self.seal().unwrap_or(Seal::Plain)) }
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
        let seal = self.made().await?;
        let log = self.log(shard, seal);
        let reader = self.archive_reader(&log);
        archive::claim(reader, Log { keys: log.keys.archive().claims(), ..log }).await
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
        let plain = Shelf { store: self.shared.store.clone(), seal: Seal::Plain };
        if let Some(location) = &self.shared.location {
            store::make_directory(location)?;
        }
        self.shared.probed.get_or_try_init(|| probe::probe(&plain)).await?;
        if let Some(seal) = self.seal() {
            root::check(&self.shared.store).await?;
            return Ok(seal);
        }
        let seal = root::make(&self.shared.store, self.shared.key.as_ref()).await?;
        if let Ok(mut known) = self.shared.seal.write() {
            *known = Some(seal.clone());
        }
        Ok(seal)
    }

    fn seal(&self) -> Option<Seal> {
        self.shared.seal.read().ok().and_then(|seal| seal.clone())
    }

    fn log(&self, shard: &ShardName, seal: Seal) -> Log {
        let keys = ShardKeys::new(shard, &seal);
        let directory = self.shared.location.as_ref().and_then(|location| staged::directory(&location.url));
        Log { shelf: Shelf { store: self.shared.store.clone(), seal }, keys, shard: shard.clone(), directory }
    }
}
