//! Stores a tree: one thread reads and compares, others compress, encrypt and upload the new
//! blocks.
//!
//! The memory holds at most: one pack being filled, one waiting, [`PARALLEL_ENCODERS`] being
//! encoded (16 MiB plain each), [`PARALLEL_UPLOADS`] being uploaded (at most as much again each),
//! and some index frames.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop_host::Clock;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::progress::{Progress, ProgressUnit};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use crate::OnProgress;
use crate::block_diff::{BlockDiff, DiffCounters, DiffOutputs, PackJob};
use crate::block_extents::{BLOCK_BYTES, ExtentsWriter, FRAME_BLOCKS, PackEntry, blocks_of};
use crate::encrypted_store::EncryptedStore;
use crate::encryption::Cipher;
use crate::fingerprints::FingerprintsWriter;
use crate::incremental_parent::Parent;
use crate::keys::{PackId, ShardKeys};
use crate::manifest::{DirectoryEntry, FileEntry, Manifest, ObjectRef, Storage};
use crate::object::{Encoder, ObjectKind};
use crate::tree::{Tree, TreeFile};

/// Number of packs encoded at the same time.
const PARALLEL_ENCODERS: usize = 2;
/// Number of packs uploaded at the same time.
const PARALLEL_UPLOADS: usize = 3;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Destination of a stored tree.
pub(crate) struct StoreTree<'a> {
    pub(crate) store: &'a EncryptedStore,
    pub(crate) keys: &'a ShardKeys,
    pub(crate) lease: u64,
    /// Distinguishes the trees that are stored under one lease.
    pub(crate) attempt: u64,
    /// Number of its first pack.
    pub(crate) first_pack: u64,
    /// Keys of objects that a verification found damaged.
    pub(crate) known: &'a BTreeSet<String>,
}

/// Tree whose data and index are stored.
#[derive(Debug)]
pub(crate) struct StoredTree {
    pub(crate) storage: Storage,
    pub(crate) data_bytes: u64,
    pub(crate) changed_bytes: u64,
    /// Number of the parent's packs that are missing or damaged: their blocks were stored again.
    pub(crate) lost_packs: u64,
    /// Every object written for it.
    pub(crate) objects: Vec<ObjectRef>,
}

impl StoreTree<'_> {
    /// Stores a tree.
    pub(crate) async fn run(
        &self,
        tree: &Tree,
        parent: Option<&Manifest>,
        progress: OnProgress<'_>,
    ) -> Result<StoredTree> {
        let (files, directories) = crate::tree::checked_tree(tree)?;
        let total = files.iter().map(|file| file.size).sum();
        let counters = Arc::new(DiffCounters::default());
        let parent = match parent {
            Some(manifest) => Some(Parent::open(self.store, self.keys, manifest, self.known).await?),
            None => None,
        };
        let lost_packs = parent.as_ref().map_or(0, Parent::lost);
        let work = self.work(files.clone(), parent, counters.clone());
        let (objects, extents, fingerprints) =
            report_progress(work, &counters, total, progress, &*self.store.host.clock).await?;
        let storage = Storage::Blocks {
            files: files.iter().map(entry).collect(),
            directories: directories
                .into_iter()
                .map(|directory| DirectoryEntry { path: directory.path, mode: directory.mode })
                .collect(),
            extents,
            fingerprints,
        };
        let changed_bytes = counters.changed.load(Ordering::Relaxed);
        Ok(StoredTree { storage, data_bytes: total, changed_bytes, lost_packs, objects })
    }

    async fn work(
        &self,
        files: Vec<TreeFile>,
        parent: Option<Parent>,
        counters: Arc<DiffCounters>,
    ) -> Result<(Vec<ObjectRef>, ObjectRef, ObjectRef)> {
        let known: Vec<PackEntry> = parent.as_ref().map(|parent| parent.packs().to_vec()).unwrap_or_default();
        let key = |part| self.keys.backup(self.lease, self.attempt, part);
        let (extents_key, fingerprints_key) = (key("extents"), key("fingerprints"));
        let (packs, jobs) = mpsc::channel(1);
        let (extents, extent_parts) = mpsc::channel(2);
        let (fingerprints, fingerprint_parts) = mpsc::channel(2);
        let ends = (extents.clone(), fingerprints.clone());
        let scan = BlockDiff {
            cipher: self.store.cipher.clone(),
            lease: self.lease,
            first_pack: self.first_pack,
            parent,
            extents: ExtentsWriter::new(&extents_key, &self.store.cipher)?,
            fingerprints: FingerprintsWriter::new(&fingerprints_key, &self.store.cipher)?,
            outlets: DiffOutputs { packs, extents, fingerprints },
            counters,
            filling: Vec::new(),
            filled: 0,
            zero: self.store.cipher.fingerprint(&[0; BLOCK_BYTES]),
        };
        let scanned = async { self.store.host.blocking(move || scan.run(&files)).await? };
        let index = async {
            let ((extents, fingerprints), written) = futures::try_join!(scanned, self.packs(jobs))?;
            finish_index(extents, fingerprints, &known, written, ends).await
        };
        let (done, (), ()) = futures::try_join!(
            index,
            self.store.put_stream(&extents_key, extent_parts),
            self.store.put_stream(&fingerprints_key, fingerprint_parts),
        )?;
        let (written, extents, fingerprints) = done;
        let mut objects: Vec<_> = written.iter().map(|pack| pack.reference(self.keys)).collect();
        objects.extend([extents.clone(), fingerprints.clone()]);
        Ok((objects, extents, fingerprints))
    }

    /// Encodes and uploads packs as they arrive.
    async fn packs(&self, mut jobs: mpsc::Receiver<PackJob>) -> Result<Vec<PackEntry>> {
        futures::stream::poll_fn(move |context| jobs.poll_recv(context))
            .map(|job| self.encode(job))
            .buffer_unordered(PARALLEL_ENCODERS)
            .map_ok(|encoded| self.upload(encoded))
            .try_buffer_unordered(PARALLEL_UPLOADS)
            .try_collect()
            .await
    }

    async fn encode(&self, job: PackJob) -> Result<(PackId, Bytes, ObjectRef)> {
        let (key, cipher, id) = (self.keys.pack(job.id), self.store.cipher.clone(), job.id);
        let encoded = self.store.host.blocking(move || encode(&job, &key, &cipher));
        let (bytes, reference) = encoded.await??;
        Ok((id, bytes, reference))
    }

    async fn upload(&self, (id, bytes, reference): (PackId, Bytes, ObjectRef)) -> Result<PackEntry> {
        self.store.put_bytes(&reference.key, bytes).await?;
        let digest = crate::encryption::from_hex_digest(&reference.digest);
        Ok(PackEntry { id, size: reference.size, digest })
    }
}

