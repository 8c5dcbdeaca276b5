//! Fingerprint of each block of each file, in (file, offset) order, to find the blocks that
//! changed.

use backstop_types::error::Result;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::encrypted_store::EncryptedStore;
use crate::encryption::{Cipher, Digest};
use crate::manifest::ObjectRef;
use crate::object::{
    Encoder, ExpectedObject, MAX_FRAME_BYTES, ObjectError, ObjectKind, ObjectResult, ReadHeader,
    stream_frames,
};

const FINGERPRINT_BYTES: usize = 16;

/// Writes a fingerprints object block by block.
pub(crate) struct FingerprintsWriter {
    encoder: Encoder,
    frame: Vec<u8>,
}

impl FingerprintsWriter {
    pub(crate) fn new(key: &str, cipher: &Cipher) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::new(ObjectKind::Fingerprints, key, cipher)?,
            frame: Vec::with_capacity(MAX_FRAME_BYTES),
        })
    }

    /// Adds the fingerprint of the next block.
    pub(crate) fn push(&mut self, fingerprint: &Digest) -> Result<()> {
        self.frame.extend(fingerprint);
        if self.frame.len() == MAX_FRAME_BYTES {
            self.encoder.frame(&self.frame)?;
            self.frame.clear();
        }
        Ok(())
    }

    /// Returns the bytes that are ready to be stored.
    pub(crate) fn take(&mut self, at_least: usize) -> Option<Bytes> {
        self.encoder.take(at_least)
    }

    /// Completes the object.
    pub(crate) fn finish(mut self) -> Result<(Bytes, ObjectRef)> {
        if !self.frame.is_empty() {
            self.encoder.frame(&self.frame)?;
        }
        Ok(self.encoder.finish())
    }
}

/// Reads fingerprints one by one.
pub(crate) struct FingerprintsReader {
    key: String,
    frames: mpsc::Receiver<ObjectResult<Vec<u8>>>,
    frame: Vec<u8>,
    at: usize,
}

impl FingerprintsReader {
    /// Opens a fingerprints object of this number of blocks.
    pub(crate) async fn open(
        store: &EncryptedStore,
        reference: &ObjectRef,
        blocks: u64,
        ends: ReadHeader,
    ) -> ObjectResult<Self> {
        let opened =
            store.open(ExpectedObject::referenced(ObjectKind::Fingerprints, reference), ends).await?;
        let frames = opened.table.frames();
        let plain: u64 = frames.iter().map(|frame| u64::from(frame.plain)).sum();
        if plain != blocks * FINGERPRINT_BYTES as u64 {
            return Err(ObjectError::damaged(&reference.key, "it does not have one fingerprint per block"));
        }
        let count = frames.len();
        Ok(Self {
            key: reference.key.clone(),
            frames: stream_frames(&store.host, opened, 0..count),
            frame: Vec::new(),
            at: 0,
        })
    }

    /// Returns the fingerprint of the next block.
    pub(crate) async fn next(&mut self) -> ObjectResult<Digest> {
        if self.at == self.frame.len() {
            let frame = self.frames.recv().await;
            self.take(frame)?;
        }
        Ok(self.step())
    }

    /// Returns the next fingerprint as [`FingerprintsReader::next`] does, for a thread that may
    /// block.
    pub(crate) fn blocking_next(&mut self) -> ObjectResult<Digest> {
        if self.at == self.frame.len() {
            let frame = self.frames.blocking_recv();
            self.take(frame)?;
        }
        Ok(self.step())
    }

    fn take(&mut self, frame: Option<ObjectResult<Vec<u8>>>) -> ObjectResult<()> {
        let frame =
            frame.ok_or_else(|| ObjectError::damaged(&self.key, "it ends before the last block"))??;
        if frame.is_empty() || frame.len() % FINGERPRINT_BYTES != 0 {
            return Err(ObjectError::damaged(
                &self.key,
                "one of its frames does not consist of fingerprints",
            ));
        }
        (self.frame, self.at) = (frame, 0);
        Ok(())
    }

    fn step(&mut self) -> Digest {
        let mut digest = [0; FINGERPRINT_BYTES];
        digest.copy_from_slice(&self.frame[self.at..self.at + FINGERPRINT_BYTES]);
        self.at += FINGERPRINT_BYTES;
        digest
    }
}
