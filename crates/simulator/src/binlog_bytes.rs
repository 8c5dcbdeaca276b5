//! Bytes of binlog files as MySQL writes them, with checksums; and the way back, for the oracle.

use backstop_types::gtid::{Gtid, GtidSet, Sid};
use uuid::Uuid;

/// First bytes of a binlog file.
pub const MAGIC: &[u8] = b"\xfebin";
/// Size of an event's header.
const HEADER_BYTES: usize = 19;
const CHECKSUM_BYTES: usize = 4;
/// Flag of an event that the sender makes up.
pub const ARTIFICIAL_FLAG: u16 = 0x20;

/// Types of events.
pub mod kind {
    /// A statement.
    pub const QUERY: u8 = 2;
    /// The name of the next file.
    pub const ROTATE: u8 = 4;
    /// The first event of a file.
    pub const FORMAT_DESCRIPTION: u8 = 15;
    /// The end of a transaction.
    pub const XID: u8 = 16;
    /// The position of an idle stream.
    pub const HEARTBEAT: u8 = 27;
    /// The beginning of a transaction.
    pub const GTID: u8 = 33;
    /// The transactions before a file.
    pub const PREVIOUS_GTIDS: u8 = 35;
}

/// Content of a transaction, without its identifier and place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// Commit time on the server that executed it first, in µs since 1970.
    pub committed: u64,
    /// The statement.
    pub statement: String,
}

/// Identity of a transaction's content.
pub type ContentHash = [u8; 32];

/// Returns an event with its checksum.
pub fn event(kind: u8, server_id: u32, end: u64, flags: u16, body: &[u8]) -> Vec<u8> {
    let size = HEADER_BYTES + body.len() + CHECKSUM_BYTES;
    let mut event = Vec::with_capacity(size);
    event.extend(1_796_000_000_u32.to_le_bytes());
    event.push(kind);
    event.extend(server_id.to_le_bytes());
    event.extend((size as u32).to_le_bytes());
    event.extend((end as u32).to_le_bytes());
    event.extend(flags.to_le_bytes());
    event.extend(body);
    event.extend(crc32fast::hash(&event).to_le_bytes());
    event
}

/// Returns an event that is written at an offset of a file.
pub fn event_at(kind: u8, server_id: u32, at: u64, body: &[u8]) -> Vec<u8> {
    event(kind, server_id, at + (HEADER_BYTES + body.len() + CHECKSUM_BYTES) as u64, 0, body)
}

/// Returns the body of a format description with CRC-32.
pub fn format_description() -> Vec<u8> {
    let mut body = vec![4, 0];
    let mut version = b"9.7.4".to_vec();
    version.resize(50, 0);
    body.extend(version);
    body.extend([0; 4]);
    body.push(HEADER_BYTES as u8);
    body.extend([0; 41]);
    body.push(1);
    body
}

/// Returns the body of a Rotate event.
pub fn rotate(file: &str) -> Vec<u8> {
    let mut body = 4_u64.to_le_bytes().to_vec();
    body.extend(file.as_bytes());
    body
}

/// Returns a set of transactions without tags, encoded.
pub fn encode_set(set: &GtidSet) -> Vec<u8> {
    let uuids = set.uuids();
    let mut out = (uuids.len() as u64).to_le_bytes().to_vec();
    for uuid in uuids {
        let of_uuid = set.of_uuid(uuid);
        let intervals: Vec<_> = of_uuid.iter().map(|(_, start, end)| (start, end)).collect();
        out.extend(uuid.0.as_bytes());
        out.extend((intervals.len() as u64).to_le_bytes());
        for (start, end) in intervals {
            out.extend(start.to_le_bytes());
            out.extend(end.to_le_bytes());
        }
    }
    out
}

