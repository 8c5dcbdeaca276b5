//! Writing a backup's files.
//!
//! Extents are taken in windows of [`WINDOW`] blocks and grouped by pack, so that each pack is read in a few
//! large pieces although the blocks of a file lie in many packs. Memory is bounded by the pieces that are
//! under way: at most [`PIECE`] stored bytes for each of `parallel`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::progress::{Progress, Unit};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::OnProgress;
use crate::done_list::DoneList;
use crate::extents::{BLOCK, Extent, Extents, ExtentsReader, FRAME_BLOCKS, Pack, Place};
use crate::keys::{PackId, ShardKeys};
use crate::manifest::{DirectoryEntry, FileEntry, Manifest, Storage};
use crate::object::{Ends, Expected, ObjectFault, ObjectKind, ObjectResult, Opened};
use crate::report::{RestoreOptions, Restored};
use crate::save::file_blocks;
use crate::shelf::Shelf;
use crate::tree::is_plain;

/// Blocks of one window: 64 MiB.
const WINDOW: u64 = 4096;
/// Most stored bytes of one piece of a pack.
const PIECE: u64 = 8 * 1024 * 1024;
/// Frames between two wanted ones that are fetched with them rather than asked for separately.
const GAP: u32 = 4;
/// Frame tables that are remembered: 1.5 KiB each.
const TABLES: usize = 4096;

/// Some consecutive blocks: from a pack into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Move {
    file: u32,
    to: u64,
    from: u32,
    count: u32,
}

/// What one fetch brings.
#[derive(Debug)]
struct Piece {
    window: u64,
    pack: Pack,
    frames: std::ops::Range<usize>,
    moves: Vec<Move>,
}

/// One restore.
pub(crate) struct Restore<'a> {
    pub(crate) shelf: &'a Shelf,
    pub(crate) keys: &'a ShardKeys,
    pub(crate) options: &'a RestoreOptions,
}

/// The files that are being written.
struct Target {
    dir: PathBuf,
    files: Vec<FileEntry>,
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
        let mut done = DoneList::open(self.options.done_list.as_deref(), &extents.digest)?;
        let target = Arc::new(Target { dir: dir.to_owned(), files: files.clone() });
        let kept = done.files().len() as u64;
        let prepare = (target.clone(), directories.clone(), done.files().clone());
        blocking(move || prepare.0.prepare(&prepare.1, &prepare.2)).await?;
        let index = Extents::open(self.shelf, extents, Ends::Tail).await?;
        let mut restored = Restored { files: files.len() as u64, files_kept: kept, ..Restored::default() };
        self.pieces(&index, &target, &mut done, &mut restored, progress).await?;
        let finish = (target.clone(), directories.clone());
        blocking(move || finish.0.finish(&finish.1)).await?;
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
        let mut under_way = FuturesUnordered::new();
        let mut ledger = Ledger::default();
        loop {
            while under_way.len() < self.options.parallel.max(1) {
                let Some(window) = ledger.next_piece(&mut windows, done).await? else { break };
                under_way.push(self.piece(window, target.clone(), &tables));
            }
            let Some(piece) = under_way.next().await else { break };
            let (window, fetched, written) = piece?;
            restored.bytes_fetched += fetched;
            restored.bytes_written += written;
            let complete = ledger.settle(window);
            self.complete(complete, target, done).await?;
            progress(Progress { done: ledger.passed(total), total: Some(total), unit: Unit::Bytes });
        }
        self.complete(ledger.rest(target.files.len()), target, done).await?;
        progress(Progress { done: total, total: Some(total), unit: Unit::Bytes });
        Ok(())
    }

    /// Makes files durable, then remembers that they are complete.
    async fn complete(
        &self,
        files: std::ops::Range<usize>,
        target: &Arc<Target>,
        done: &mut DoneList,
    ) -> Result<()> {
        let wanted: Vec<usize> = files.filter(|file| !done.contains(*file)).collect();
        let syncs = wanted.iter().map(|file| {
            let (target, file) = (target.clone(), *file);
            blocking(move || target.sync(file))
        });
        let mut syncs = futures::stream::iter(syncs).buffer_unordered(self.options.parallel.max(1));
        while let Some(synced) = syncs.next().await {
            synced?;
        }
        done.add(&wanted)
    }

    async fn piece(&self, piece: Piece, target: Arc<Target>, tables: &Tables) -> Result<(u64, u64, u64)> {
        let opened = tables.get(self.shelf, self.keys, &piece.pack).await?;
        let bytes = opened.fetch(piece.frames.clone()).await?;
        let (window, fetched) = (piece.window, bytes.len() as u64);
        let written = blocking(move || target.write(&opened, &bytes, &piece)).await?;
        Ok((window, fetched, written))
    }
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
        let opened = shelf.open(Expected::referenced(ObjectKind::Pack, &reference), Ends::Tail).await?;
        if let Ok(mut tables) = self.opened.lock() {
            if tables.len() >= TABLES {
                tables.clear();
            }
            tables.insert(pack.id, opened.clone());
        }
        Ok(opened)
    }
}

