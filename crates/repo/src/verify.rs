//! Checking what is stored: first the log, then each backup's index, then the packs that they need.
//!
//! Memory is bounded by [`REMEMBERED`] packs' fingerprints (16 KiB each); beyond them packs are read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop_model::fault::Result;
use backstop_model::ids::BackupId;
use backstop_model::progress::{Progress, Unit};
use futures::{StreamExt, TryStreamExt};

use crate::extents::{BLOCK, Extents, Pack, Place};
use crate::fingerprints::FingerprintsReader;
use crate::keys::PackId;
use crate::log::{Event, State};
use crate::manifest::{FileEntry, Storage};
use crate::object::{Ends, Expected, ObjectFault, ObjectKind, ObjectResult, Opened, Unpacker, doubtful};
use crate::save::file_blocks;
use crate::seal::Digest;
use crate::{
    CatalogEntry, Condemned, Damage, Depth, OnProgress, Reader, VerifyReport, claim, keys, root, sweep,
};

/// Packs that are looked at together.
const PARALLEL: usize = 4;
/// Packs whose fingerprints are kept in memory.
const REMEMBERED: usize = 4096;
/// Frames of a pack that are read together: 4 MiB before compression.
const FRAMES: usize = 16;

/// One verification.
pub(crate) struct Verify<'a> {
    reader: &'a Reader,
    depth: Depth,
    progress: OnProgress<'a>,
    /// By object: what is wrong, and who is affected.
    damaged: Mutex<BTreeMap<String, (String, BTreeSet<BackupId>)>>,
    objects: AtomicU64,
    bytes: AtomicU64,
    remembered: Mutex<HashMap<PackId, Vec<Digest>>>,
}

/// The index of a backup that could be read.
struct Index {
    id: BackupId,
    files: Vec<FileEntry>,
    extents: Extents,
    fingerprints: crate::ObjectRef,
}