/// Parses a set of transactions without tags.
pub fn decode_set(bytes: &[u8]) -> Option<GtidSet> {
    let mut rest = bytes;
    let mut set = GtidSet::new();
    for _ in 0..number(&mut rest)? {
        let (uuid, after) = rest.split_first_chunk::<16>()?;
        rest = after;
        for _ in 0..number(&mut rest)? {
            let (start, end) = (number(&mut rest)?, number(&mut rest)?);
            set.insert_interval(Sid { uuid: Uuid::from_bytes(*uuid), tag: String::new() }, start, end);
        }
    }
    Some(set)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

/// Returns the events of a transaction that begins at an offset of a file: its GTID, a statement and
/// its end.
pub fn transaction(at: u64, server_id: u32, gtid: &Gtid, content: &Content) -> [Vec<u8>; 3] {
    let overhead = HEADER_BYTES + CHECKSUM_BYTES;
    let query = query_body(&content.statement);
    let xid = content.committed.to_le_bytes();
    let gtid_bytes = overhead + gtid_body(gtid, content, 0).len();
    let length = gtid_bytes + overhead + query.len() + overhead + xid.len();
    let first = event_at(kind::GTID, server_id, at, &gtid_body(gtid, content, length));
    let second = event_at(kind::QUERY, server_id, at + first.len() as u64, &query);
    let third = event_at(kind::XID, server_id, at + (first.len() + second.len()) as u64, &xid);
    [first, second, third]
}

fn gtid_body(gtid: &Gtid, content: &Content, length: usize) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(gtid.sid.uuid.as_bytes());
    body.extend(gtid.number.to_le_bytes());
    body.push(2);
    body.extend([0; 16]);
    body.extend(&content.committed.to_le_bytes()[..7]);
    body.push(252);
    body.extend((length as u16).to_le_bytes());
    body.extend(90_704_u32.to_le_bytes());
    body
}

fn query_body(statement: &str) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.push(4);
    body.extend([0; 4]);
    body.extend(b"shop\0");
    body.extend(statement.as_bytes());
    body
}

/// Returns the identity of a transaction's content.
pub fn content_hash(gtid: &Gtid, content: &Content) -> ContentHash {
    let events = transaction(0, 0, gtid, content);
    let mut hasher = blake3::Hasher::new();
    events.iter().for_each(|event| hash_body(&mut hasher, event));
    *hasher.finalize().as_bytes()
}

fn hash_body(hasher: &mut blake3::Hasher, event: &[u8]) {
    hasher.update(&event[HEADER_BYTES..event.len() - CHECKSUM_BYTES]);
}

/// Returns the transactions in the bytes of a segment, in order, each with the identity of its
/// content.
///
/// # Errors
/// Returns a description of the first byte that is not part of a well-formed event.
pub fn transactions_in(start: u64, bytes: &[u8]) -> Result<Vec<(Gtid, ContentHash)>, String> {
    let mut rest = match (start, bytes.strip_prefix(MAGIC)) {
        (0, None) => return Err("a file does not begin with the magic number".to_owned()),
        (0, Some(rest)) => rest,
        _ => bytes,
    };
    let mut found: Vec<(Gtid, blake3::Hasher)> = Vec::new();
    let mut open = false;
    while !rest.is_empty() {
        let at = start + (bytes.len() - rest.len()) as u64;
        let (event, after) = split_event(rest).ok_or_else(|| format!("no whole event at {at}"))?;
        rest = after;
        if event[4] == kind::GTID {
            let sid = Sid { uuid: Uuid::from_slice(&event[20..36]).unwrap_or_default(), tag: String::new() };
            let number = u64::from_le_bytes(event[36..44].try_into().unwrap_or_default());
            found.push((Gtid { sid, number }, blake3::Hasher::new()));
            open = true;
        }
        if let (true, Some((_, hasher))) = (open, found.last_mut()) {
            hash_body(hasher, event);
        }
        open &= event[4] != kind::XID;
    }
    if open {
        return Err("it ends within a transaction".to_owned());
    }
    Ok(found.into_iter().map(|(gtid, hasher)| (gtid, *hasher.finalize().as_bytes())).collect())
}

fn split_event(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let size = u32::from_le_bytes(bytes.get(9..13)?.try_into().ok()?) as usize;
    if size < HEADER_BYTES + CHECKSUM_BYTES || size > bytes.len() {
        return None;
    }
    let (event, rest) = bytes.split_at(size);
    let (all, stored) = event.split_at(size - CHECKSUM_BYTES);
    (crc32fast::hash(all).to_le_bytes() == stored).then_some((event, rest))
}
