//! The container: what every stored object looks like, whatever is in it.
//!
//! ```text
//! header 64 | frame 0 | frame 1 | … | frame table 24 × n | trailer 40
//! ```
//!
//! All integers are little-endian. `docs/format.md` has the fields.

mod encode;
mod open;
mod table;

use backstop_model::fault::{Fault, Kind as FaultKind};

pub(crate) use encode::{Encoder, FRAME, Unpacker};
pub(crate) use open::{Ends, Expected, Opened, blocking, doubtful, open, open_end, read_small, stream};
pub(crate) use table::{FrameTable, TAIL_GUESS};

use crate::seal::{Digest, Seal, digest, hex};

pub(crate) const MAGIC: &[u8; 8] = b"BACKSTOP";
pub(crate) const VERSION: u16 = 1;
pub(crate) const HEADER: usize = 64;
const ENCRYPTED: u8 = 1;

/// What is in an object.
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
}

/// Why an object cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObjectFault {
    /// It is not there.
    Missing { key: String },
    /// It is there, and not what it should be.
    Damaged { key: String, wrong: String },
    /// The store did not say.
    Store(Fault),
}

pub(crate) type ObjectResult<T> = Result<T, ObjectFault>;

impl ObjectFault {
    pub(crate) fn damaged(key: &str, wrong: impl Into<String>) -> Self {
        Self::Damaged { key: key.to_owned(), wrong: wrong.into() }
    }
}

impl From<ObjectFault> for Fault {
    fn from(fault: ObjectFault) -> Self {
        let hint = "`backstop verify` lists all damage and the backups that are not affected";
        match fault {
            ObjectFault::Missing { key } => {
                Self::new(FaultKind::Damaged, format!("read {key}: it is missing from the repository"))
                    .hint(hint)
            }
            ObjectFault::Damaged { key, wrong } => {
                Self::new(FaultKind::Damaged, format!("read {key}: it is damaged: {wrong}")).hint(hint)
            }
            ObjectFault::Store(fault) => fault,
        }
    }
}

/// The header of an object.
pub(crate) fn header(kind: ObjectKind, key: &str, seal: &Seal) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[10] = kind as u8;
    bytes[11] = if seal.is_keyed() { ENCRYPTED } else { 0 };
    bytes[16..32].copy_from_slice(&seal.key_id());
    bytes[32..48].copy_from_slice(&digest(key.as_bytes()));
    let sum = digest(&bytes[..48]);
    bytes[48..].copy_from_slice(&sum);
    bytes
}

/// Checks a header against what the object is expected to be.
pub(crate) fn check_header(bytes: &[u8], kind: ObjectKind, key: &str, seal: &Seal) -> ObjectResult<()> {
    let wrong = |what: String| Err(ObjectFault::Damaged { key: key.to_owned(), wrong: what });
    let Some(bytes) = bytes.first_chunk::<HEADER>() else {
        return wrong("it is shorter than a header".into());
    };
    if &bytes[..8] != MAGIC {
        return wrong("it does not begin as an object of Backstop".into());
    }
    if digest(&bytes[..48]) != bytes[48..] {
        return wrong("the checksum of its header does not match".into());
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != VERSION {
        let message = format!("read {key}: it is in format {version}; this Backstop reads format {VERSION}");
        let fault = Fault::refused(message).hint("use the Backstop that wrote it, or a newer one");
        return Err(ObjectFault::Store(fault));
    }
    if bytes[32..48] != digest(key.as_bytes()) {
        return wrong("it is another object, stored under this name".into());
    }
    if bytes[10] != kind as u8 {
        return wrong(format!("it is an object of kind {}, not {}", bytes[10], kind as u8));
    }
    if bytes[16..32] != seal.key_id() || bytes[11] != if seal.is_keyed() { ENCRYPTED } else { 0 } {
        return wrong(format!("it is sealed with data key {}, not the repository's", hex(&bytes[16..32])));
    }
    Ok(())
}

/// Frame digest, hex, for [`crate::ObjectRef`].
pub(crate) fn digest_text(digest: &Digest) -> String {
    hex(digest)
}
