//! Checks the stored objects: first the log, then each backup's index, then the packs that they
//! need.
//!
//! The fingerprints of at most [`PACKS_CACHED`] packs are in memory (16 KiB each); those of further
//! packs are read again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop_types::error::Result;
use backstop_types::ids::BackupId;
use backstop_types::progress::{Progress, ProgressUnit};
use futures::{StreamExt, TryStreamExt};

use crate::block_extents::{BLOCK_BYTES, BlockLocation, Extents, PackEntry};
use crate::encrypted_store::EncryptedStore;
use crate::encryption::Digest;
use crate::fingerprints::FingerprintsReader;
use crate::keys::PackId;
use crate::manifest::{FileEntry, Storage};
use crate::object::{
    ExpectedObject, ObjectError, ObjectKind, ObjectResult, OpenObject, ReadHeader, Unpacker, is_doubtful,
};
use crate::shard_log::{LogEvent, ShardState};
use crate::store_tree::file_blocks;
use crate::{
    CatalogEntry, Condemned, ObjectDamage, OnProgress, ShardReader, VerifyDepth, VerifyResult, gc, keys,
    lease, repo_header,
};

/// Number of packs checked at a time.
const PARALLEL_PACKS: usize = 4;
/// Number of packs whose fingerprints are kept in memory.
const PACKS_CACHED: usize = 4096;
/// Number of frames of a pack per read: 4 MiB before compression.
const FRAMES_PER_READ: usize = 16;

/// One verification.
pub(crate) struct Verification<'a> {
    reader: &'a ShardReader,
    depth: VerifyDepth,
    progress: OnProgress<'a>,
    /// By object: the damage, and the affected backups.
    damaged: Mutex<BTreeMap<String, (String, BTreeSet<BackupId>)>>,
    objects: AtomicU64,
    bytes: AtomicU64,
    remembered: Mutex<BTreeMap<PackId, Vec<Digest>>>,
}

/// Index of a backup that could be read.
struct BackupIndex {
    id: BackupId,
    files: Vec<FileEntry>,
    extents: Extents,
    fingerprints: crate::ObjectRef,
}

impl ShardReader {
    /// Checks everything that is stored for the shard. Damage is part of the report, not an error.
    ///
    /// # Errors
    /// Returns an error only if the check itself cannot run.
    pub async fn verify(&self, depth: VerifyDepth, progress: OnProgress<'_>) -> Result<VerifyResult> {
        Verification::new(self, depth, progress).run().await
    }
}

impl<'a> Verification<'a> {
    pub(crate) fn new(reader: &'a ShardReader, depth: VerifyDepth, progress: OnProgress<'a>) -> Self {
        Self {
            reader,
            depth,
            progress,
            damaged: Mutex::default(),
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            remembered: Mutex::default(),
        }
    }

    async fn run(self) -> Result<VerifyResult> {
        let state = self.log().await?;
        let (backups, condemned) =
            state.map_or_else(Default::default, |state| (state.backups, state.condemned));
        self.these(&backups, &condemned).await
    }

    /// Checks these backups, whether or not the log lists them.
    pub(crate) async fn these(
        self,
        backups: &[CatalogEntry],
        condemned: &[Condemned],
    ) -> Result<VerifyResult> {
        let ids: Vec<BackupId> = backups.iter().map(|entry| entry.facts.backup_id.clone()).collect();
        self.root(&ids).await?;
        let mut indexes = Vec::new();
        for entry in backups {
            indexes.extend(self.index(entry).await?);
        }
        let packs = packs_of(&indexes);
        self.packs(&packs).await?;
        if self.depth == VerifyDepth::Content {
            for index in &indexes {
                self.content(index, &packs).await?;
            }
        }
        let mut referenced: BTreeSet<String> =
            packs.keys().map(|id| self.reader.log.keys.pack(*id)).collect();
        for entry in backups.iter().chain(condemned.iter().map(|condemned| &condemned.entry)) {
            // Unreadable objects are reported already; damage of a deleted backup has no effect.
            referenced.extend(gc::needed_objects(self.reader, entry).await.unwrap_or_default());
        }
        let unreferenced = self.unreferenced(&referenced).await?;
        let damaged = self.damaged.into_inner().unwrap_or_default();
        Ok(VerifyResult {
            backups: ids,
            objects: self.objects.into_inner(),
            bytes_read: self.bytes.into_inner(),
            damaged: damaged
                .into_iter()
                .map(|(object, (wrong, backups))| ObjectDamage {
                    object,
                    wrong,
                    backups: backups.into_iter().collect(),
                })
                .collect(),
            unreferenced,
        })
    }