impl<'a> Verify<'a> {
    pub(crate) fn new(reader: &'a Reader, depth: Depth, progress: OnProgress<'a>) -> Self {
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

    pub(crate) async fn run(self) -> Result<VerifyReport> {
        let state = self.log().await?;
        let (backups, condemned) =
            state.map_or_else(Default::default, |state| (state.backups, state.condemned));
        self.these(&backups, &condemned).await
    }

    /// Checks these backups, of which the log tells or does not.
    pub(crate) async fn these(
        self,
        backups: &[CatalogEntry],
        condemned: &[Condemned],
    ) -> Result<VerifyReport> {
        let ids: Vec<BackupId> = backups.iter().map(|entry| entry.facts.backup_id.clone()).collect();
        self.root(&ids).await?;
        let mut indexes = Vec::new();
        for entry in backups {
            indexes.extend(self.index(entry).await?);
        }
        let packs = packs_of(&indexes);
        self.packs(&packs).await?;
        if self.depth == Depth::Content {
            for index in &indexes {
                self.content(index, &packs).await?;
            }
        }
        let mut referenced: BTreeSet<String> =
            packs.keys().map(|id| self.reader.log.keys.pack(*id)).collect();
        for entry in backups.iter().chain(condemned.iter().map(|condemned| &condemned.entry)) {
            // What cannot be read is reported already; a condemned backup's damage harms nobody.
            referenced.extend(sweep::needs(self.reader, entry).await.unwrap_or_default());
        }
        let unreferenced = self.unreferenced(&referenced).await?;
        let damaged = self.damaged.into_inner().unwrap_or_default();
        Ok(VerifyReport {
            backups: ids,
            objects: self.objects.into_inner(),
            bytes_read: self.bytes.into_inner(),
            damaged: damaged
                .into_iter()
                .map(|(object, (wrong, backups))| Damage {
                    object,
                    wrong,
                    backups: backups.into_iter().collect(),
                })
                .collect(),
            unreferenced,
        })
    }

    /// Remembers a damage; a fault of the store ends the verification instead.
    fn note(&self, fault: ObjectFault, affected: &[BackupId]) -> Result<()> {
        let (key, wrong) = match fault {
            ObjectFault::Missing { key } => (key, "it is missing".to_owned()),
            ObjectFault::Damaged { key, wrong } => (key, wrong),
            ObjectFault::Store(fault) => return Err(fault),
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

    /// Every entry of the log; the newest sound one tells the state.
    async fn log(&self) -> Result<Option<State>> {
        let log = &self.reader.log;
        let numbers = log.numbers().await?;
        let (mut state, mut faults) = (None, Vec::new());
        let mut first = numbers.first().copied().unwrap_or(1);
        for number in &numbers {
            self.count(0);
            match log.entry(*number).await {
                Ok(entry) => {
                    // A repair took the place of what was lost before it.
                    if matches!(entry.event, Event::Repair { .. }) {
                        faults.clear();
                        first = *number;
                    }
                    state = Some(entry.state);
                }
                Err(fault) => faults.push(fault),
            }
        }
        for fault in faults {
            self.note(fault, &[])?;
        }
        let last = numbers.last().copied().unwrap_or(0);
        let known = claim::known_length(log).await?.unwrap_or(0).max(last);
        for missing in (first..=known).filter(|number| !numbers.contains(number)) {
            self.note(ObjectFault::Missing { key: log.keys.log(missing) }, &[])?;
        }
        Ok(state)
    }

    /// What says how the repository is sealed. Without it an encrypted one can still be opened: by its keys.
    async fn root(&self, backups: &[BackupId]) -> Result<()> {
        if backups.is_empty() {
            return Ok(());
        }
        self.count(0);
        match root::id(&self.reader.log.shelf.store).await {
            Ok(_) => Ok(()),
            Err(fault) => self.note(fault, &[]),
        }
    }

    async fn index(&self, entry: &CatalogEntry) -> Result<Option<Index>> {
        let id = entry.facts.backup_id.clone();
        let affected = [id.clone()];
        self.count(entry.manifest.size);
        let manifest = match self.reader.manifest_of(entry).await {
            Ok(manifest) => manifest,
            Err(fault) => return self.note(fault, &affected).map(|()| None),
        };
        let Storage::Blocks { files, extents, fingerprints, .. } = manifest.storage else { return Ok(None) };
        self.count(fingerprints.size);
        let blocks = file_blocks(&files);
        let shelf = &self.reader.log.shelf;
        if let Err(fault) =
            FingerprintsReader::open(shelf, &fingerprints, blocks.iter().sum(), Ends::Both).await
        {
            // A backup restores without its fingerprints; but it cannot be verified or be a parent.
            self.note(fault, &[])?;
        }
        self.count(extents.size);
        match self.extents(&extents, blocks).await {
            Ok(extents) => Ok(Some(Index { id, files, extents, fingerprints })),
            Err(fault) => self.note(fault, &affected).map(|()| None),
        }
    }

    /// Opens extents and follows them to their end.
    async fn extents(&self, reference: &crate::ObjectRef, blocks: Vec<u64>) -> ObjectResult<Extents> {
        let extents = Extents::open(&self.reader.log.shelf, reference, Ends::Both).await?;
        let mut all = extents.read(blocks);
        while all.next().await?.is_some() {}
        Ok(extents)
    }

    async fn packs(&self, packs: &BTreeMap<PackId, (Pack, Vec<BackupId>)>) -> Result<()> {
        let total: u64 = packs.values().map(|(pack, _)| pack.size).sum();
        let looked = AtomicU64::new(0);
        let looks = packs.values().map(|(pack, affected)| {
            let looked = &looked;
            async move {
                if let Err(fault) = self.pack(pack).await {
                    self.note(fault, affected)?;
                }
                let done = looked.fetch_add(pack.size, Ordering::Relaxed) + pack.size;
                (self.progress)(Progress { done, total: Some(total), unit: Unit::Bytes });
                Ok(())
            }
        });
        futures::stream::iter(looks).buffer_unordered(PARALLEL).try_collect().await
    }

    async fn pack(&self, pack: &Pack) -> ObjectResult<()> {
        let reference = pack.reference(&self.reader.log.keys);
        let expected = Expected::referenced(ObjectKind::Pack, &reference);
        let opened = self.reader.log.shelf.open(expected, Ends::Both).await?;
        if self.depth == Depth::Objects {
            self.count(0);
            return Ok(());
        }
        self.count(pack.size);
        let fingerprints = self.read(&opened).await?;
        if let Ok(mut remembered) = self.remembered.lock()
            && remembered.len() < REMEMBERED
        {
            remembered.insert(pack.id, fingerprints);
        }
        Ok(())
    }

    /// Reads a pack whole, and gives the fingerprints of its blocks.
    async fn read(&self, opened: &Opened) -> ObjectResult<Vec<Digest>> {
        let frames = opened.table.frames().len();
        let mut fingerprints = Vec::with_capacity(frames * 16);
        for first in (0..frames).step_by(FRAMES) {
            let batch = first..(first + FRAMES).min(frames);
            fingerprints.extend(match self.batch(opened, batch.clone()).await {
                Err(fault) if doubtful(&fault, None) => self.batch(opened, batch).await?,
                read => read?,
            });
        }
        Ok(fingerprints)
    }

    async fn batch(&self, opened: &Opened, batch: Range<usize>) -> ObjectResult<Vec<Digest>> {
        let bytes = opened.fetch(batch.clone()).await?;
        let (opened, seal) = (opened.clone(), self.reader.log.shelf.seal.clone());
        let some = crate::object::blocking(move || {
            let (mut some, mut unpacker) = (Vec::new(), Unpacker::new()?);
            for number in batch.clone() {
                let frame = opened.decode(&bytes, batch.start, number, &mut unpacker)?;
                some.extend(frame.chunks(BLOCK).map(|block| seal.fingerprint(block)));
            }
            Ok(some)
        });
        some.await
    }

    /// Compares each block of a backup with its fingerprint.
    async fn content(&self, index: &Index, packs: &BTreeMap<PackId, (Pack, Vec<BackupId>)>) -> Result<()> {
        if self.is_damaged(&index.fingerprints.key) {
            return Ok(());
        }
        match self.compare(index, packs).await {
            Ok(()) => Ok(()),
            Err(ObjectFault::Damaged { key, wrong }) if key == index.fingerprints.key => {
                self.note(ObjectFault::Damaged { key, wrong }, &[])
            }
            Err(fault) => self.note(fault, std::slice::from_ref(&index.id)),
        }
    }

    async fn compare(
        &self,
        index: &Index,
        packs: &BTreeMap<PackId, (Pack, Vec<BackupId>)>,
    ) -> ObjectResult<()> {
        let blocks = file_blocks(&index.files);
        let (shelf, total) = (&self.reader.log.shelf, blocks.iter().sum());
        let mut fingerprints =
            FingerprintsReader::open(shelf, &index.fingerprints, total, Ends::Tail).await?;
        let mut extents = index.extents.read(blocks);
        let zero = shelf.seal.fingerprint(&[0; BLOCK]);
        let mut at: Option<(u32, Option<Vec<Digest>>)> = None;
        while let Some(extent) = extents.next().await? {
            if let Place::Pack { pack, .. } = extent.place
                && at.as_ref().is_none_or(|(number, _)| *number != pack)
            {
                at = Some((pack, self.fingerprints(&index.extents.packs[pack as usize], packs).await?));
            }
            for nth in 0..extent.count {
                let claimed = fingerprints.next().await?;
                let found = match (extent.place, &at) {
                    (Place::Zero, _) => Some(zero),
                    (Place::Pack { block, .. }, Some((_, Some(known)))) => {
                        known.get(block as usize + nth as usize).copied()
                    }
                    // The pack is damaged, and reported.
                    (Place::Pack { .. }, _) => continue,
                };
                if found != Some(claimed) {
                    let file = &index.files[extent.file as usize].path;
                    let wrong =
                        format!("block {} of {file} is not the one that was stored", extent.first + nth);
                    return Err(ObjectFault::damaged(&self.place_key(index, extent.place), wrong));
                }
            }
        }
        Ok(())
    }

    fn place_key(&self, index: &Index, place: Place) -> String {
        match place {
            Place::Zero => index.extents.key().to_owned(),
            Place::Pack { pack, .. } => self.reader.log.keys.pack(index.extents.packs[pack as usize].id),
        }
    }

    /// The fingerprints of a pack's blocks; `None` if the pack is damaged.
    async fn fingerprints(
        &self,
        pack: &Pack,
        packs: &BTreeMap<PackId, (Pack, Vec<BackupId>)>,
    ) -> ObjectResult<Option<Vec<Digest>>> {
        let reference = pack.reference(&self.reader.log.keys);
        // Two backups that differ in what a pack is cannot both be right.
        if packs.get(&pack.id).is_some_and(|(other, _)| other != pack) {
            return Err(ObjectFault::damaged(&reference.key, "two backups disagree about it"));
        }
        if self.is_damaged(&reference.key) {
            return Ok(None);
        }
        if let Some(known) = self.remembered.lock().ok().and_then(|known| known.get(&pack.id).cloned()) {
            return Ok(Some(known));
        }
        let expected = Expected::referenced(ObjectKind::Pack, &reference);
        let opened = self.reader.log.shelf.open(expected, Ends::Tail).await?;
        self.read(&opened).await.map(Some)
    }

    fn is_damaged(&self, key: &str) -> bool {
        self.damaged.lock().is_ok_and(|damaged| damaged.contains_key(key))
    }

    async fn unreferenced(&self, referenced: &BTreeSet<String>) -> Result<u64> {
        let log = &self.reader.log;
        let stored = log.shelf.list(log.keys.base()).await?;
        let data =
            |key: &str| !key.starts_with(&log.keys.heartbeats()) && keys::claim_of(&log.keys, key).is_some();
        Ok(stored.iter().filter(|(key, _)| data(key) && !referenced.contains(key)).count() as u64)
    }
}

/// The packs that backups need, each with those that do.
fn packs_of(indexes: &[Index]) -> BTreeMap<PackId, (Pack, Vec<BackupId>)> {
    let mut packs: BTreeMap<PackId, (Pack, Vec<BackupId>)> = BTreeMap::new();
    for index in indexes {
        for pack in &index.extents.packs {
            packs.entry(pack.id).or_insert_with(|| (*pack, Vec::new())).1.push(index.id.clone());
        }
    }
    packs
}