/// Takes extents by windows and makes pieces of them.
struct Windows<'a> {
    extents: ExtentsReader,
    packs: &'a [Pack],
    /// The part of an extent that did not fit into the window before.
    over: Option<Extent>,
    number: u64,
}

/// The pieces of one window, and where it ends.
struct Window {
    number: u64,
    pieces: Vec<Piece>,
    /// The file that the window ends in; all before it are in this window or earlier ones.
    ends_in: usize,
    blocks: u64,
}

impl<'a> Windows<'a> {
    fn new(extents: ExtentsReader, packs: &'a [Pack]) -> Self {
        Self { extents, packs, over: None, number: 0 }
    }

    /// The next window; `None` after the last. Files that are complete are left out.
    async fn next(&mut self, done: &DoneList) -> ObjectResult<Option<Window>> {
        let mut moves: BTreeMap<u32, Vec<Move>> = BTreeMap::new();
        let (mut room, mut last, mut passed) = (WINDOW, None, 0);
        while room > 0 {
            let extent = match self.over.take() {
                Some(extent) => extent,
                None => match self.extents.next().await? {
                    Some(extent) => extent,
                    None => break,
                },
            };
            last = Some(extent.file as usize);
            let Place::Pack { pack, block } = extent.place else {
                passed += extent.count;
                continue;
            };
            let take = extent.count.min(room);
            passed += take;
            if !done.contains(extent.file as usize) {
                let part = Move { file: extent.file, to: extent.first, from: block, count: take as u32 };
                moves.entry(pack).or_default().push(part);
                room -= take;
            }
            if take < extent.count {
                self.over = Some(Extent {
                    first: extent.first + take,
                    count: extent.count - take,
                    place: Place::Pack { pack, block: block + take as u32 },
                    ..extent
                });
            }
        }
        let Some(ends_in) = last else { return Ok(None) };
        let number = self.number;
        self.number += 1;
        let mut pieces = Vec::new();
        for (pack, moves) in moves {
            pieces.extend(cut(number, self.packs[pack as usize], moves));
        }
        Ok(Some(Window { number, pieces, ends_in, blocks: passed }))
    }
}

/// Cuts what is wanted of one pack into fetches.
fn cut(window: u64, pack: Pack, mut moves: Vec<Move>) -> Vec<Piece> {
    moves.sort_by_key(|part| part.from);
    // An average is enough here: it bounds memory, it need not be exact.
    let most = (PIECE / (u64::from(FRAME_BLOCKS) * BLOCK as u64)) as usize;
    let mut pieces: Vec<Piece> = Vec::new();
    for part in moves {
        let mut part = Some(part);
        while let Some(now) = part.take() {
            let first = (now.from / FRAME_BLOCKS) as usize;
            let joins = pieces.last().is_some_and(|piece| {
                first <= piece.frames.end + GAP as usize && first < piece.frames.start + most
            });
            if !joins {
                pieces.push(Piece { window, pack, frames: first..first, moves: Vec::new() });
            }
            let Some(piece) = pieces.last_mut() else { break };
            let end = (piece.frames.start + most) as u32 * FRAME_BLOCKS;
            let fits = now.count.min(end - now.from);
            piece.frames.end = piece.frames.end.max((now.from + fits).div_ceil(FRAME_BLOCKS) as usize);
            piece.moves.push(Move { count: fits, ..now });
            if fits < now.count {
                let rest = Move {
                    to: now.to + u64::from(fits),
                    from: now.from + fits,
                    count: now.count - fits,
                    ..now
                };
                part = Some(rest);
            }
        }
    }
    pieces
}

/// Which windows are complete, and with them which files.
#[derive(Default)]
struct Ledger {
    waiting: std::collections::VecDeque<Piece>,
    /// Of each window that is not complete: pieces left, the file it ends in, its blocks.
    open: BTreeMap<u64, (usize, usize, u64)>,
    complete_files: usize,
    read_to: usize,
    blocks: u64,
}

impl Ledger {
    async fn next_piece(&mut self, windows: &mut Windows<'_>, done: &DoneList) -> Result<Option<Piece>> {
        while self.waiting.is_empty() {
            let Some(window) = windows.next(done).await? else { return Ok(None) };
            self.read_to = window.ends_in;
            self.open.insert(window.number, (window.pieces.len(), window.ends_in, window.blocks));
            self.waiting.extend(window.pieces);
        }
        Ok(self.waiting.pop_front())
    }

    /// A piece of a window is written: the files that are complete with it.
    fn settle(&mut self, window: u64) -> std::ops::Range<usize> {
        if let Some((left, ..)) = self.open.get_mut(&window) {
            *left -= 1;
        }
        let from = self.complete_files;
        while let Some(entry) = self.open.first_entry() {
            let (left, ends_in, blocks) = *entry.get();
            if left > 0 {
                break;
            }
            entry.remove();
            self.complete_files = ends_in;
            self.blocks += blocks;
        }
        from..self.complete_files
    }

