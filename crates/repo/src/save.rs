//! Storing a tree: one thread reads and compares, others compress, encrypt and upload what is new.
//!
//! Memory is bounded by what may be under way: one pack being filled, one waiting, [`ENCODERS`] being encoded
//! (16 MiB plain each), [`UPLOADS`] being uploaded (at most as much again each), and some index frames.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::progress::{Progress, Unit};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use crate::OnProgress;
use crate::extents::{BLOCK, ExtentsWriter, FRAME_BLOCKS, Pack, blocks_of};
use crate::fingerprints::FingerprintsWriter;
use crate::keys::{PackId, ShardKeys};
use crate::manifest::{DirectoryEntry, FileEntry, Manifest, ObjectRef, Storage};
use crate::object::{Encoder, ObjectKind};
use crate::parent::Parent;
use crate::scan::{Counters, Outlets, PackJob, Scan};
use crate::seal::Seal;
use crate::shelf::Shelf;
use crate::tree::{Tree, TreeFile};

/// Packs that are encoded at the same time.
const ENCODERS: usize = 2;
/// Packs that are uploaded at the same time.
const UPLOADS: usize = 3;
const REPORT: Duration = Duration::from_millis(200);

/// Where a tree is stored.
pub(crate) struct Save<'a> {
    pub(crate) shelf: &'a Shelf,
    pub(crate) keys: &'a ShardKeys,
    pub(crate) claim: u64,
    /// Tells the trees that one claim stores apart.
    pub(crate) attempt: u64,
    /// The number of its first pack.
    pub(crate) first_pack: u64,
    /// Keys of objects that a verification found damaged.
    pub(crate) known: &'a HashSet<String>,
}

/// A tree whose data and index are stored.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) storage: Storage,
    pub(crate) data_bytes: u64,
    pub(crate) changed_bytes: u64,
    /// Packs of the parent that cannot be relied on: what they held was stored again.
    pub(crate) lost_packs: u64,
    /// Every object that was written for it.
    pub(crate) objects: Vec<ObjectRef>,
}

impl Save<'_> {
    /// Stores a tree.
    pub(crate) async fn run(
        &self,
        tree: &Tree,
        parent: Option<&Manifest>,
        progress: OnProgress<'_>,
    ) -> Result<Saved> {
        let (files, directories) = crate::tree::checked(tree)?;
        let total = files.iter().map(|file| file.size).sum();
        let counters = Arc::new(Counters::default());
        let parent = match parent {
            Some(manifest) => Some(Parent::open(self.shelf, self.keys, manifest, self.known).await?),
            None => None,
        };
        let lost_packs = parent.as_ref().map_or(0, Parent::lost);
        let work = self.work(files.clone(), parent, counters.clone());
        let (objects, extents, fingerprints) = report(work, &counters, total, progress).await?;
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
        Ok(Saved { storage, data_bytes: total, changed_bytes, lost_packs, objects })
    }

    async fn work(
        &self,
        files: Vec<TreeFile>,
        parent: Option<Parent>,
        counters: Arc<Counters>,
    ) -> Result<(Vec<ObjectRef>, ObjectRef, ObjectRef)> {
        let known: Vec<Pack> = parent.as_ref().map(|parent| parent.packs().to_vec()).unwrap_or_default();
        let key = |part| self.keys.backup(self.claim, self.attempt, part);
        let (extents_key, fingerprints_key) = (key("extents"), key("fingerprints"));
        let (packs, jobs) = mpsc::channel(1);
        let (extents, extent_parts) = mpsc::channel(2);
        let (fingerprints, fingerprint_parts) = mpsc::channel(2);
        let ends = (extents.clone(), fingerprints.clone());
        let scan = Scan {
            seal: self.shelf.seal.clone(),
            claim: self.claim,
            first_pack: self.first_pack,
            parent,
            extents: ExtentsWriter::new(&extents_key, &self.shelf.seal)?,
            fingerprints: FingerprintsWriter::new(&fingerprints_key, &self.shelf.seal)?,
            outlets: Outlets { packs, extents, fingerprints },
            counters,
            filling: Vec::new(),
            filled: 0,
            zero: self.shelf.seal.fingerprint(&[0; BLOCK]),
        };
        let scanned = async {
            let thread = tokio::task::spawn_blocking(move || scan.run(&files));
            thread.await.failed("read the tree")?
        };
        let index = async {
            let ((extents, fingerprints), written) = futures::try_join!(scanned, self.packs(jobs))?;
            finish_index(extents, fingerprints, &known, written, ends).await
        };
        let (done, (), ()) = futures::try_join!(
            index,
            self.shelf.put_stream(&extents_key, extent_parts),
            self.shelf.put_stream(&fingerprints_key, fingerprint_parts),
        )?;
        let (written, extents, fingerprints) = done;
        let mut objects: Vec<_> = written.iter().map(|pack| pack.reference(self.keys)).collect();
        objects.extend([extents.clone(), fingerprints.clone()]);
        Ok((objects, extents, fingerprints))
    }

    /// Encodes and uploads packs as they come.
    async fn packs(&self, mut jobs: mpsc::Receiver<PackJob>) -> Result<Vec<Pack>> {
        futures::stream::poll_fn(move |context| jobs.poll_recv(context))
            .map(|job| self.encode(job))
            .buffer_unordered(ENCODERS)
            .map_ok(|encoded| self.upload(encoded))
            .try_buffer_unordered(UPLOADS)
            .try_collect()
            .await
    }

    async fn encode(&self, job: PackJob) -> Result<(PackId, Bytes, ObjectRef)> {
        let (key, seal, id) = (self.keys.pack(job.id), self.shelf.seal.clone(), job.id);
        let encoded = tokio::task::spawn_blocking(move || encode(&job, &key, &seal));
        let (bytes, reference) = encoded.await.failed("encode a pack")??;
        Ok((id, bytes, reference))
    }

    async fn upload(&self, (id, bytes, reference): (PackId, Bytes, ObjectRef)) -> Result<Pack> {
        self.shelf.put_bytes(&reference.key, bytes).await?;
        let digest = crate::seal::from_hex_digest(&reference.digest);
        Ok(Pack { id, size: reference.size, digest })
    }
}

