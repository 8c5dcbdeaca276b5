//! Writing to one shard, under its claim.

use std::time::Duration;

use backstop_model::backup::{BackupFacts, Lineage, Sizes};
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::identity::Adopted;
use backstop_model::ids::BackupId;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};

use crate::claim::Life;
use crate::log::{Claim, Event, State};
use crate::object::{ObjectFault, ObjectKind};
use crate::save::{Save, Saved};
use crate::{
    ArchivePrunePlan, ArchiveReader, ArchiveView, CatalogEntry, Condemned, Manifest, ObjectRef, OnProgress,
    Reader, Storage, SweepPlan, Swept, Tree, archive, clock, sweep,
};

/// Objects that are looked at together before a commit.
const LOOKS: usize = 16;

/// Holds the claim of one shard. Dropped without [`Writer::release`] it just stops its heartbeat.
pub struct Writer {
    pub(crate) reader: Reader,
    pub(crate) claim: Claim,
    life: Life,
    attempts: u64,
    packs: u64,
}

/// A tree that was stored and waits to be committed.
#[derive(Debug)]
pub struct Stored {
    saved: Saved,
    parent: Option<BackupId>,
    attempt: u64,
}

impl Stored {
    /// Where its data is.
    pub fn storage(&self) -> &Storage {
        &self.saved.storage
    }

    /// How many packs of the parent are missing or damaged: what they held was stored again.
    pub fn lost_packs(&self) -> u64 {
        self.saved.lost_packs
    }

    /// How much it is. `stored_bytes` lacks the manifest, which is written by the commit.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            data_bytes: self.saved.data_bytes,
            changed_bytes: self.saved.changed_bytes,
            stored_bytes: self.saved.objects.iter().map(|object| object.size).sum(),
        }
    }
}

impl Writer {
    pub(crate) fn new(reader: Reader, claim: Claim, life: Life) -> Self {
        Self { reader, claim, life, attempts: 0, packs: 0 }
    }