    /// Records damage; an error of the store ends the verification instead.
    fn note(&self, error: ObjectError, affected: &[BackupId]) -> Result<()> {
        let (key, wrong) = match error {
            ObjectError::Missing { key } => (key, "it is missing".to_owned()),
            ObjectError::Damaged { key, wrong } => (key, wrong),
            ObjectError::Store(error) => return Err(error),
        };
        if let Ok(mut damaged) = self.damaged.lock() {
            let entry = damaged.entry(key).or_insert_with(|| (wrong, BTreeSet::new()));
            entry.1.extend(affected.iter().cloned());
        }
        Ok(())
    }

    fn count(&self, bytes: u64) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Checks every entry of the log; returns the state from the newest sound one.
    async fn log(&self) -> Result<Option<ShardState>> {
        let log = &self.reader.log;
        let numbers = log.numbers().await?;
        let (mut state, mut faults) = (None, Vec::new());
        let mut first = numbers.first().copied().unwrap_or(1);
        for number in &numbers {
            self.count(0);
            match log.entry(*number).await {
                Ok(entry) => {
                    // A repair replaced the entries that were lost before it.
                    if matches!(entry.event, LogEvent::Repair { .. }) {
                        faults.clear();
                        first = *number;
                    }
                    state = Some(entry.state);
                }
                Err(error) => faults.push(error),
            }
        }
        for error in faults {
            self.note(error, &[])?;
        }
        let last = numbers.last().copied().unwrap_or(0);
        let known = lease::known_log_length(log).await?.unwrap_or(0).max(last);
        for missing in (first..=known).filter(|number| !numbers.contains(number)) {
            self.note(ObjectError::Missing { key: log.keys.log(missing) }, &[])?;
        }
        Ok(state)
    }

    /// Checks the header object, which says how the repository is encrypted. Without it an
    /// encrypted repository can still be opened, by its wrapped keys.
    async fn root(&self, backups: &[BackupId]) -> Result<()> {
        if backups.is_empty() {
            return Ok(());
        }
        self.count(0);
        let EncryptedStore { backend, host, .. } = self.reader.log.store.clone();
        match repo_header::repository_id(&EncryptedStore::plain(backend, host)).await {
            Ok(_) => Ok(()),
            Err(error) => self.note(error, &[]),
        }
    }

    async fn index(&self, entry: &CatalogEntry) -> Result<Option<BackupIndex>> {
        let id = entry.facts.backup_id.clone();
        let affected = [id.clone()];
        self.count(entry.manifest.size);
        let manifest = match self.reader.manifest_of(entry).await {
            Ok(manifest) => manifest,
            Err(error) => return self.note(error, &affected).map(|()| None),
        };
        let Storage::Blocks { files, extents, fingerprints, .. } = manifest.storage else { return Ok(None) };
        self.count(fingerprints.size);
        let blocks = file_blocks(&files);
        let store = &self.reader.log.store;
        if let Err(error) =
            FingerprintsReader::open(store, &fingerprints, blocks.iter().sum(), ReadHeader::Both).await
        {
            // A backup can be restored without its fingerprints; but it cannot be verified or be a
            // parent.
            self.note(error, &[])?;
        }
        self.count(extents.size);
        match self.extents(&extents, blocks).await {
            Ok(extents) => Ok(Some(BackupIndex { id, files, extents, fingerprints })),
            Err(error) => self.note(error, &affected).map(|()| None),
        }
    }

