//! Extents of a backup: the location of each block of each file, and the packs that hold the
//! blocks.
//!
//! The object is a stream in (file, offset) order, so that two of them can be merged without
//! holding either in memory. Frames of extents come first, then frames of the pack table, then one
//! frame with the [`ExtentsSummary`].

use std::collections::HashMap;

use backstop_host::Host;
use backstop_types::error::Result;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::encrypted_store::EncryptedStore;
use crate::encryption::{Cipher, Digest};
use crate::keys::{PackId, ShardKeys};
use crate::manifest::ObjectRef;
use crate::object::{
    Encoder, ExpectedObject, MAX_FRAME_BYTES, ObjectError, ObjectKind, ObjectResult, OpenObject, ReadHeader,
    Unpacker, is_doubtful, stream_frames,
};

/// Size of a block in bytes.
pub(crate) const BLOCK_BYTES: usize = 16 * 1024;
/// Number of blocks in one frame of a pack.
pub(crate) const FRAME_BLOCKS: u32 = 16;

/// Returns the number of blocks of a file of this size in bytes.
pub(crate) fn blocks_of(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES as u64)
}

/// Location of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockLocation {
    /// Not stored: the block is all zero.
    Zero,
    /// In a pack, by the pack's number in the table and the block's number in the pack.
    Pack { pack: u32, block: u32 },
}

/// Consecutive blocks of one file whose bytes are contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) file: u32,
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) place: BlockLocation,
}

/// Pack in the table of an extents object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackEntry {
    pub(crate) id: PackId,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

/// Size of a pack in the table: lease 8, number 8, size 8, digest 16 bytes.
const PACK_ENTRY_BYTES: usize = 40;
const PACKS_PER_FRAME: usize = MAX_FRAME_BYTES / PACK_ENTRY_BYTES;

/// The last frame: describes the frames before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExtentsSummary {
    pub(crate) extent_frames: u64,
    pub(crate) packs: u64,
    pub(crate) blocks: u64,
}

impl PackEntry {
    pub(crate) fn reference(&self, keys: &ShardKeys) -> ObjectRef {
        ObjectRef { key: keys.pack(self.id), size: self.size, digest: crate::encryption::hex(&self.digest) }
    }

    fn to_bytes(self) -> [u8; PACK_ENTRY_BYTES] {
        let mut bytes = [0; PACK_ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.id.lease.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..].copy_from_slice(&self.digest);
        bytes
    }

    fn from_bytes(bytes: &[u8; PACK_ENTRY_BYTES]) -> Self {
        let number = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
        let mut digest = [0; 16];
        digest.copy_from_slice(&bytes[24..]);
        Self { id: PackId { lease: number(0), number: number(8) }, size: number(16), digest }
    }
}

/// Writes an extents object block by block.
pub(crate) struct ExtentsWriter {
    encoder: Encoder,
    frame: Vec<u8>,
    open: Option<Extent>,
    blocks: u64,
    /// Looked up for each block, never iterated.
    numbers: HashMap<PackId, u32>,
    packs: Vec<PackId>,
}

