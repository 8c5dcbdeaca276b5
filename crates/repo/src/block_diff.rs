//! Reads a tree from front to back on one thread, and finds which blocks are new and where the
//! others are stored.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::block_extents::{BLOCK_BYTES, BlockLocation, Extent, ExtentsWriter, blocks_of};
use crate::encryption::{Cipher, Digest};
use crate::fingerprints::FingerprintsWriter;
use crate::incremental_parent::{Parent, ParentBlock, common_blocks};
use crate::keys::PackId;
use crate::sparse::{data_ranges, whole_blocks};
use crate::tree::{FileChanges, FileContent, TreeFile};

/// Number of blocks in one pack: 16 MiB before compression.
pub(crate) const PACK_BLOCKS: u32 = 1024;
/// Bytes per read from a file.
const READ_CHUNK_BYTES: usize = 1024 * 1024;
/// Index bytes per hand-over to the next stage.
const INDEX_FLUSH_BYTES: usize = 1024 * 1024;

/// Blocks of one pack that wait to be encoded.
pub(crate) struct PackJob {
    pub(crate) id: PackId,
    pub(crate) blocks: Vec<u8>,
}

/// Channels for the output of the scan.
pub(crate) struct DiffOutputs {
    pub(crate) packs: mpsc::Sender<PackJob>,
    pub(crate) extents: mpsc::Sender<Bytes>,
    pub(crate) fingerprints: mpsc::Sender<Bytes>,
}

/// Progress of the scan, for other tasks to read.
#[derive(Debug, Default)]
pub(crate) struct DiffCounters {
    /// Bytes of files passed.
    pub(crate) passed: AtomicU64,
    /// Bytes of blocks that were not in the parent.
    pub(crate) changed: AtomicU64,
    /// Bytes read from files.
    pub(crate) read: AtomicU64,
}

/// One scan.
pub(crate) struct BlockDiff {
    pub(crate) cipher: Cipher,
    pub(crate) lease: u64,
    /// Number of the first pack.
    pub(crate) first_pack: u64,
    pub(crate) parent: Option<Parent>,
    pub(crate) extents: ExtentsWriter,
    pub(crate) fingerprints: FingerprintsWriter,
    pub(crate) outlets: DiffOutputs,
    pub(crate) counters: Arc<DiffCounters>,
    /// Pack that is being filled.
    pub(crate) filling: Vec<u8>,
    pub(crate) filled: u64,
    pub(crate) zero: Digest,
}

impl BlockDiff {
    /// Reads all files, sorted by path. Returns the index objects, which lack their ends. Closes
    /// the channels, which shows the receivers that nothing more comes.
    pub(crate) fn run(mut self, files: &[TreeFile]) -> Result<(ExtentsWriter, FingerprintsWriter)> {
        for (number, file) in files.iter().enumerate() {
            self.file(number as u32, file)
                .map_err(|error| error.during(format_args!("cannot store {}", file.path)))?;
        }
        self.send_pack()?;
        self.hand_on(INDEX_FLUSH_BYTES)?;
        Ok((self.extents, self.fingerprints))
    }

    fn file(&mut self, number: u32, file: &TreeFile) -> Result<()> {
        let source = FileBytes::open(file)?;
        let before = match &mut self.parent {
            Some(parent) => parent.seek(&file.path)?,
            None => None,
        };
        let common = before.as_ref().map_or(0, |before| common_blocks(before.size, file.size));
        let same_inode =
            before.as_ref().is_some_and(|before| file.inode.is_some() && before.inode == file.inode);
        let wanted = ChangedBlocks {
            data: source.data(file.size)?,
            changed: match &file.changed {
                FileChanges::Only(ranges) if same_inode => {
                    Some(whole_blocks(ranges.iter().cloned(), file.size))
                }
                _ => None,
            },
            common,
        };
        self.blocks(number, file, &source, &wanted)?;
        self.hand_on(INDEX_FLUSH_BYTES)
    }

