//! Writes a backup's files.
//!
//! The memory holds the fetches in progress: at most 8 MiB for each of `parallel`. Files are made
//! durable while others are still being written.

mod file_progress;
mod target;
mod windows;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use backstop_host::Host;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::progress::{Progress, ProgressUnit};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use self::file_progress::FileProgress;
use self::target::TargetFiles;
use self::windows::{PackFetch, RestoreWindows};
use crate::OnProgress;
use crate::block_extents::{Extents, PackEntry};
use crate::encrypted_store::EncryptedStore;
use crate::keys::{PackId, ShardKeys};
use crate::manifest::{Manifest, Storage};
use crate::object::{ExpectedObject, ObjectKind, ObjectResult, OpenObject, ReadHeader};
use crate::report::{RestoreOptions, RestoreResult};
use crate::restore_checkpoint::RestoreCheckpoint;
use crate::store_tree::file_blocks;

/// Number of cached frame tables: 1.5 KiB each.
const FRAME_TABLES_CACHED: usize = 4096;

/// One restore.
pub(crate) struct Restore<'a> {
    pub(crate) store: &'a EncryptedStore,
    pub(crate) keys: &'a ShardKeys,
    pub(crate) options: &'a RestoreOptions,
}

impl Restore<'_> {
    /// Writes the files of a backup below a directory.
    pub(crate) async fn run(
        &self,
        manifest: &Manifest,
        dir: &Path,
        progress: OnProgress<'_>,
    ) -> Result<RestoreResult> {
        let Storage::Blocks { files, directories, extents, .. } = &manifest.storage else {
            return Err(Error::refused("cannot restore files: this backup is a snapshot of volumes"));
        };
        let index = Extents::open(self.store, extents, ReadHeader::Tail).await?;
        let mut done = RestoreCheckpoint::open(self.options.done_list.as_deref(), &extents.digest)?;
        let kept = done.files().clone();
        let mut restored = RestoreResult {
            files: files.len() as u64,
            files_kept: kept.len() as u64,
            ..RestoreResult::default()
        };
        let target = Arc::new(TargetFiles {
            dir: dir.to_owned(),
            files: files.clone(),
            directories: directories.clone(),
        });
        let prepared = target.clone();
        self.store.host.blocking(move || prepared.prepare(&kept)).await??;
        self.fetches(&index, &target, &mut done, &mut restored, progress).await?;
        self.store.host.blocking(move || target.finish()).await??;
        Ok(restored)
    }

    async fn fetches(
        &self,
        index: &Extents,
        target: &Arc<TargetFiles>,
        done: &mut RestoreCheckpoint,
        restored: &mut RestoreResult,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let total = target.files.iter().map(|file| file.size).sum();
        let mut windows = RestoreWindows::new(index.read(file_blocks(&target.files)), &index.packs);
        let tables = FrameTableCache::default();
        let (mut writing, mut syncing) = (FuturesUnordered::new(), FuturesUnordered::new());
        let (mut ledger, mut written) = (FileProgress::default(), VecDeque::new());
        loop {
            while writing.len() < self.options.parallel.max(1) {
                let Some(fetch) = ledger.next_fetch(&mut windows, done).await? else { break };
                writing.push(self.fetch(fetch, target.clone(), &tables));
            }
            if writing.is_empty() {
                written.extend(ledger.rest(target.files.len()).filter(|file| !done.contains(*file)));
            }
            while syncing.len() < self.options.parallel.max(1) {
                let Some(file) = written.pop_front() else { break };
                syncing.push(sync(file, target.clone(), &self.store.host));
            }
            tokio::select! {
                biased;
                // First: a durable file is recorded before anything else is written.
                Some(file) = syncing.next() => done.add(file?)?,
                Some(fetch) = writing.next() => {
                    let (window, fetched, bytes) = fetch?;
                    restored.bytes_fetched += fetched;
                    restored.bytes_written += bytes;
                    written.extend(ledger.settle(window).filter(|file| !done.contains(*file)));
                    progress(Progress { done: ledger.passed(total), total: Some(total), unit: ProgressUnit::Bytes });
                }
                else => break,
            }
        }
        progress(Progress { done: total, total: Some(total), unit: ProgressUnit::Bytes });
        Ok(())
    }

    async fn fetch(
        &self,
        fetch: PackFetch,
        target: Arc<TargetFiles>,
        tables: &FrameTableCache,
    ) -> Result<(u64, u64, u64)> {
        let (opened, fetch) = (tables.get(self.store, self.keys, &fetch.pack).await?, Arc::new(fetch));
        let (fetched, written) = match self.fetch_and_write(&opened, &fetch, &target).await {
            // One bad answer is no proof of damage, and the next attempt overwrites its bytes.
            Err(error) if error.kind == ErrorKind::Damaged => {
                tracing::warn!("{error}; reading it once more");
                self.fetch_and_write(&opened, &fetch, &target).await?
            }
            done => done?,
        };
        Ok((fetch.window, fetched, written))
    }

    /// Fetches a piece of a pack and writes it; returns the bytes fetched, and written.
    async fn fetch_and_write(
        &self,
        opened: &OpenObject,
        fetch: &Arc<PackFetch>,
        target: &Arc<TargetFiles>,
    ) -> Result<(u64, u64)> {
        let bytes = opened.fetch(fetch.frames.clone()).await?;
        let fetched = bytes.len() as u64;
        let (opened, fetch, target) = (opened.clone(), Arc::clone(fetch), Arc::clone(target));
        let written = self.store.host.blocking(move || target.write(&opened, &bytes, &fetch)).await??;
        Ok((fetched, written))
    }
}

async fn sync(file: usize, target: Arc<TargetFiles>, host: &Host) -> Result<usize> {
    host.blocking(move || target.sync(file)).await??;
    Ok(file)
}

/// Cache of the frame tables of the packs opened last.
#[derive(Default)]
struct FrameTableCache {
    opened: Mutex<BTreeMap<PackId, OpenObject>>,
}

impl FrameTableCache {
    async fn get(
        &self,
        store: &EncryptedStore,
        keys: &ShardKeys,
        pack: &PackEntry,
    ) -> ObjectResult<OpenObject> {
        if let Some(opened) = self.opened.lock().ok().and_then(|tables| tables.get(&pack.id).cloned()) {
            return Ok(opened);
        }
        let reference = pack.reference(keys);
        let expected = ExpectedObject::referenced(ObjectKind::Pack, &reference);
        let opened = store.open(expected, ReadHeader::Tail).await?;
        if let Ok(mut tables) = self.opened.lock() {
            if tables.len() >= FRAME_TABLES_CACHED {
                tables.clear();
            }
            tables.insert(pack.id, opened.clone());
        }
        Ok(opened)
    }
}