impl ExtentsWriter {
    pub(crate) fn new(key: &str, cipher: &Cipher) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::new(ObjectKind::Extents, key, cipher)?,
            frame: Vec::with_capacity(MAX_FRAME_BYTES),
            open: None,
            blocks: 0,
            numbers: HashMap::new(),
            packs: Vec::new(),
        })
    }

    /// Returns the number of a pack in this object's table.
    pub(crate) fn number(&mut self, id: PackId) -> u32 {
        *self.numbers.entry(id).or_insert_with(|| {
            self.packs.push(id);
            (self.packs.len() - 1) as u32
        })
    }

    /// Adds the next blocks of a file. Blocks come in (file, offset) order, without gaps.
    pub(crate) fn push(&mut self, next: Extent) -> Result<()> {
        self.blocks += next.count;
        match &mut self.open {
            Some(open) if continues(open, &next) => {
                open.count += next.count;
                Ok(())
            }
            open => match open.replace(next) {
                Some(complete) => self.write(&complete),
                None => Ok(()),
            },
        }
    }

    /// Returns the bytes that are ready to be stored.
    pub(crate) fn take(&mut self, at_least: usize) -> Option<Bytes> {
        self.encoder.take(at_least)
    }

    /// Returns the packs that the extents refer to, by number.
    pub(crate) fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// Completes the object. `packs` describes [`ExtentsWriter::packs`], in the same order.
    pub(crate) fn finish(mut self, packs: &[PackEntry]) -> Result<(Bytes, ObjectRef)> {
        if let Some(last) = self.open.take() {
            self.write(&last)?;
        }
        self.flush()?;
        let summary = ExtentsSummary {
            extent_frames: self.encoder.count(),
            packs: packs.len() as u64,
            blocks: self.blocks,
        };
        for some in packs.chunks(PACKS_PER_FRAME) {
            let bytes: Vec<u8> = some.iter().flat_map(|pack| pack.to_bytes()).collect();
            self.encoder.frame(&bytes)?;
        }
        self.encoder
            .frame(&[summary.extent_frames, summary.packs, summary.blocks].map(u64::to_le_bytes).concat())?;
        Ok(self.encoder.finish())
    }

    /// Writes an extent. Each frame begins with its position, so that reading can begin at any
    /// frame.
    fn write(&mut self, extent: &Extent) -> Result<()> {
        if self.frame.len() > MAX_FRAME_BYTES - 64 {
            self.flush()?;
        }
        if self.frame.is_empty() {
            put_varint(&mut self.frame, u64::from(extent.file));
            put_varint(&mut self.frame, extent.first);
        }
        put_varint(&mut self.frame, extent.count);
        match extent.place {
            BlockLocation::Zero => put_varint(&mut self.frame, 0),
            BlockLocation::Pack { pack, block } => {
                put_varint(&mut self.frame, u64::from(pack) + 1);
                put_varint(&mut self.frame, u64::from(block));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.frame.is_empty() {
            self.encoder.frame(&self.frame)?;
            self.frame.clear();
        }
        Ok(())
    }
}

fn continues(open: &Extent, next: &Extent) -> bool {
    let follows = open.file == next.file && open.first + open.count == next.first;
    follows
        && match (open.place, next.place) {
            (BlockLocation::Zero, BlockLocation::Zero) => true,
            (BlockLocation::Pack { pack: a, block }, BlockLocation::Pack { pack: b, block: then }) => {
                a == b && u64::from(block) + open.count == u64::from(then)
            }
            _ => false,
        }
}

/// Open extents object: its packs are known, its extents can be streamed.
pub(crate) struct Extents {
    host: Host,
    opened: OpenObject,
    summary: ExtentsSummary,
    pub(crate) packs: Vec<PackEntry>,
}

impl Extents {
    /// Opens an extents object and reads its pack table.
    pub(crate) async fn open(
        store: &EncryptedStore,
        reference: &ObjectRef,
        ends: ReadHeader,
    ) -> ObjectResult<Self> {
        let opened = store.open(ExpectedObject::referenced(ObjectKind::Extents, reference), ends).await?;
        let wrong = |what: &str| ObjectError::damaged(&reference.key, what);
        let frames = opened.table.frames().len();
        let last = frames.checked_sub(1).ok_or_else(|| wrong("it has no frames"))?;
        let mut unpacker = Unpacker::new()?;
        let mut bytes = opened.fetch(last..frames).await?;
        if let Err(error) = opened.decode(&bytes, last, last, &mut unpacker)
            && is_doubtful(&error, None)
        {
            bytes = opened.fetch(last..frames).await?;
        }
        let plain = opened.decode(&bytes, last, last, &mut unpacker)?;
        let numbers: Vec<u64> = plain
            .chunks_exact(8)
            .filter_map(|eight| eight.first_chunk().map(|eight| u64::from_le_bytes(*eight)))
            .collect();
        let [extent_frames, count, blocks] = numbers[..] else {
            return Err(wrong("its last frame is not a summary"));
        };
        let summary = ExtentsSummary { extent_frames, packs: count, blocks };
        let mut packs = Vec::new();
        let first = extent_frames.min(last as u64) as usize;
        let mut table = stream_frames(&store.host, opened.clone(), first..last);
        while let Some(frame) = table.recv().await {
            packs.extend(frame?.as_chunks::<PACK_ENTRY_BYTES>().0.iter().map(PackEntry::from_bytes));
        }
        if packs.len() as u64 != count {
            return Err(wrong("its pack table is not complete"));
        }
        Ok(Self { host: store.host.clone(), opened, summary, packs })
    }

    pub(crate) fn key(&self) -> &str {
        self.opened.key()
    }

    /// Reads the extents of files with these numbers of blocks, in order. Every block is covered
    /// exactly once, or the reader returns an error.
    pub(crate) fn read(&self, file_blocks: Vec<u64>) -> ExtentsReader {
        ExtentsReader {
            key: self.opened.key().to_owned(),
            frames: stream_frames(&self.host, self.opened.clone(), 0..self.summary.extent_frames as usize),
            packs: self.packs.len() as u64,
            total: self.summary.blocks,
            decoder: ExtentsDecoder { file_blocks, file: 0, block: 0, seen: 0, frame: Vec::new(), at: 0 },
        }
    }
}

/// Reads extents one by one.
pub(crate) struct ExtentsReader {
    key: String,
    frames: mpsc::Receiver<ObjectResult<Vec<u8>>>,
    packs: u64,
    total: u64,
    decoder: ExtentsDecoder,
}

impl ExtentsReader {
    /// Returns the next extent; `None` after the last.
    pub(crate) async fn next(&mut self) -> ObjectResult<Option<Extent>> {
        while self.decoder.is_at_end() {
            match self.frames.recv().await {
                Some(frame) => self.take(frame?)?,
                None => return self.end(),
            }
        }
        self.decode()
    }

    /// Returns the next extent as [`ExtentsReader::next`] does, for a thread that may block.
    pub(crate) fn blocking_next(&mut self) -> ObjectResult<Option<Extent>> {
        while self.decoder.is_at_end() {
            match self.frames.blocking_recv() {
                Some(frame) => self.take(frame?)?,
                None => return self.end(),
            }
        }
        self.decode()
    }

    fn take(&mut self, frame: Vec<u8>) -> ObjectResult<()> {
        self.decoder
            .take(frame)
            .ok_or_else(|| ObjectError::damaged(&self.key, "its frames are not consecutive"))
    }

    fn decode(&mut self) -> ObjectResult<Option<Extent>> {
        let extent = self.decoder.next(self.packs);
        extent.map(Some).ok_or_else(|| ObjectError::damaged(&self.key, "an extent does not fit the files"))
    }

    fn end(&mut self) -> ObjectResult<Option<Extent>> {
        self.decoder.skip_empty();
        if self.decoder.file == self.decoder.file_blocks.len() && self.decoder.seen == self.total {
            Ok(None)
        } else {
            Err(ObjectError::damaged(&self.key, "its extents do not cover every block of every file"))
        }
    }
}

/// Decodes the extents and follows them through the files.
struct ExtentsDecoder {
    file_blocks: Vec<u64>,
    file: usize,
    block: u64,
    seen: u64,
    frame: Vec<u8>,
    at: usize,
}

impl ExtentsDecoder {
    fn is_at_end(&self) -> bool {
        self.at >= self.frame.len()
    }

    fn take(&mut self, frame: Vec<u8>) -> Option<()> {
        (self.frame, self.at) = (frame, 0);
        let (file, first) = (self.varint()?, self.varint()?);
        self.skip_empty();
        (file == self.file as u64 && first == self.block).then_some(())
    }

    fn next(&mut self, packs: u64) -> Option<Extent> {
        self.skip_empty();
        let size = *self.file_blocks.get(self.file)?;
        let count = self.varint()?;
        let place = match self.varint()? {
            0 => BlockLocation::Zero,
            number if number <= packs => {
                BlockLocation::Pack { pack: (number - 1) as u32, block: u32::try_from(self.varint()?).ok()? }
            }
            _ => return None,
        };
        let extent = Extent { file: self.file as u32, first: self.block, count, place };
        if count == 0 || count > size - self.block {
            return None;
        }
        self.block += count;
        self.seen += count;
        Some(extent)
    }

    fn skip_empty(&mut self) {
        while self.file_blocks.get(self.file).is_some_and(|blocks| self.block == *blocks) {
            (self.file, self.block) = (self.file + 1, 0);
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = *self.frame.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            shift += 7;
        }
    }
}

fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}