    /// Reads the same shard.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The manifest of the newest backup of the same server and volume that can be built upon: the parent of an increment. One whose
    /// manifest or index is damaged is passed over.
    ///
    /// # Errors
    /// The store's.
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
                Err(ObjectFault::Store(fault)) => return Err(fault),
                Err(fault) => tracing::warn!("{}: another backup is built upon", Fault::from(fault)),
            }
        }
        Ok(None)
    }

    /// Stores a tree: all of it, or what differs from the parent. Nothing is visible before the commit.
    ///
    /// # Errors
    /// [`Kind::Failed`] when a file cannot be read as it was announced; [`Kind::Damaged`] when the parent's
    /// index is; [`Kind::Store`] when the store fails.
    pub async fn store(
        &mut self,
        tree: &Tree,
        parent: Option<&Manifest>,
        progress: OnProgress<'_>,
    ) -> Result<Stored> {
        self.attempts += 1;
        let found = self.reader.found().await?;
        let known = found.damaged.into_iter().map(|damage| damage.object).collect();
        let save = Save {
            shelf: &self.reader.log.shelf,
            keys: &self.reader.log.keys,
            claim: self.claim.number,
            attempt: self.attempts,
            first_pack: self.packs,
            known: &known,
        };
        // Numbers of packs are not used twice, whatever becomes of this attempt.
        self.packs += 1 << 32;
        let saved = save.run(tree, parent, progress).await?;
        Ok(Stored {
            saved,
            parent: parent.map(|parent| parent.facts.backup_id.clone()),
            attempt: self.attempts,
        })
    }

    /// A backup whose data is in snapshots of block volumes.
    pub fn store_ebs(&mut self, snapshot_ids: Vec<String>, region: String, sizes: Sizes) -> Stored {
        self.attempts += 1;
        let saved = Saved {
            storage: Storage::Ebs { snapshot_ids, region },
            data_bytes: sizes.data_bytes,
            changed_bytes: sizes.changed_bytes,
            lost_packs: 0,
            objects: Vec::new(),
        };
        Stored { saved, parent: None, attempt: self.attempts }
    }

    /// Makes a stored tree a backup, after checking that every object of it has arrived.
    ///
    /// # Errors
    /// [`Kind::Held`] when another has claimed the shard since; [`Kind::Store`] when an object is missing.
    /// Nothing was committed then.
    pub async fn commit(&mut self, facts: BackupFacts, stored: Stored) -> Result<CatalogEntry> {
        let (id, sizes) = (facts.backup_id.clone(), stored.sizes());
        let storage = stored.saved.storage;
        let manifest = Manifest { facts, parent: stored.parent, sizes, storage };
        let key = self.reader.log.keys.backup(self.claim.number, stored.attempt, "manifest");
        let reference = self.reader.log.shelf.put(ObjectKind::Manifest, &key, &manifest).await?;
        let mut objects = stored.saved.objects;
        objects.push(reference.clone());
        self.arrived(&objects).await?;
        self.life.shown()?;
        let sizes = Sizes { stored_bytes: sizes.stored_bytes + reference.size, ..sizes };
        let entry =
            CatalogEntry { facts: manifest.facts, parent: manifest.parent, sizes, manifest: reference };
        self.append(Event::Commit { backup: id }, &|state| {
            if state.backups.iter().any(|other| other.facts.backup_id == entry.facts.backup_id) {
                return Err(Fault::failed(format!("backup {} is committed already", entry.facts.backup_id)));
            }
            state.backups.push(entry.clone());
            Ok(())
        })
        .await?;
        Ok(entry)
    }

    /// Every object is there, with its size: a store that reported success and lost one is found out.
    async fn arrived(&self, objects: &[ObjectRef]) -> Result<()> {
        let looks = objects.iter().map(|object| async move {
            let size = self.reader.log.shelf.size(&object.key).await?;
            if size == Some(object.size) {
                return Ok(());
            }
            let found = size.map_or("nothing".to_owned(), |size| format!("{size} bytes"));
            let message = format!(
                "check {}: the store has {found} where {} bytes were written",
                object.key, object.size
            );
            Err(Fault::new(Kind::Store, message)
                .hint("the store lost what it reported as written; nothing was committed"))
        });
        futures::stream::iter(looks).buffer_unordered(LOOKS).try_collect().await
    }

    /// Deletes backups: from now on they are not listed, and a later sweep removes their objects.
    ///
    /// # Errors
    /// [`Kind::NotRecoverable`] when one of them does not exist; none is deleted then.
    pub async fn condemn(&mut self, ids: &[BackupId], now: DateTime<Utc>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let shard = &self.reader.log.shard;
        self.append(Event::Condemn { backups: ids.to_vec() }, &|state| {
            for id in ids {
                let at = state.backups.iter().position(|entry| entry.facts.backup_id == *id);
                let at = at.ok_or_else(|| {
                    Fault::new(
                        Kind::NotRecoverable,
                        format!("delete backup {id}: shard {shard} has no such backup"),
                    )
                })?;
                let entry = state.backups.remove(at);
                state.condemned.push(Condemned { entry, at: now });
            }
            Ok(())
        })
        .await
    }

    /// Gives the shard's name to a history.
    ///
    /// # Errors
    /// [`Kind::Held`] when another has claimed the shard since.
    pub async fn adopt(&mut self, adopted: Adopted) -> Result<()> {
        self.append(Event::Adopt, &|state| {
            state.adopted = Some(adopted.clone());
            Ok(())
        })
        .await
    }

    /// The store's time, by which everything is deleted that is deleted by time. `here` is the time by the clock of this host.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the two differ by more than five minutes, or the entry of the log before this claim is of a later time.
    pub async fn agreed_time(&self, here: DateTime<Utc>) -> Result<DateTime<Utc>> {
        let store = self.life.arrival().await?;
        let last = match self.reader.log.entry(self.claim.number - 1).await {
            Ok(entry) => Some(entry.at),
            Err(ObjectFault::Store(fault)) => return Err(fault),
            Err(_) => None,
        };
        clock::agreed(here, store, last)
    }

    /// Takes back the deletion of backups whose grace is not over.
    ///
    /// # Errors
    /// [`Kind::NotRecoverable`] when one of them was not deleted, or not within the grace; none is taken back then.
    pub async fn undo(&mut self, ids: &[BackupId], now: DateTime<Utc>, grace: Duration) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let shard = &self.reader.log.shard;
        self.append(Event::Undo { backups: ids.to_vec() }, &|state| {
            for id in ids {
                let refuse = |why: &str| {
                    let message = format!("take back the deletion of backup {id} of shard {shard}: {why}");
                    Fault::new(Kind::NotRecoverable, message)
                };
                let at = state.condemned.iter().position(|other| other.entry.facts.backup_id == *id);
                let at = at.ok_or_else(|| refuse("it is not among those that were deleted"))?;
                if sweep::is_over(state.condemned[at].at, now, grace) {
                    return Err(refuse("its grace is over, and its data may be gone"));
                }
                let entry = state.condemned.remove(at).entry;
                // In the order they were committed: a claim's number is in the name of its manifest.
                let after = state.backups.partition_point(|other| other.manifest.key < entry.manifest.key);
                state.backups.insert(after, entry);
            }
            Ok(())
        })
        .await
    }

    /// What could be removed: objects that neither a backup nor one condemned less than `grace` ago needs.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when a manifest or its extents cannot be read: what is needed is then not known.
    pub async fn sweep_plan(&self, now: DateTime<Utc>, grace: Duration) -> Result<SweepPlan> {
        sweep::plan(self, now, grace).await
    }

    /// Removes what the plan names.
    ///
    /// # Errors
    /// [`Kind::Held`] when another has claimed the shard since; [`Kind::Refused`] when the plan was made under
    /// another claim.
    pub async fn sweep(&mut self, plan: SweepPlan) -> Result<Swept> {
        sweep::sweep(self, plan).await
    }

    /// One look at the archive, from which a plan to prune it is made.
    ///
    /// # Errors
    /// The store's.
    pub async fn archive_view(&self) -> Result<ArchiveView> {
        ArchiveView::read(&self.archive(), self.reader.log.held.as_ref()).await
    }

    /// Does what the plan says.
    ///
    /// # Errors
    /// [`Kind::Held`] when another has claimed the shard since, or prunes.
    pub async fn prune_archive(&self, plan: ArchivePrunePlan) -> Result<()> {
        self.reader.log.still_held(self.claim.number).await?;
        archive::prune(&self.archive(), self.reader.log.held.as_ref(), plan).await
    }

    fn archive(&self) -> ArchiveReader {
        let log = &self.reader.log;
        ArchiveReader::new(log.shelf.clone(), log.keys.archive(), log.shard.clone())
    }

    /// Gives the shard back.
    ///
    /// # Errors
    /// [`Kind::Held`] when another has claimed it since.
    pub async fn release(self) -> Result<()> {
        self.append(Event::Release, &|state| {
            state.claim = None;
            Ok(())
        })
        .await
    }

    /// Appends to the log under this claim, and leaves word of how long the log is.
    pub(crate) async fn append(
        &self,
        event: Event,
        change: &(dyn Fn(&mut State) -> Result<()> + Send + Sync),
    ) -> Result<()> {
        let entry = self.reader.log.append_under(self.claim.number, &event, change).await?;
        if let Err(fault) = self.life.known(entry.number).await {
            tracing::warn!("show life: {fault}");
        }
        Ok(())
    }
}