    /// Everything is written: the files that were not complete before.
    fn rest(&self, files: usize) -> std::ops::Range<usize> {
        self.complete_files..files
    }

    fn passed(&self, total: u64) -> u64 {
        (self.blocks * BLOCK as u64).min(total)
    }
}

impl Target {
    fn path(&self, relative: &str) -> Result<PathBuf> {
        if is_plain(relative) {
            return Ok(self.dir.join(relative));
        }
        Err(Fault::new(Kind::Damaged, format!("restore `{relative}`: it would lie outside the directory")))
    }

    /// Makes directories and empty files of the right size; what an interrupted restore left of a file that
    /// was not complete is dropped.
    fn prepare(
        &self,
        directories: &[DirectoryEntry],
        done: &std::collections::BTreeSet<usize>,
    ) -> Result<()> {
        std::fs::create_dir_all(&self.dir).failed(format_args!("make {}", self.dir.display()))?;
        for directory in directories {
            let path = self.path(&directory.path)?;
            std::fs::create_dir_all(&path).failed(format_args!("make {}", path.display()))?;
        }
        for (number, file) in self.files.iter().enumerate() {
            if !done.contains(&number) {
                self.create(file)?;
            }
        }
        Ok(())
    }

    fn create(&self, file: &FileEntry) -> Result<()> {
        let path = self.path(&file.path)?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).failed(format_args!("make {}", parent.display()))?;
        }
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&path);
        let open = open.failed(format_args!("create {}", path.display()))?;
        open.set_len(file.size).failed(format_args!("size {}", path.display()))
    }

    fn open(&self, file: u32) -> Result<(File, &FileEntry)> {
        let entry = &self.files[file as usize];
        let path = self.path(&entry.path)?;
        let open = OpenOptions::new().write(true).open(&path);
        Ok((open.failed(format_args!("open {}", path.display()))?, entry))
    }

    /// Writes what one fetch brought.
    fn write(&self, opened: &Opened, bytes: &bytes::Bytes, piece: &Piece) -> Result<u64> {
        let mut frame = Vec::new();
        let mut at = None;
        let (mut file, mut number, mut written) = (None, None, 0);
        for part in &piece.moves {
            if number != Some(part.file) {
                file = Some(self.open(part.file)?);
                number = Some(part.file);
            }
            let Some((file, entry)) = &file else { continue };
            let mut left = *part;
            while left.count > 0 {
                let wanted = (left.from / FRAME_BLOCKS) as usize;
                if at != Some(wanted) {
                    opened.decode(bytes, piece.frames.start, wanted, &mut frame)?;
                    at = Some(wanted);
                }
                let within = left.from % FRAME_BLOCKS;
                let count = left.count.min(FRAME_BLOCKS - within);
                let start = within as usize * BLOCK;
                let offset = left.to * BLOCK as u64;
                let length = (u64::from(count) * BLOCK as u64).min(entry.size - offset) as usize;
                let data = frame.get(start..start + length).ok_or_else(|| {
                    ObjectFault::damaged(opened.key(), format!("frame {wanted} is shorter than its blocks"))
                })?;
                file.write_all_at(data, offset).failed(format_args!("write {}", entry.path))?;
                written += length as u64;
                left = Move {
                    to: left.to + u64::from(count),
                    from: left.from + count,
                    count: left.count - count,
                    ..left
                };
            }
        }
        Ok(written)
    }

    fn sync(&self, number: usize) -> Result<()> {
        let (file, entry) = self.open(number as u32)?;
        // Backstop restores data for one server: nobody else needs to read it.
        let mode = std::fs::Permissions::from_mode(entry.mode & 0o770 | 0o600);
        file.set_permissions(mode).failed(format_args!("set the mode of {}", entry.path))?;
        file.sync_all().failed(format_args!("make {} durable", entry.path))
    }

    /// Modes of directories, and their entries made durable, deepest first.
    fn finish(&self, directories: &[DirectoryEntry]) -> Result<()> {
        for directory in directories.iter().rev() {
            let path = self.path(&directory.path)?;
            let mode = std::fs::Permissions::from_mode(directory.mode & 0o770 | 0o700);
            std::fs::set_permissions(&path, mode)
                .failed(format_args!("set the mode of {}", path.display()))?;
        }
        let mut all: std::collections::BTreeSet<PathBuf> = self
            .files
            .iter()
            .filter_map(|file| self.dir.join(&file.path).parent().map(Path::to_owned))
            .collect();
        all.extend(directories.iter().map(|directory| self.dir.join(&directory.path)));
        all.insert(self.dir.clone());
        for path in all.iter().rev() {
            File::open(path)
                .and_then(|open| open.sync_all())
                .failed(format_args!("make {} durable", path.display()))?;
        }
        Ok(())
    }
}
