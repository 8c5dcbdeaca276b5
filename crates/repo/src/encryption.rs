//! Encryption of frames, fingerprints and names. Unencrypted repositories use `Cipher::Plain`.

use std::sync::Arc;

use backstop_host::Random;
use backstop_types::error::{Result, ResultExt};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretBox};

/// First 16 bytes of a BLAKE3 hash.
pub(crate) type Digest = [u8; 16];

const NONCE_BYTES: usize = 24;

/// Cipher for the objects of a repository.
#[derive(Clone)]
pub(crate) enum Cipher {
    /// No encryption.
    Plain,
    /// Encryption with a data key.
    Keyed(Arc<DataKey>),
}

/// Random key under which everything is encrypted, and the keys derived from it.
pub(crate) struct DataKey {
    id: Digest,
    key: SecretBox<[u8; 32]>,
    frames: XChaCha20Poly1305,
    fingerprints: SecretBox<[u8; 32]>,
    names: SecretBox<[u8; 32]>,
    /// Source of the nonces.
    random: Arc<dyn Random>,
}

impl DataKey {
    pub(crate) fn new(key: [u8; 32], random: Arc<dyn Random>) -> Self {
        Self {
            id: truncate(&blake3::Hash::from(blake3::derive_key("backstop v1 data key id", &key))),
            frames: XChaCha20Poly1305::new(&blake3::derive_key("backstop v1 frames", &key).into()),
            fingerprints: SecretBox::new(Box::new(blake3::derive_key("backstop v1 fingerprints", &key))),
            names: SecretBox::new(Box::new(blake3::derive_key("backstop v1 names", &key))),
            key: SecretBox::new(Box::new(key)),
            random,
        }
    }

    pub(crate) fn random(random: Arc<dyn Random>) -> Result<Self> {
        Ok(Self::new(random.bytes()?, random))
    }

    /// Returns its id in hex, as the root object names it.
    pub(crate) fn id(&self) -> String {
        hex(&self.id)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.key.expose_secret()
    }
}

impl Cipher {
    /// Returns the id of the data key, all zero for none.
    pub(crate) fn key_id(&self) -> Digest {
        match self {
            Self::Plain => [0; 16],
            Self::Keyed(key) => key.id,
        }
    }

    pub(crate) fn is_keyed(&self) -> bool {
        matches!(self, Self::Keyed(_))
    }

    /// Encrypts one frame of an object.
    pub(crate) fn encrypt_frame(&self, object: &str, frame: u64, body: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(body),
            Self::Keyed(key) => encrypt(&key.frames, &associated(object, frame), &body, &*key.random),
        }
    }

    /// Decrypts a frame; `None` if [`Cipher::encrypt_frame`] did not produce it for this object and
    /// frame number.
    pub(crate) fn decrypt_frame(&self, object: &str, frame: u64, stored: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Plain => Some(stored.to_vec()),
            Self::Keyed(key) => decrypt(&key.frames, &associated(object, frame), stored),
        }
    }

    /// Returns the fingerprint of a block. It is keyed, so that it discloses nothing without the
    /// key.
    pub(crate) fn fingerprint(&self, block: &[u8]) -> Digest {
        match self {
            Self::Plain => digest(block),
            Self::Keyed(key) => truncate(&blake3::keyed_hash(key.fingerprints.expose_secret(), block)),
        }
    }

    /// Returns the directory of a shard.
    pub(crate) fn directory(&self, shard: &str) -> String {
        match self {
            Self::Plain => shard.to_owned(),
            Self::Keyed(key) => {
                hex(&truncate(&blake3::keyed_hash(key.names.expose_secret(), shard.as_bytes())))
            }
        }
    }
}

/// Encrypts with a random nonce, which precedes the ciphertext.
pub(crate) fn encrypt(
    cipher: &XChaCha20Poly1305,
    associated: &[u8],
    plain: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE_BYTES] = random.bytes()?;
    let payload = Payload { msg: plain, aad: associated };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).failed("cannot encrypt")?;
    Ok([&nonce[..], &sealed].concat())
}

/// Reverses [`encrypt`]; `None` if the key, the associated data or a byte differs.
pub(crate) fn decrypt(cipher: &XChaCha20Poly1305, associated: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = stored.split_first_chunk::<NONCE_BYTES>()?;
    cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: associated }).ok()
}

fn associated(object: &str, frame: u64) -> Vec<u8> {
    [object.as_bytes(), &[0], &frame.to_le_bytes()].concat()
}

/// Returns the BLAKE3-128 hash.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    truncate(&blake3::hash(bytes))
}

fn truncate(hash: &blake3::Hash) -> Digest {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}

/// Formats as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Parses a digest from hex; zeros for invalid text, which then match nothing.
pub(crate) fn from_hex_digest(text: &str) -> Digest {
    let mut digest = [0; 16];
    for (byte, at) in digest.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0);
    }
    digest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_host::SystemRandom;

    use super::*;

    fn keyed(byte: u8) -> Cipher {
        Cipher::Keyed(Arc::new(DataKey::new([byte; 32], Arc::new(SystemRandom))))
    }

    #[test]
    fn frame_is_decrypted_only_at_its_own_place() {
        let cipher = keyed(7);
        let sealed = cipher.encrypt_frame("a", 1, b"body".to_vec()).unwrap();
        assert_eq!(sealed.len(), 4 + NONCE_BYTES + 16);
        assert_eq!(cipher.decrypt_frame("a", 1, &sealed).unwrap(), b"body");
        assert!(cipher.decrypt_frame("a", 2, &sealed).is_none());
        assert!(cipher.decrypt_frame("b", 1, &sealed).is_none());
        assert!(keyed(8).decrypt_frame("a", 1, &sealed).is_none());
        assert_ne!(sealed, cipher.encrypt_frame("a", 1, b"body".to_vec()).unwrap(), "nonces repeat");
    }

    #[test]
    fn names_and_fingerprints_depend_on_the_key() {
        let (a, b) = (keyed(1), keyed(2));
        assert_ne!(a.directory("orders"), b.directory("orders"));
        assert_ne!(a.fingerprint(b"x"), b.fingerprint(b"x"));
        assert_ne!(a.fingerprint(b"x"), Cipher::Plain.fingerprint(b"x"));
        assert_eq!(Cipher::Plain.directory("orders"), "orders");
    }
}
