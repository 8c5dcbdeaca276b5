//! Binlog events ("Binlog Event" of MySQL's source documentation: `Log_event` and its classes).
//!
//! Header, 19 bytes, little-endian: time u32 (seconds) · type u8 · server id u32 · size of the
//! whole event u32 · end position in the file u32 (wraps above 4 GiB) · flags u16. Then the body,
//! then a CRC-32 of all before it, if the format description declares it; the format description
//! itself always has one.

use backstop_types::gtid::GtidSet;

use crate::codec::{FieldReader, put_packed, put_packed_bytes};
use crate::crc::Crc32;
use crate::gtid_event::{self, GtidEvent};
use crate::gtid_set_codec;

pub(crate) const HEADER_BYTES: usize = 19;
pub(crate) const CHECKSUM_BYTES: usize = 4;
/// First bytes of a binlog file; a stream does not contain them.
pub(crate) const FILE_MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];

/// Types of events.
pub(crate) mod kind {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const STOP: u8 = 3;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const TAGGED_GTID: u8 = 42;
}

/// Flag of an event created by the sender; it is not in the file.
pub(crate) const ARTIFICIAL_FLAG: u16 = 0x20;

/// An event's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventHeader {
    pub(crate) kind: u8,
    pub(crate) server_id: u32,
    /// Size of the whole event, in bytes.
    pub(crate) size: u32,
    /// Offset after it in its file, modulo 2^32; 0 for artificial events.
    pub(crate) end: u32,
    pub(crate) flags: u16,
}

impl EventHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(bytes);
        fields.u32()?;
        let header = Self {
            kind: fields.u8()?,
            server_id: fields.u32()?,
            size: fields.u32()?,
            end: fields.u32()?,
            flags: fields.u16()?,
        };
        (header.size as usize >= HEADER_BYTES).then_some(header)
    }
}

/// Kind of the checksums in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksums {
    None,
    Crc32,
}

impl Checksums {
    pub(crate) fn length(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32 => CHECKSUM_BYTES,
        }
    }

    /// Reads the checksum kind from a whole format description: its body ends with 0 (none) or 1
    /// (CRC-32).
    pub(crate) fn described(event: &[u8]) -> Option<Self> {
        let at = event.len().checked_sub(CHECKSUM_BYTES + 1).filter(|at| *at >= HEADER_BYTES)?;
        match event.get(at)? {
            0 => Some(Self::None),
            1 => Some(Self::Crc32),
            _ => None,
        }
    }

    /// True if the checksum of a whole event is correct.
    pub(crate) fn hold(self, event: &[u8]) -> bool {
        match (self, event.split_last_chunk::<CHECKSUM_BYTES>()) {
            (Self::None, _) => true,
            (Self::Crc32, Some((all, stored))) => Crc32::of(all) == u32::from_le_bytes(*stored),
            (Self::Crc32, None) => false,
        }
    }

    /// Returns the body of a whole event.
    pub(crate) fn body(self, event: &[u8]) -> Option<&[u8]> {
        event.get(HEADER_BYTES..event.len().checked_sub(self.length())?)
    }
}

/// Parses the GTID event of this type.
pub(crate) fn gtid(kind: u8, body: &[u8]) -> Option<GtidEvent> {
    match kind {
        kind::GTID => gtid_event::parse_untagged(body),
        kind::TAGGED_GTID => gtid_event::parse_tagged(body),
        _ => None,
    }
}

/// Parses the body of Previous_gtids: all that was executed before the file began.
pub(crate) fn previous_gtids(body: &[u8]) -> Option<GtidSet> {
    gtid_set_codec::decode_gtid_set(body)
}

/// Name of a file and offset in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BinlogCoordinates {
    pub(crate) file: String,
    pub(crate) offset: u64,
}

