//! Writes an object, frame by frame.

use backstop_types::error::{Result, ResultExt};
use bytes::Bytes;

use super::frame_table::TableBuilder;
use super::{ObjectError, ObjectKind, ObjectResult, digest_text, header};
use crate::encryption::Cipher;
use crate::manifest::ObjectRef;

/// Maximum number of plain bytes in one frame.
pub(crate) const MAX_FRAME_BYTES: usize = 256 * 1024;
/// Compression level: the fastest of zstd's regular ones
/// (docs/decisions/0003-packs-frames-blocks.md).
const COMPRESSION_LEVEL: i32 = 1;
const RAW_CODEC: u8 = 0;
const ZSTD_CODEC: u8 = 1;

/// Writes one object. The caller can take finished bytes before the object is complete.
pub(crate) struct Encoder {
    key: String,
    cipher: Cipher,
    zstd: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
    frames: u64,
    table: TableBuilder,
    ready: Vec<u8>,
    taken: u64,
}

impl Encoder {
    pub(crate) fn new(kind: ObjectKind, key: &str, cipher: &Cipher) -> Result<Self> {
        Ok(Self {
            key: key.to_owned(),
            cipher: cipher.clone(),
            zstd: zstd::bulk::Compressor::new(COMPRESSION_LEVEL).failed("cannot start compression")?,
            scratch: vec![0; zstd::zstd_safe::compress_bound(MAX_FRAME_BYTES)],
            frames: 0,
            table: TableBuilder::default(),
            ready: header(kind, key, cipher).to_vec(),
            taken: 0,
        })
    }

    /// Appends one frame of at most [`MAX_FRAME_BYTES`] bytes.
    pub(crate) fn frame(&mut self, plain: &[u8]) -> Result<()> {
        debug_assert!(plain.len() <= MAX_FRAME_BYTES);
        let packed = self.zstd.compress_to_buffer(plain, &mut self.scratch[..]).failed("cannot compress")?;
        // A saving of less than a thirty-second is not worth the time to decompress.
        let (codec, body) = if packed < plain.len() - plain.len() / 32 {
            (ZSTD_CODEC, &self.scratch[..packed])
        } else {
            (RAW_CODEC, plain)
        };
        if self.cipher.is_keyed() {
            let sealed = self.cipher.encrypt_frame(&self.key, self.frames, [&[codec], body].concat())?;
            self.ready.extend(&sealed);
            self.table.push(&sealed, plain.len());
        } else {
            let start = self.ready.len();
            self.ready.push(codec);
            self.ready.extend(body);
            self.table.push(&self.ready[start..], plain.len());
        }
        self.frames += 1;
        Ok(())
    }

    /// Appends bytes of any length as frames.
    pub(crate) fn frames(&mut self, plain: &[u8]) -> Result<()> {
        plain.chunks(MAX_FRAME_BYTES).try_for_each(|frame| self.frame(frame))
    }

    /// Returns the number of frames.
    pub(crate) fn count(&self) -> u64 {
        self.frames
    }

    /// Returns the bytes that are ready to be stored, if there are at least `at_least`.
    pub(crate) fn take(&mut self, at_least: usize) -> Option<Bytes> {
        if self.ready.len() < at_least {
            return None;
        }
        let ready = std::mem::take(&mut self.ready);
        self.taken += ready.len() as u64;
        Some(Bytes::from(ready))
    }

    /// Completes the object; returns its last bytes and its reference.
    pub(crate) fn finish(mut self) -> (Bytes, ObjectRef) {
        let (table, digest) = self.table.finish();
        self.ready.extend(table);
        let size = self.taken + self.ready.len() as u64;
        (Bytes::from(self.ready), ObjectRef { key: self.key, size, digest: digest_text(&digest) })
    }
}

/// Decompresses frames one after another, into the same memory.
pub(crate) struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
    frame: Vec<u8>,
}

impl Unpacker {
    pub(crate) fn new() -> ObjectResult<Self> {
        let zstd = zstd::bulk::Decompressor::new()
            .failed("cannot start decompression")
            .map_err(ObjectError::Store)?;
        Ok(Self { zstd, frame: Vec::new() })
    }

    /// Returns the plain bytes of a decrypted frame body: a codec byte and the data.
    pub(super) fn unpack(&mut self, body: &[u8], plain: usize) -> Result<&[u8], &'static str> {
        if plain > MAX_FRAME_BYTES {
            return Err("a frame declares more than the maximum size");
        }
        self.frame.clear();
        match body.split_first() {
            Some((&RAW_CODEC, bytes)) => self.frame.extend_from_slice(bytes),
            Some((&ZSTD_CODEC, bytes)) => {
                self.frame.reserve(plain);
                let unpacked = self.zstd.decompress_to_buffer(bytes, &mut self.frame);
                unpacked.map_err(|_| "a frame cannot be decompressed")?;
            }
            _ => return Err("a frame has an unknown encoding"),
        }
        if self.frame.len() == plain {
            Ok(&self.frame)
        } else {
            Err("a frame does not have the length that its table records")
        }
    }
}