fn encode(job: &PackJob, key: &str, cipher: &Cipher) -> Result<(Bytes, ObjectRef)> {
    let mut encoder = Encoder::new(ObjectKind::Pack, key, cipher)?;
    for frame in job.blocks.chunks(FRAME_BLOCKS as usize * BLOCK_BYTES) {
        encoder.frame(frame)?;
    }
    Ok(encoder.finish())
}

/// Completes both index objects, now that the packs are known.
async fn finish_index(
    extents: ExtentsWriter,
    fingerprints: FingerprintsWriter,
    known: &[PackEntry],
    written: Vec<PackEntry>,
    ends: (mpsc::Sender<Bytes>, mpsc::Sender<Bytes>),
) -> Result<(Vec<PackEntry>, ObjectRef, ObjectRef)> {
    let by_id: BTreeMap<PackId, PackEntry> =
        known.iter().chain(&written).map(|pack| (pack.id, *pack)).collect();
    let packs: Option<Vec<PackEntry>> = extents.packs().iter().map(|id| by_id.get(id).copied()).collect();
    let packs =
        packs.ok_or_else(|| Error::failed("cannot store the index: it names a pack that was not stored"))?;
    let (rest, extents) = extents.finish(&packs)?;
    send(&ends.0, rest).await?;
    let (rest, fingerprints) = fingerprints.finish()?;
    send(&ends.1, rest).await?;
    Ok((written, extents, fingerprints))
}

async fn send(to: &mpsc::Sender<Bytes>, bytes: Bytes) -> Result<()> {
    to.send(bytes)
        .await
        .map_err(|_| Error::new(ErrorKind::Store, "cannot store the index: its upload has ended"))
}

/// Reports progress during the work, at its beginning first.
async fn report_progress<T>(
    work: impl Future<Output = Result<T>>,
    counters: &DiffCounters,
    total: u64,
    progress: OnProgress<'_>,
    clock: &dyn Clock,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            // First: work that is done has no progress to report.
            done = &mut work => return done,
            () = clock.sleep(wait) => {
                let passed = counters.passed.load(Ordering::Relaxed).min(total);
                progress(Progress { done: passed, total: Some(total), unit: ProgressUnit::Bytes });
                wait = PROGRESS_INTERVAL;
            }
        }
    }
}

fn entry(file: &TreeFile) -> FileEntry {
    FileEntry { path: file.path.clone(), size: file.size, mode: file.mode, inode: file.inode }
}

/// Returns the number of blocks of each file.
pub(crate) fn file_blocks(files: &[FileEntry]) -> Vec<u64> {
    files.iter().map(|file| blocks_of(file.size)).collect()
}