    /// Opens extents and follows them to their end.
    async fn extents(&self, reference: &crate::ObjectRef, blocks: Vec<u64>) -> ObjectResult<Extents> {
        let extents = Extents::open(&self.reader.log.store, reference, ReadHeader::Both).await?;
        let mut all = extents.read(blocks);
        while all.next().await?.is_some() {}
        Ok(extents)
    }

    async fn packs(&self, packs: &BTreeMap<PackId, (PackEntry, Vec<BackupId>)>) -> Result<()> {
        let total: u64 = packs.values().map(|(pack, _)| pack.size).sum();
        let looked = AtomicU64::new(0);
        let looks = packs.values().map(|(pack, affected)| {
            let looked = &looked;
            async move {
                if let Err(error) = self.pack(pack).await {
                    self.note(error, affected)?;
                }
                let done = looked.fetch_add(pack.size, Ordering::Relaxed) + pack.size;
                (self.progress)(Progress { done, total: Some(total), unit: ProgressUnit::Bytes });
                Ok(())
            }
        });
        futures::stream::iter(looks).buffer_unordered(PARALLEL_PACKS).try_collect().await
    }

    async fn pack(&self, pack: &PackEntry) -> ObjectResult<()> {
        let reference = pack.reference(&self.reader.log.keys);
        let expected = ExpectedObject::referenced(ObjectKind::Pack, &reference);
        let opened = self.reader.log.store.open(expected, ReadHeader::Both).await?;
        if self.depth == VerifyDepth::Objects {
            self.count(0);
            return Ok(());
        }
        self.count(pack.size);
        let fingerprints = self.read(&opened).await?;
        if let Ok(mut remembered) = self.remembered.lock()
            && remembered.len() < PACKS_CACHED
        {
            remembered.insert(pack.id, fingerprints);
        }
        Ok(())
    }

    /// Reads a pack whole, and returns the fingerprints of its blocks.
    async fn read(&self, opened: &OpenObject) -> ObjectResult<Vec<Digest>> {
        let frames = opened.table.frames().len();
        let mut fingerprints = Vec::with_capacity(frames * 16);
        for first in (0..frames).step_by(FRAMES_PER_READ) {
            let batch = first..(first + FRAMES_PER_READ).min(frames);
            fingerprints.extend(match self.batch(opened, batch.clone()).await {
                Err(error) if is_doubtful(&error, None) => self.batch(opened, batch).await?,
                read => read?,
            });
        }
        Ok(fingerprints)
    }

    async fn batch(&self, opened: &OpenObject, batch: Range<usize>) -> ObjectResult<Vec<Digest>> {
        let bytes = opened.fetch(batch.clone()).await?;
        let (opened, cipher) = (opened.clone(), self.reader.log.store.cipher.clone());
        let some = crate::object::run_blocking(&self.reader.log.store.host, move || {
            let (mut some, mut unpacker) = (Vec::new(), Unpacker::new()?);
            for number in batch.clone() {
                let frame = opened.decode(&bytes, batch.start, number, &mut unpacker)?;
                some.extend(frame.chunks(BLOCK_BYTES).map(|block| cipher.fingerprint(block)));
            }
            Ok(some)
        });
        some.await
    }

    /// Compares each block of a backup with its fingerprint.
    async fn content(
        &self,
        index: &BackupIndex,
        packs: &BTreeMap<PackId, (PackEntry, Vec<BackupId>)>,
    ) -> Result<()> {
        if self.is_damaged(&index.fingerprints.key) {
            return Ok(());
        }
        match self.compare(index, packs).await {
            Ok(()) => Ok(()),
            Err(ObjectError::Damaged { key, wrong }) if key == index.fingerprints.key => {
                self.note(ObjectError::Damaged { key, wrong }, &[])
            }
            Err(error) => self.note(error, std::slice::from_ref(&index.id)),
        }
    }

