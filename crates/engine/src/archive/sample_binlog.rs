//! Sample binlog bytes, for tests of spool and queue.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;

use super::queue::{AckPosition, Chunk, UnsyncedChunk};

pub(super) const SAMPLE_FILE: &str = "binlog.000007";

pub(super) fn server() -> ServerUuid {
    "aaaaaaaa-0000-4000-8000-000000000000".parse().unwrap()
}

pub(super) fn set(text: &str) -> GtidSet {
    text.replace('A', "aaaaaaaa-0000-4000-8000-000000000000").parse().unwrap()
}

/// Returns a transaction of server A at an offset of its file, without checksums: its GTID event,
/// padded by `more` bytes.
pub(super) fn transaction(at: u64, number: u64, more: usize) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(uuid::Uuid::parse_str("aaaaaaaa-0000-4000-8000-000000000000").unwrap().as_bytes());
    body.extend(number.to_le_bytes());
    body.push(2);
    body.extend([0; 16]);
    body.extend([1, 1, 1, 1, 1, 1, 0]);
    let size = 19 + body.len() + 3 + more;
    body.push(252);
    body.extend(u16::try_from(size).unwrap().to_le_bytes());
    body.extend(vec![b'a' + (number % 20) as u8; more]);
    let size = u32::try_from(size).unwrap();
    let mut event = vec![0; 4];
    event.push(33);
    event.extend(1_u32.to_le_bytes());
    event.extend(size.to_le_bytes());
    event.extend((at as u32 + size).to_le_bytes());
    event.extend([0; 2]);
    event.extend(body);
    event
}

/// Returns transactions `from..=to` one after another, beginning at an offset of the file.
pub(super) fn transactions(at: u64, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in from..=to {
        bytes.extend(transaction(at + bytes.len() as u64, number, 100));
    }
    bytes
}

/// Returns the chunk that holds these bytes.
pub(super) fn chunk(at: u64, bytes: &[u8], gtids: &str) -> Chunk {
    let mut chunk = Chunk { end: at + bytes.len() as u64, ..Chunk::begin(at, GtidSet::new()) };
    chunk.gtids = set(gtids);
    (chunk.since, chunk.transactions) = (Some(Duration::ZERO), chunk.gtids.count());
    chunk
}

/// Returns the same chunk as stored in a file of the spool that begins at this offset.
pub(super) fn unsynced(path: &Path, begin: u64, chunk: Chunk) -> UnsyncedChunk {
    let at = AckPosition { source: server(), file: SAMPLE_FILE.to_owned(), offset: chunk.end };
    UnsyncedChunk { at, path: path.to_owned(), begin, chunk }
}
