//! Writes to one shard under its lease.

use std::time::Duration;

use backstop_types::adopted::Adopted;
use backstop_types::backup::{BackupFacts, Lineage, Sizes};
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::BackupId;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};

use crate::lease::HeartbeatTask;
use crate::object::{ObjectError, ObjectKind};
use crate::shard_log::{Lease, LogEvent, ShardState};
use crate::store_tree::{StoreTree, StoredTree};
use crate::{
    ArchivePrunePlan, ArchiveReader, ArchiveView, CatalogEntry, Condemned, Manifest, ObjectRef, OnProgress,
    ShardReader, Storage, Tree, archive, store_clock,
};

/// Number of objects checked at a time before a commit.
const PARALLEL_HEADS: usize = 16;

/// Holder of the lease of one shard. If it is dropped without [`ShardWriter::release`], it only
/// stops its heartbeat.
pub struct ShardWriter {
    pub(crate) reader: ShardReader,
    pub(crate) lease: Lease,
    heartbeat: HeartbeatTask,
    attempts: u64,
    packs: u64,
}

/// Stored tree that is not committed yet.
#[derive(Debug)]
pub struct StoredBackup {
    saved: StoredTree,
    parent: Option<BackupId>,
    attempt: u64,
}

impl StoredBackup {
    /// Returns the location of its data.
    pub fn storage(&self) -> &Storage {
        &self.saved.storage
    }

    /// Returns the number of the parent's packs that are missing or damaged. Their blocks were
    /// stored again.
    pub fn lost_packs(&self) -> u64 {
        self.saved.lost_packs
    }

    /// Returns the sizes. `stored_bytes` lacks the manifest, which the commit writes.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            data_bytes: self.saved.data_bytes,
            changed_bytes: self.saved.changed_bytes,
            stored_bytes: self.saved.objects.iter().map(|object| object.size).sum(),
        }
    }
}

impl ShardWriter {
    pub(crate) fn new(reader: ShardReader, lease: Lease, heartbeat: HeartbeatTask) -> Self {
        Self { reader, lease, heartbeat, attempts: 0, packs: 0 }
    }

    /// Returns a reader of the same shard.
    pub fn reader(&self) -> &ShardReader {
        &self.reader
    }