    fn blocks(
        &mut self,
        number: u32,
        file: &TreeFile,
        source: &FileBytes<'_>,
        wanted: &ChangedBlocks,
    ) -> Result<()> {
        let total = blocks_of(file.size);
        let mut window = ReadAhead::default();
        let (mut data, mut changed) = (0, 0);
        for block in 0..total {
            let before = match &mut self.parent {
                Some(parent) if block < wanted.common => parent.next_sound()?,
                _ => None,
            };
            let in_changed =
                wanted.changed.as_ref().is_none_or(|ranges| is_in_ranges(ranges, &mut changed, block));
            let in_data = is_in_ranges(&wanted.data, &mut data, block);
            match before {
                Some(before) if !in_changed => self.keep(number, block, &before)?,
                before if !in_data => self.zero(number, block, before)?,
                before => {
                    let end = wanted.data.get(data).map_or(total, |range| range.end);
                    let bytes = window.block(source, file, block, end)?;
                    self.counters.read.fetch_add(BLOCK_BYTES as u64, Ordering::Relaxed);
                    self.compare(number, block, before, bytes)?;
                }
            }
            self.counters.passed.fetch_add(BLOCK_BYTES as u64, Ordering::Relaxed);
            if block % 64 == 63 {
                self.go_on()?;
            }
        }
        Ok(())
    }

    fn compare(&mut self, file: u32, block: u64, before: Option<ParentBlock>, bytes: &[u8]) -> Result<()> {
        if bytes.iter().all(|byte| *byte == 0) {
            return self.zero(file, block, before);
        }
        let fingerprint = self.cipher.fingerprint(bytes);
        match before {
            Some(before) if before.fingerprint == fingerprint => self.keep(file, block, &before),
            _ => self.add(file, block, &fingerprint, bytes),
        }
    }

    /// Adds a block that the parent has.
    fn keep(&mut self, file: u32, block: u64, before: &ParentBlock) -> Result<()> {
        let place = match (before.place, &self.parent) {
            (BlockLocation::Pack { pack, block }, Some(parent)) => {
                let id = parent.packs().get(pack as usize).map(|pack| pack.id);
                let id =
                    id.ok_or_else(|| Error::new(ErrorKind::Damaged, "the parent's pack table is too short"))?;
                BlockLocation::Pack { pack: self.extents.number(id), block }
            }
            _ => BlockLocation::Zero,
        };
        self.place(file, block, &before.fingerprint, place)
    }

    fn zero(&mut self, file: u32, block: u64, before: Option<ParentBlock>) -> Result<()> {
        let fingerprint = self.zero;
        if before.is_some_and(|before| before.fingerprint != fingerprint) {
            self.counters.changed.fetch_add(BLOCK_BYTES as u64, Ordering::Relaxed);
        }
        self.place(file, block, &fingerprint, BlockLocation::Zero)
    }

    /// Adds a block that is new.
    fn add(&mut self, file: u32, block: u64, fingerprint: &Digest, bytes: &[u8]) -> Result<()> {
        let id = PackId { lease: self.lease, number: self.first_pack + self.filled };
        let place = BlockLocation::Pack {
            pack: self.extents.number(id),
            block: (self.filling.len() / BLOCK_BYTES) as u32,
        };
        self.filling.extend(bytes);
        self.counters.changed.fetch_add(BLOCK_BYTES as u64, Ordering::Relaxed);
        self.place(file, block, fingerprint, place)?;
        if self.filling.len() == PACK_BLOCKS as usize * BLOCK_BYTES { self.send_pack() } else { Ok(()) }
    }

    fn place(&mut self, file: u32, block: u64, fingerprint: &Digest, place: BlockLocation) -> Result<()> {
        self.fingerprints.push(fingerprint)?;
        self.extents.push(Extent { file, first: block, count: 1, place })
    }

    fn send_pack(&mut self) -> Result<()> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let id = PackId { lease: self.lease, number: self.first_pack + self.filled };
        let capacity = PACK_BLOCKS as usize * BLOCK_BYTES;
        let blocks = std::mem::replace(&mut self.filling, Vec::with_capacity(capacity));
        self.filled += 1;
        self.outlets.packs.blocking_send(PackJob { id, blocks }).map_err(|_| abandoned())
    }

    /// Hands on the output that is ready; fails if the run has been cancelled.
    fn go_on(&mut self) -> Result<()> {
        if self.outlets.packs.is_closed() {
            return Err(abandoned());
        }
        self.hand_on(INDEX_FLUSH_BYTES)
    }

    fn hand_on(&mut self, at_least: usize) -> Result<()> {
        if let Some(bytes) = self.extents.take(at_least) {
            self.outlets.extents.blocking_send(bytes).map_err(|_| abandoned())?;
        }
        if let Some(bytes) = self.fingerprints.take(at_least) {
            self.outlets.fingerprints.blocking_send(bytes).map_err(|_| abandoned())?;
        }
        Ok(())
    }
}

