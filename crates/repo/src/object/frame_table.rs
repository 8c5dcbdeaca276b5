//! Frame table and trailer of an object: the position and hash of each frame.

use std::ops::Range;

use super::{HEADER_BYTES, ObjectError, ObjectResult};
use crate::encryption::{Digest, digest};

/// Number of bytes at an object's end that suffice for the table of any pack.
pub(crate) const TABLE_SIZE_GUESS: u64 = 4096;
const ENTRY_BYTES: usize = 24;
const TRAILER_BYTES: usize = 40;
const END_MAGIC: &[u8; 8] = b"POTSKCAB";

/// Positions and hashes of an object's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameTable {
    frames: Vec<Frame>,
    digest: Digest,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) stored: u32,
    pub(crate) plain: u32,
    pub(crate) digest: Digest,
}

/// Collects the frames of an object while it is written.
#[derive(Default)]
pub(crate) struct TableBuilder {
    bytes: Vec<u8>,
    end: u64,
}

impl TableBuilder {
    pub(crate) fn push(&mut self, stored: &[u8], plain: usize) {
        self.bytes.extend((stored.len() as u32).to_le_bytes());
        self.bytes.extend((plain as u32).to_le_bytes());
        self.bytes.extend(digest(stored));
        self.end += stored.len() as u64;
    }

    /// Returns the table with its trailer, and the digest that identifies it.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Digest) {
        let (digest, count) = (digest(&self.bytes), (self.bytes.len() / ENTRY_BYTES) as u64);
        self.bytes.extend((HEADER_BYTES as u64 + self.end).to_le_bytes());
        self.bytes.extend(count.to_le_bytes());
        self.bytes.extend(digest);
        self.bytes.extend(END_MAGIC);
        (self.bytes, digest)
    }
}

impl FrameTable {
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the byte range of consecutive frames in the object.
    pub(crate) fn span(&self, frames: Range<usize>) -> Range<u64> {
        match self.frames.get(frames).unwrap_or_default() {
            [] => 0..0,
            [first, .., last] => first.offset..last.offset + u64::from(last.stored),
            [only] => only.offset..only.offset + u64::from(only.stored),
        }
    }
}

/// Returns the size of table and trailer at the end of an object, according to its trailer. `tail`
/// is the end of an object of `size` bytes.
pub(crate) fn table_size(key: &str, size: u64, tail: &[u8]) -> ObjectResult<u64> {
    let trailer = FrameTableTrailer::parse(key, tail)?;
    size.checked_sub(trailer.offset)
        .filter(|needed| {
            *needed == trailer.count.saturating_mul(ENTRY_BYTES as u64).saturating_add(TRAILER_BYTES as u64)
        })
        .ok_or_else(|| ObjectError::damaged(key, "its trailer does not fit its size"))
}

/// Reads the table from the end of an object. `tail` holds at least as many bytes as [`table_size`]
/// returns.
pub(crate) fn parse_table(key: &str, size: u64, tail: &[u8]) -> ObjectResult<FrameTable> {
    let needed = table_size(key, size, tail)? as usize;
    let short = || ObjectError::damaged(key, "its frame table is cut off");
    let start = tail.len().checked_sub(needed).ok_or_else(short)?;
    let table = &tail[start..tail.len() - TRAILER_BYTES];
    let trailer = FrameTableTrailer::parse(key, tail)?;
    if digest(table) != trailer.digest {
        return Err(ObjectError::damaged(key, "the checksum of its frame table does not match"));
    }
    let mut offset = HEADER_BYTES as u64;
    let mut frames = Vec::with_capacity(table.len() / ENTRY_BYTES);
    for entry in table.chunks_exact(ENTRY_BYTES) {
        let frame = Frame::parse(entry, offset);
        offset += u64::from(frame.stored);
        frames.push(frame);
    }
    if offset != trailer.offset {
        return Err(ObjectError::damaged(key, "its frames do not add up to its size"));
    }
    Ok(FrameTable { frames, digest: trailer.digest })
}

impl Frame {
    fn parse(entry: &[u8], offset: u64) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&entry[8..24]);
        Self { offset, stored: le32(entry), plain: le32(&entry[4..]), digest }
    }
}

struct FrameTableTrailer {
    offset: u64,
    count: u64,
    digest: Digest,
}

impl FrameTableTrailer {
    fn parse(key: &str, tail: &[u8]) -> ObjectResult<Self> {
        let Some(bytes) = tail.last_chunk::<TRAILER_BYTES>() else {
            return Err(ObjectError::damaged(key, "it is shorter than a trailer"));
        };
        if &bytes[32..] != END_MAGIC {
            return Err(ObjectError::damaged(key, "it does not end like a Backstop object: it is cut off"));
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&bytes[16..32]);
        Ok(Self { offset: le64(bytes), count: le64(&bytes[8..]), digest })
    }
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

fn le64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}