    /// Returns the manifest of the newest usable backup of the same server and volume: the parent
    /// of an increment. Skips a backup whose manifest or index is damaged.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn newest_of(&self, lineage: &Lineage) -> Result<Option<Manifest>> {
        let same = |entry: &&CatalogEntry| {
            let other = &entry.facts.lineage;
            other.server_uuid == lineage.server_uuid && other.volume == lineage.volume
        };
        let found = self.reader.found().await?;
        let catalog = self.reader.catalog().await?;
        for entry in catalog.iter().rev().filter(same) {
            let base = entry.manifest.key.strip_suffix("manifest").unwrap_or(&entry.manifest.key);
            let known = found.damaged.iter().any(|damage| damage.object.starts_with(base));
            if known || found.more_backups.contains(&entry.facts.backup_id) {
                continue;
            }
            match self.reader.manifest_of(entry).await {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(ObjectError::Store(error)) => return Err(error),
                Err(error) => tracing::warn!("{}; using an older backup as the parent", Error::from(error)),
            }
        }
        Ok(None)
    }

    /// Stores a tree: all of it, or its difference from the parent. Nothing is visible before the
    /// commit.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Failed`] if a file cannot be read as announced; [`ErrorKind::Damaged`]
    /// if the parent's index is damaged; [`ErrorKind::Store`] if the store fails.
    pub async fn store(
        &mut self,
        tree: &Tree,
        parent: Option<&Manifest>,
        progress: OnProgress<'_>,
    ) -> Result<StoredBackup> {
        self.attempts += 1;
        let found = self.reader.found().await?;
        let known = found.damaged.into_iter().map(|damage| damage.object).collect();
        let save = StoreTree {
            store: &self.reader.log.store,
            keys: &self.reader.log.keys,
            lease: self.lease.number,
            attempt: self.attempts,
            first_pack: self.packs,
            known: &known,
        };
        // Pack numbers are never used twice, whatever the outcome of this attempt.
        self.packs += 1 << 32;
        let saved = save.run(tree, parent, progress).await?;
        Ok(StoredBackup {
            saved,
            parent: parent.map(|parent| parent.facts.backup_id.clone()),
            attempt: self.attempts,
        })
    }

    /// Returns a backup whose data is in snapshots of block volumes.
    pub fn store_ebs(
        &mut self,
        snapshot_ids: Vec<String>,
        region: String,
        volumes: Vec<EbsVolume>,
        sizes: Sizes,
    ) -> StoredBackup {
        self.attempts += 1;
        let saved = StoredTree {
            storage: Storage::Ebs { snapshot_ids, region, volumes },
            data_bytes: sizes.data_bytes,
            changed_bytes: sizes.changed_bytes,
            lost_packs: 0,
            objects: Vec::new(),
        };
        StoredBackup { saved, parent: None, attempt: self.attempts }
    }

    /// Commits a stored tree as a backup, after checking that the store has every object of it.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if another run has acquired the shard's lease since;
    /// [`ErrorKind::Store`] if an object is missing. Nothing is committed in either case.
    pub async fn commit(&mut self, facts: BackupFacts, stored: StoredBackup) -> Result<CatalogEntry> {
        let (id, sizes) = (facts.backup_id.clone(), stored.sizes());
        let storage = stored.saved.storage;
        let manifest = Manifest { facts, parent: stored.parent, sizes, storage };
        let key = self.reader.log.keys.backup(self.lease.number, stored.attempt, "manifest");
        let reference = self.reader.log.store.put(ObjectKind::Manifest, &key, &manifest).await?;
        let mut objects = stored.saved.objects;
        objects.push(reference.clone());
        self.arrived(&objects).await?;
        self.heartbeat.shown()?;
        let sizes = Sizes { stored_bytes: sizes.stored_bytes + reference.size, ..sizes };
        let entry =
            CatalogEntry { facts: manifest.facts, parent: manifest.parent, sizes, manifest: reference };
        self.append(LogEvent::Commit { backup: id }, &|state| {
            if state.backups.iter().any(|other| other.facts.backup_id == entry.facts.backup_id) {
                return Err(Error::failed(format!("backup {} is already committed", entry.facts.backup_id)));
            }
            state.backups.push(entry.clone());
            Ok(())
        })
        .await?;
        Ok(entry)
    }

    /// Checks that every object exists with its size: this detects a store that reported success
    /// and lost one.
    async fn arrived(&self, objects: &[ObjectRef]) -> Result<()> {
        let looks = objects.iter().map(|object| async move {
            let size = self.reader.log.store.size(&object.key).await?;
            if size == Some(object.size) {
                return Ok(());
            }
            let found = size.map_or("nothing".to_owned(), |size| format!("{size} bytes"));
            let message = format!(
                "cannot verify {}: the store has {found}, but {} bytes were written",
                object.key, object.size
            );
            Err(Error::new(ErrorKind::Store, message)
                .hint("check the store: it lost data that it reported as written; nothing was committed"))
        });
        futures::stream::iter(looks).buffer_unordered(PARALLEL_HEADS).try_collect().await
    }

    /// Deletes backups: they are no longer listed, and a later garbage collection removes their
    /// objects.
    ///
    /// # Errors
    /// Returns [`ErrorKind::NotRecoverable`] if one of them does not exist; in that case, none is
    /// deleted.
    pub async fn condemn(&mut self, ids: &[BackupId], now: DateTime<Utc>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let shard = &self.reader.log.shard;
        self.append(LogEvent::Condemn { backups: ids.to_vec() }, &|state| {
            for id in ids {
                let at = state.backups.iter().position(|entry| entry.facts.backup_id == *id);
                let at = at.ok_or_else(|| {
                    Error::new(
                        ErrorKind::NotRecoverable,
                        format!("cannot delete backup {id}: shard {shard} has no such backup"),
                    )
                })?;
                let entry = state.backups.remove(at);
                state.condemned.push(Condemned { entry, at: now });
            }
            Ok(())
        })
        .await
    }

    /// Binds the shard's name to another history.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if another run has acquired the shard's lease since.
    pub async fn adopt(&mut self, adopted: Adopted) -> Result<()> {
        self.append(LogEvent::Adopt, &|state| {
            state.adopted = Some(adopted.clone());
            Ok(())
        })
        .await
    }

    /// Returns the store's time, which decides every deletion by age. `here` is the time by the
    /// clock of this host.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Refused`] if the two differ by more than five minutes, or if the log
    /// entry before this lease has a later time.
    pub async fn agreed_time(&self, here: DateTime<Utc>) -> Result<DateTime<Utc>> {
        let store = self.heartbeat.arrival().await?;
        let last = match self.reader.log.entry(self.lease.number - 1).await {
            Ok(entry) => Some(entry.at),
            Err(ObjectError::Store(error)) => return Err(error),
            Err(_) => None,
        };
        store_clock::agreed_time(here, store, last)
    }

    /// Undoes the deletion of backups whose grace period is not over.
    ///
    /// # Errors
    /// Returns [`ErrorKind::NotRecoverable`] if one of them was not deleted, or not within the
    /// grace period; in that case, none is restored to the list.
    pub async fn undo(&mut self, ids: &[BackupId], now: DateTime<Utc>, grace: Duration) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let shard = &self.reader.log.shard;
        self.append(LogEvent::Undo { backups: ids.to_vec() }, &|state| {
            for id in ids {
                let refuse = |why: &str| {
                    let message = format!("cannot undo the deletion of backup {id} of shard {shard}: {why}");
                    Error::new(ErrorKind::NotRecoverable, message)
                };
                let at = state.condemned.iter().position(|other| other.entry.facts.backup_id == *id);
                let at = at.ok_or_else(|| refuse("it is not among the deleted backups"))?;
                if store_clock::is_grace_over(state.condemned[at].at, now, grace) {
                    return Err(refuse("its grace period is over, and its data may be gone"));
                }
                let entry = state.condemned.remove(at).entry;
                // In the order of the commits: the lease's number is in the name of the manifest.
                let after = state.backups.partition_point(|other| other.manifest.key < entry.manifest.key);
                state.backups.insert(after, entry);
            }
            Ok(())
        })
        .await
    }

    /// Reads the archive once, as the basis of a plan to prune it.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn archive_view(&self) -> Result<ArchiveView> {
        ArchiveView::read(&self.archive(), self.reader.log.local_store.as_ref()).await
    }

    /// Executes the plan.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if another run has acquired the shard's lease since, or prunes.
    pub async fn prune_archive(&self, plan: ArchivePrunePlan) -> Result<()> {
        self.reader.log.still_held(self.lease.number).await?;
        archive::prune_archive(&self.archive(), self.reader.log.local_store.as_ref(), plan).await
    }

    fn archive(&self) -> ArchiveReader {
        let log = &self.reader.log;
        ArchiveReader::new(log.store.clone(), log.keys.archive(), log.shard.clone())
    }

    /// Releases the shard.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if another run has acquired its lease since.
    pub async fn release(self) -> Result<()> {
        self.append(LogEvent::Release, &|state| {
            state.lease = None;
            Ok(())
        })
        .await
    }

    /// Appends to the log under this lease, and records the log's length in the heartbeat.
    pub(crate) async fn append(
        &self,
        event: LogEvent,
        change: &(dyn Fn(&mut ShardState) -> Result<()> + Send + Sync),
    ) -> Result<()> {
        let entry = self.reader.log.append_under(self.lease.number, &event, change).await?;
        if let Err(error) = self.heartbeat.known(entry.number).await {
            tracing::warn!("cannot write the heartbeat: {error}");
        }
        Ok(())
    }
}
