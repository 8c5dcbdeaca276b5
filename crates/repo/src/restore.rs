//! Writing a backup's files.
//!
//! Memory is bounded by the pieces of packs that are under way: at most 8 MiB for each of `parallel`. Files
//! are made durable while others are still being written.

mod ledger;
mod target;
mod windows;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::progress::{Progress, Unit};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use self::ledger::Ledger;
use self::target::Target;
use self::windows::{Piece, Windows};
use crate::OnProgress;
use crate::done_list::DoneList;
use crate::extents::{Extents, Pack};
use crate::keys::{PackId, ShardKeys};
use crate::manifest::{Manifest, Storage};
use crate::object::{Ends, Expected, ObjectKind, ObjectResult, Opened};
use crate::report::{RestoreOptions, Restored};
use crate::save::file_blocks;
use crate::shelf::Shelf;

/// Frame tables that are remembered: 1.5 KiB each.
const TABLES: usize = 4096;

/// One restore.
pub(crate) struct Restore<'a> {
    pub(crate) shelf: &'a Shelf,
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
    ) -> Result<Restored> {
        let Storage::Blocks { files, directories, extents, .. } = &manifest.storage else {
            return Err(Fault::refused("restore files: this backup is a snapshot of volumes, not files"));
        };
        let index = Extents::open(self.shelf, extents, Ends::Tail).await?;
        let mut done = DoneList::open(self.options.done_list.as_deref(), &extents.digest)?;
        let kept = done.files().clone();
        let mut restored =
            Restored { files: files.len() as u64, files_kept: kept.len() as u64, ..Restored::default() };
        let target =
            Arc::new(Target { dir: dir.to_owned(), files: files.clone(), directories: directories.clone() });
        let prepared = target.clone();
        blocking(move || prepared.prepare(&kept)).await?;
        self.pieces(&index, &target, &mut done, &mut restored, progress).await?;
        blocking(move || target.finish()).await?;
        Ok(restored)
    }

    async fn pieces(
        &self,
        index: &Extents,
        target: &Arc<Target>,
        done: &mut DoneList,
        restored: &mut Restored,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let total = target.files.iter().map(|file| file.size).sum();
        let mut windows = Windows::new(index.read(file_blocks(&target.files)), &index.packs);
        let tables = Tables::default();
        let (mut writing, mut syncing) = (FuturesUnordered::new(), FuturesUnordered::new());
        let (mut ledger, mut written) = (Ledger::default(), VecDeque::new());
        loop {
            while writing.len() < self.options.parallel.max(1) {
                let Some(piece) = ledger.next_piece(&mut windows, done).await? else { break };
                writing.push(self.piece(piece, target.clone(), &tables));
            }
            if writing.is_empty() {
                written.extend(ledger.rest(target.files.len()).filter(|file| !done.contains(*file)));
            }
            while syncing.len() < self.options.parallel.max(1) {
                let Some(file) = written.pop_front() else { break };
                syncing.push(sync(file, target.clone()));
            }
            tokio::select! {
                Some(piece) = writing.next() => {
                    let (window, fetched, bytes) = piece?;
                    restored.bytes_fetched += fetched;
                    restored.bytes_written += bytes;
                    written.extend(ledger.settle(window).filter(|file| !done.contains(*file)));
                    progress(Progress { done: ledger.passed(total), total: Some(total), unit: Unit::Bytes });
                }
                Some(file) = syncing.next() => done.add(file?)?,
                else => break,
            }
        }
        progress(Progress { done: total, total: Some(total), unit: Unit::Bytes });
        Ok(())
    }

    async fn piece(&self, piece: Piece, target: Arc<Target>, tables: &Tables) -> Result<(u64, u64, u64)> {
        let (opened, piece) = (tables.get(self.shelf, self.keys, &piece.pack).await?, Arc::new(piece));
        let (fetched, written) = match written(&opened, &piece, &target).await {
            // One bad answer is no proof of damage, and what was written of it is written over.
            Err(fault) if fault.kind == Kind::Damaged => {
                tracing::warn!("{fault}; asking once more");
                written(&opened, &piece, &target).await?
            }
            done => done?,
        };
        Ok((piece.window, fetched, written))
    }
}

/// Fetches a piece and writes it: bytes fetched, and written.
async fn written(opened: &Opened, piece: &Arc<Piece>, target: &Arc<Target>) -> Result<(u64, u64)> {
    let bytes = opened.fetch(piece.frames.clone()).await?;
    let fetched = bytes.len() as u64;
    let (opened, piece, target) = (opened.clone(), Arc::clone(piece), Arc::clone(target));
    let written = blocking(move || target.write(&opened, &bytes, &piece)).await?;
    Ok((fetched, written))
}

async fn sync(file: usize, target: Arc<Target>) -> Result<usize> {
    blocking(move || target.sync(file)).await?;
    Ok(file)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.failed("restore")?
}

/// The frame tables of the packs that were opened last.
#[derive(Default)]
struct Tables {
    opened: Mutex<HashMap<PackId, Opened>>,
}

impl Tables {
    async fn get(&self, shelf: &Shelf, keys: &ShardKeys, pack: &Pack) -> ObjectResult<Opened> {
        if let Some(opened) = self.opened.lock().ok().and_then(|tables| tables.get(&pack.id).cloned()) {
            return Ok(opened);
        }
        let reference = pack.reference(keys);
        let expected = Expected::referenced(ObjectKind::Pack, &reference);
        let opened = shelf.open(expected, Ends::Tail).await?;
        if let Ok(mut tables) = self.opened.lock() {
            if tables.len() >= TABLES {
                tables.clear();
            }
            tables.insert(pack.id, opened.clone());
        }
        Ok(opened)
    }
}
