//! Incremental hash of a segment that grows by whole transactions.

/// Number of bytes hashed at once: BLAKE3 is several times faster on large inputs.
const BATCH_BYTES: usize = 128 * 1024;
/// Size of a transaction, in bytes, above which it is hashed before it is complete.
const LARGE_TRANSACTION_BYTES: usize = 1024 * 1024;

/// Hashes complete transactions. An incomplete one is forgotten when the next begins, so the caller
/// can stop at any time.
#[derive(Default)]
pub(crate) struct IncrementalHash {
    hashed: blake3::Hasher,
    /// The bytes after the hashed ones: complete up to `whole`.
    waiting: Vec<u8>,
    whole: usize,
    /// Hash of everything, including the received part of a large transaction.
    large: Option<blake3::Hasher>,
}

impl IncrementalHash {
    /// Begins a transaction, or an event outside of one.
    pub(crate) fn begin(&mut self) {
        self.large = None;
        self.waiting.truncate(self.whole);
        if self.whole >= BATCH_BYTES {
            self.hashed.update(&self.waiting);
            self.waiting.clear();
            self.whole = 0;
        }
    }

    /// Adds the next bytes of the transaction.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(large) = &mut self.large {
            large.update(bytes);
            return;
        }
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() > LARGE_TRANSACTION_BYTES {
            let mut large = self.hashed.clone();
            large.update(&self.waiting);
            self.waiting.truncate(self.whole);
            self.large = Some(large);
        }
    }

    /// Completes the transaction.
    pub(crate) fn complete(&mut self) {
        if let Some(large) = self.large.take() {
            self.hashed = large;
            self.waiting.clear();
        }
        self.whole = self.waiting.len();
    }

    /// Returns the hash of all complete transactions.
    pub(crate) fn finish(&self) -> [u8; 32] {
        let mut hashed = self.hashed.clone();
        hashed.update(&self.waiting[..self.whole]);
        *hashed.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_covers_only_complete_transactions() {
        let small = vec![1; 1000];
        let large = vec![2; LARGE_TRANSACTION_BYTES + 1];
        let (mut hash, mut whole) = (IncrementalHash::default(), Vec::new());
        for round in 0..400 {
            let (bytes, torn) = if round % 7 == 3 { (&large, &small) } else { (&small, &large) };
            // The rest of this transaction never arrives.
            hash.begin();
            hash.update(&torn[..torn.len() / 2]);
            hash.update(&torn[torn.len() / 2..]);
            assert!(round % 50 != 0 || hash.finish() == *blake3::hash(&whole).as_bytes());
            hash.begin();
            hash.update(&bytes[..19]);
            hash.update(&bytes[19..]);
            hash.complete();
            whole.extend(bytes);
        }
        assert_eq!(hash.finish(), *blake3::hash(&whole).as_bytes());
    }
}