    async fn compare(
        &self,
        index: &BackupIndex,
        packs: &BTreeMap<PackId, (PackEntry, Vec<BackupId>)>,
    ) -> ObjectResult<()> {
        let blocks = file_blocks(&index.files);
        let (store, total) = (&self.reader.log.store, blocks.iter().sum());
        let mut fingerprints =
            FingerprintsReader::open(store, &index.fingerprints, total, ReadHeader::Tail).await?;
        let mut extents = index.extents.read(blocks);
        let zero = store.cipher.fingerprint(&[0; BLOCK_BYTES]);
        let mut at: Option<(u32, Option<Vec<Digest>>)> = None;
        while let Some(extent) = extents.next().await? {
            if let BlockLocation::Pack { pack, .. } = extent.place
                && at.as_ref().is_none_or(|(number, _)| *number != pack)
            {
                at = Some((pack, self.fingerprints(&index.extents.packs[pack as usize], packs).await?));
            }
            for nth in 0..extent.count {
                let claimed = fingerprints.next().await?;
                let found = match (extent.place, &at) {
                    (BlockLocation::Zero, _) => Some(zero),
                    (BlockLocation::Pack { block, .. }, Some((_, Some(known)))) => {
                        known.get(block as usize + nth as usize).copied()
                    }
                    // The pack is damaged, and reported.
                    (BlockLocation::Pack { .. }, _) => continue,
                };
                if found != Some(claimed) {
                    let file = &index.files[extent.file as usize].path;
                    let wrong =
                        format!("block {} of {file} is not the one that was stored", extent.first + nth);
                    return Err(ObjectError::damaged(&self.place_key(index, extent.place), wrong));
                }
            }
        }
        Ok(())
    }

    fn place_key(&self, index: &BackupIndex, place: BlockLocation) -> String {
        match place {
            BlockLocation::Zero => index.extents.key().to_owned(),
            BlockLocation::Pack { pack, .. } => {
                self.reader.log.keys.pack(index.extents.packs[pack as usize].id)
            }
        }
    }

    /// Returns the fingerprints of a pack's blocks; `None` if the pack is damaged.
    async fn fingerprints(
        &self,
        pack: &PackEntry,
        packs: &BTreeMap<PackId, (PackEntry, Vec<BackupId>)>,
    ) -> ObjectResult<Option<Vec<Digest>>> {
        let reference = pack.reference(&self.reader.log.keys);
        // If two backups differ in the reference to a pack, one of them is wrong.
        if packs.get(&pack.id).is_some_and(|(other, _)| other != pack) {
            return Err(ObjectError::damaged(&reference.key, "two backups disagree about it"));
        }
        if self.is_damaged(&reference.key) {
            return Ok(None);
        }
        if let Some(known) = self.remembered.lock().ok().and_then(|known| known.get(&pack.id).cloned()) {
            return Ok(Some(known));
        }
        let expected = ExpectedObject::referenced(ObjectKind::Pack, &reference);
        let opened = self.reader.log.store.open(expected, ReadHeader::Tail).await?;
        self.read(&opened).await.map(Some)
    }

    fn is_damaged(&self, key: &str) -> bool {
        self.damaged.lock().is_ok_and(|damaged| damaged.contains_key(key))
    }

    async fn unreferenced(&self, referenced: &BTreeSet<String>) -> Result<u64> {
        let log = &self.reader.log;
        let stored = log.store.list(log.keys.base()).await?;
        let data =
            |key: &str| !key.starts_with(&log.keys.heartbeats()) && keys::lease_of(&log.keys, key).is_some();
        Ok(stored.iter().filter(|(key, _)| data(key) && !referenced.contains(key)).count() as u64)
    }
}

/// Returns the packs that backups need, each with those backups.
fn packs_of(indexes: &[BackupIndex]) -> BTreeMap<PackId, (PackEntry, Vec<BackupId>)> {
    let mut packs: BTreeMap<PackId, (PackEntry, Vec<BackupId>)> = BTreeMap::new();
    for index in indexes {
        for pack in &index.extents.packs {
            packs.entry(pack.id).or_insert_with(|| (*pack, Vec::new())).1.push(index.id.clone());
        }
    }
    packs
}