/// Parses the body of a Rotate: offset u64 · name.
pub(crate) fn rotate(body: &[u8]) -> Option<BinlogCoordinates> {
    let mut fields = FieldReader::new(body);
    let offset = fields.u64()?;
    Some(BinlogCoordinates { file: name(fields.rest())?, offset })
}

/// Returns the source's position in a heartbeat. Type 27: the body is the file's name, the offset
/// is in the header. Type 41: fields of type, length and value, all lengths packed: 1 name, 2
/// packed offset, 0 end; others are skipped.
pub(crate) fn heartbeat(header: &EventHeader, body: &[u8]) -> Option<BinlogCoordinates> {
    if header.kind == kind::HEARTBEAT {
        return Some(BinlogCoordinates { file: name(body)?, offset: u64::from(header.end) });
    }
    let (mut file, mut offset) = (None, None);
    let mut fields = FieldReader::new(body);
    loop {
        match fields.packed()? {
            0 => break,
            1 => file = Some(name(fields.packed_bytes()?)?),
            2 => offset = Some(FieldReader::new(fields.packed_bytes()?).packed()?),
            _ => drop(fields.packed_bytes()?),
        }
    }
    Some(BinlogCoordinates { file: file?, offset: offset? })
}

/// Returns a file's name if it is printable and without a path.
fn name(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?;
    let plain = !name.is_empty() && name.len() <= 512 && !name.contains(|c: char| c.is_control() || c == '/');
    plain.then(|| name.to_owned())
}

/// Returns the body of a heartbeat of type 41.
pub(crate) fn heartbeat_v2_body(place: &BinlogCoordinates) -> Vec<u8> {
    let mut body = vec![1];
    put_packed_bytes(&mut body, place.file.as_bytes());
    let mut offset = Vec::new();
    put_packed(&mut offset, place.offset);
    body.push(2);
    put_packed_bytes(&mut body, &offset);
    body.push(0);
    body
}

/// Returns an event created by the sender.
pub(crate) fn artificial_event(header: &EventHeader, body: &[u8], checksums: Checksums) -> Vec<u8> {
    let size = HEADER_BYTES + body.len() + checksums.length();
    let mut event = vec![0; 4];
    event.push(header.kind);
    event.extend(header.server_id.to_le_bytes());
    event.extend((size as u32).to_le_bytes());
    event.extend(header.end.to_le_bytes());
    event.extend(header.flags.to_le_bytes());
    event.extend(body);
    if checksums == Checksums::Crc32 {
        event.extend(Crc32::of(&event).to_le_bytes());
    }
    event
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heartbeats_of_both_versions_are_read() {
        let place = BinlogCoordinates { file: "binlog.000007".into(), offset: 5 << 32 };
        let header = EventHeader { kind: kind::HEARTBEAT_V2, server_id: 7, size: 0, end: 0, flags: 0 };
        let event = artificial_event(&header, &heartbeat_v2_body(&place), Checksums::Crc32);
        assert!(Checksums::Crc32.hold(&event));
        let read = EventHeader::parse(&event).unwrap();
        assert_eq!(read.size as usize, event.len());
        assert_eq!(heartbeat(&read, Checksums::Crc32.body(&event).unwrap()), Some(place));
        let old = EventHeader { kind: kind::HEARTBEAT, end: 9, ..header };
        assert_eq!(heartbeat(&old, b"b.1"), Some(BinlogCoordinates { file: "b.1".into(), offset: 9 }));
        assert_eq!(heartbeat(&old, b"../b.1"), None, "a name is not a path");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(kind: u8, bytes: Vec<u8>) {
            let header = EventHeader { kind, server_id: 1, size: 19, end: 4, flags: 0 };
            let _ = (EventHeader::parse(&bytes), rotate(&bytes), heartbeat(&header, &bytes), previous_gtids(&bytes));
            let _ = (Checksums::described(&bytes), Checksums::Crc32.hold(&bytes), Checksums::Crc32.body(&bytes));
            let _ = gtid(kind, &bytes);
        }
    }
}