fn encode(job: &PackJob, key: &str, seal: &Seal) -> Result<(Bytes, ObjectRef)> {
    let mut encoder = Encoder::new(ObjectKind::Pack, key, seal)?;
    for frame in job.blocks.chunks(FRAME_BLOCKS as usize * BLOCK) {
        encoder.frame(frame)?;
    }
    Ok(encoder.finish())
}

/// Ends both index objects: now it is known what the packs are.
async fn finish_index(
    extents: ExtentsWriter,
    fingerprints: FingerprintsWriter,
    known: &[Pack],
    written: Vec<Pack>,
    ends: (mpsc::Sender<Bytes>, mpsc::Sender<Bytes>),
) -> Result<(Vec<Pack>, ObjectRef, ObjectRef)> {
    let by_id: HashMap<PackId, Pack> = known.iter().chain(&written).map(|pack| (pack.id, *pack)).collect();
    let packs: Option<Vec<Pack>> = extents.packs().iter().map(|id| by_id.get(id).copied()).collect();
    let packs = packs.ok_or_else(|| Fault::failed("store the index: it names a pack that was not stored"))?;
    let (rest, extents) = extents.finish(&packs)?;
    send(&ends.0, rest).await?;
    let (rest, fingerprints) = fingerprints.finish()?;
    send(&ends.1, rest).await?;
    Ok((written, extents, fingerprints))
}

async fn send(to: &mpsc::Sender<Bytes>, bytes: Bytes) -> Result<()> {
    to.send(bytes).await.map_err(|_| Fault::new(Kind::Store, "store the index: its upload has ended"))
}

/// Reports progress while the work goes on.
async fn report<T>(
    work: impl Future<Output = Result<T>>,
    counters: &Counters,
    total: u64,
    progress: OnProgress<'_>,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval(REPORT);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => {
                let passed = counters.passed.load(Ordering::Relaxed).min(total);
                progress(Progress { done: passed, total: Some(total), unit: Unit::Bytes });
            }
        }
    }
}

fn entry(file: &TreeFile) -> FileEntry {
    FileEntry { path: file.path.clone(), size: file.size, mode: file.mode, inode: file.inode }
}

/// Blocks of all files.
pub(crate) fn file_blocks(files: &[FileEntry]) -> Vec<u64> {
    files.iter().map(|file| blocks_of(file.size)).collect()
}
