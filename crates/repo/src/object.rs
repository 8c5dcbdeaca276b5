//! Container format of every stored object, whatever its content.
//!
//! ```text
//! header 64 | frame 0 | frame 1 | … | frame table 24 × n | trailer 40
//! ```
//!
//! All integers are little-endian. `docs/format.md` has the fields.

mod compression;
mod frame_table;
mod read;

use backstop_types::error::{Error, ErrorKind};

pub(crate) use compression::{Encoder, MAX_FRAME_BYTES, Unpacker};
pub(crate) use frame_table::{FrameTable, TABLE_SIZE_GUESS};
pub(crate) use read::{
    ExpectedObject, OpenObject, ReadHeader, is_doubtful, open_end, open_object, read_small, run_blocking,
    stream_frames,
};

use crate::encryption::{Cipher, Digest, digest, hex};

pub(crate) const MAGIC: &[u8; 8] = b"BACKSTOP";
pub(crate) const FORMAT_VERSION: u16 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
const ENCRYPTED_FLAG: u8 = 1;

/// Content of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Root = 1,
    Key = 2,
    Log = 3,
    Heartbeat = 4,
    Manifest = 5,
    Extents = 6,
    Fingerprints = 7,
    Pack = 8,
    Entry = 9,
    Segment = 10,
    Index = 11,
    Horizon = 12,
    Alive = 13,
    Found = 14,
    Runs = 15,
    Completion = 16,
}

impl ObjectKind {
    /// Returns the largest content, in bytes, of an object that is read as a whole. More is damage,
    /// or made to exhaust the reader's memory.
    pub(crate) fn max_content_bytes(self) -> u64 {
        match self {
            Self::Root | Self::Key | Self::Heartbeat | Self::Alive | Self::Completion => 1 << 20,
            Self::Log | Self::Entry | Self::Horizon | Self::Found | Self::Runs => 256 << 20,
            Self::Manifest
            | Self::Extents
            | Self::Fingerprints
            | Self::Pack
            | Self::Segment
            | Self::Index => 1 << 30,
        }
    }
}

/// Reason why an object cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObjectError {
    /// The object does not exist.
    Missing { key: String },
    /// The object exists, but its content is wrong.
    Damaged { key: String, wrong: String },
    /// The store could not answer.
    Store(Error),
}

pub(crate) type ObjectResult<T> = Result<T, ObjectError>;

impl ObjectError {
    pub(crate) fn damaged(key: &str, wrong: impl Into<String>) -> Self {
        Self::Damaged { key: key.to_owned(), wrong: wrong.into() }
    }
}

impl From<ObjectError> for Error {
    fn from(error: ObjectError) -> Self {
        let hint = "run `backstop verify` to list all damage and the backups that are not affected";
        match error {
            ObjectError::Missing { key } => {
                Self::new(ErrorKind::Damaged, format!("cannot read {key}: it is missing from the repository"))
                    .hint(hint)
            }
            ObjectError::Damaged { key, wrong } => {
                Self::new(ErrorKind::Damaged, format!("cannot read {key}: it is damaged: {wrong}")).hint(hint)
            }
            ObjectError::Store(error) => error,
        }
    }
}

/// Encodes the header of an object.
pub(crate) fn header(kind: ObjectKind, key: &str, cipher: &Cipher) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[10] = kind as u8;
    bytes[11] = if cipher.is_keyed() { ENCRYPTED_FLAG } else { 0 };
    bytes[16..32].copy_from_slice(&cipher.key_id());
    bytes[32..48].copy_from_slice(&digest(key.as_bytes()));
    let sum = digest(&bytes[..48]);
    bytes[48..].copy_from_slice(&sum);
    bytes
}

/// Checks a header against the expected properties of the object.
pub(crate) fn check_header(bytes: &[u8], kind: ObjectKind, key: &str, cipher: &Cipher) -> ObjectResult<()> {
    let wrong = |what: String| Err(ObjectError::Damaged { key: key.to_owned(), wrong: what });
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
        return wrong("it is shorter than a header".into());
    };
    if &bytes[..8] != MAGIC {
        return wrong("it does not begin like a Backstop object".into());
    }
    if digest(&bytes[..48]) != bytes[48..] {
        return wrong("the checksum of its header does not match".into());
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != FORMAT_VERSION {
        let message = format!(
            "cannot read {key}: it is in format {version}; this Backstop reads format {FORMAT_VERSION}"
        );
        let error = Error::refused(message).hint("use the version of Backstop that wrote it, or a newer one");
        return Err(ObjectError::Store(error));
    }
    if bytes[32..48] != digest(key.as_bytes()) {
        return wrong("it is another object, stored under this name".into());
    }
    if bytes[10] != kind as u8 {
        return wrong(format!("it is an object of kind {}, not {}", bytes[10], kind as u8));
    }
    if bytes[16..32] != cipher.key_id() || bytes[11] != if cipher.is_keyed() { ENCRYPTED_FLAG } else { 0 } {
        return wrong(format!("it is encrypted with data key {}, not the repository's", hex(&bytes[16..32])));
    }
    Ok(())
}

/// Formats a frame digest as hex, for [`crate::ObjectRef`].
pub(crate) fn digest_text(digest: &Digest) -> String {
    hex(digest)
}