/// Error for a closed channel: another part has failed, and its error is the one that is reported.
fn abandoned() -> Error {
    Error::new(ErrorKind::Interrupted, "the run has been stopped")
}

/// Ranges of blocks of a file that have to be read.
struct ChangedBlocks {
    /// Ranges with data; the rest are holes.
    data: Vec<Range<u64>>,
    /// Ranges that may differ from the parent; `None`: anything.
    changed: Option<Vec<Range<u64>>>,
    /// Number of blocks that may be compared with the parent's.
    common: u64,
}

/// Returns true if the block is in one of the sorted ranges. `at` remembers the range found last.
fn is_in_ranges(ranges: &[Range<u64>], at: &mut usize, block: u64) -> bool {
    while ranges.get(*at).is_some_and(|range| range.end <= block) {
        *at += 1;
    }
    ranges.get(*at).is_some_and(|range| range.contains(&block))
}

/// Bytes of a file.
enum FileBytes<'a> {
    File(File),
    Inline(&'a [u8]),
}

impl<'a> FileBytes<'a> {
    fn open(file: &'a TreeFile) -> Result<Self> {
        match &file.content {
            FileContent::Inline(bytes) if bytes.len() as u64 == file.size => Ok(Self::Inline(bytes)),
            FileContent::Inline(_) => Err(Error::failed("its content does not have the announced size")),
            FileContent::File(path) => {
                let open = File::open(path).failed(format_args!("cannot open {}", path.display()))?;
                let size = open.metadata().failed(format_args!("cannot stat {}", path.display()))?.len();
                if size < file.size {
                    return Err(shrunk(file.size, size));
                }
                Ok(Self::File(open))
            }
        }
    }

    fn data(&self, size: u64) -> Result<Vec<Range<u64>>> {
        match self {
            Self::File(file) => data_ranges(file, size),
            Self::Inline(_) => Ok(whole_blocks(std::iter::once(0..size), size)),
        }
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        match self {
            Self::Inline(bytes) => {
                into.copy_from_slice(&bytes[at as usize..at as usize + into.len()]);
                Ok(())
            }
            Self::File(file) => file.read_exact_at(into, at).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => shrunk(at + into.len() as u64, at),
                _ => Error::failed(format!("cannot read at offset {at}: {error}")),
            }),
        }
    }
}

fn shrunk(wanted: u64, found: u64) -> Error {
    Error::failed(format!("it became shorter while it was read ({found} bytes instead of {wanted})"))
        .hint("store files of a snapshot, which does not change")
}

/// Reads ahead in large pieces.
#[derive(Default)]
struct ReadAhead {
    bytes: Vec<u8>,
    blocks: Range<u64>,
}

impl ReadAhead {
    /// Returns a block, padded with zeros behind the file's end. `end` is the block before which
    /// reading ahead stops.
    fn block(&mut self, source: &FileBytes<'_>, file: &TreeFile, block: u64, end: u64) -> Result<&[u8]> {
        if !self.blocks.contains(&block) {
            let until = end.min(block + (READ_CHUNK_BYTES / BLOCK_BYTES) as u64);
            let start = block * BLOCK_BYTES as u64;
            let length = (file.size - start).min((until - block) * BLOCK_BYTES as u64) as usize;
            self.bytes.resize((until - block) as usize * BLOCK_BYTES, 0);
            source.read(start, &mut self.bytes[..length])?;
            self.bytes[length..].fill(0);
            self.blocks = block..until;
        }
        let at = (block - self.blocks.start) as usize * BLOCK_BYTES;
        Ok(&self.bytes[at..at + BLOCK_BYTES])
    }
}
