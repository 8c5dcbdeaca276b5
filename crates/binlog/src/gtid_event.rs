//! GTID events: the identifier and the length of a transaction.
//!
//! Body of event type 33, all little-endian: flags u8 · source UUID 16 bytes · number i64 · 2 (u8)
//! · last committed i64 · sequence number i64 · immediate commit time, 7 bytes in µs; if its bit 55
//! is set, the original commit time follows in the same form · transaction length, packed (below
//! 251: one byte; 252, 253, 254: 2, 3, 8 bytes follow) · more that is not parsed here. The length
//! counts from the first byte of this event to the last of the transaction.
//!
//! Body of event type 42 (with a tag): see [`crate::tagged_fields`]; fields 0 flags, 1 UUID, 2
//! number (signed), 3 tag, 4 last committed (signed), 5 sequence number (signed), 6 and 7 commit
//! times, 8 transaction length.

use backstop_types::gtid::{Gtid, Sid};
use uuid::Uuid;

use crate::codec::FieldReader;
use crate::tagged_fields::TaggedFields;

/// Content of a GTID event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GtidEvent {
    pub(crate) gtid: Gtid,
    /// Length of the transaction in bytes, from the start of the GTID event.
    pub(crate) length: u64,
    /// Commit time on the server that executed the client's transaction, in µs since 1970.
    pub(crate) original_commit: u64,
    /// Commit time on the server whose binlog this is, in µs since 1970.
    pub(crate) immediate_commit: u64,
}

/// Parses the body of an event of type 33. `None` if it is not of that form, or from a server
/// before 8.0.
pub(crate) fn parse_untagged(body: &[u8]) -> Option<GtidEvent> {
    let mut fields = FieldReader::new(body);
    fields.u8()?;
    let uuid = Uuid::from_slice(fields.bytes(16)?).ok()?;
    let number = numbered(fields.u64()?)?;
    if fields.u8()? != 2 {
        return None;
    }
    fields.bytes(16)?;
    let immediate = fields.u56()?;
    let immediate_commit = immediate & !HAS_ORIGINAL_FLAG;
    let original_commit = if immediate & HAS_ORIGINAL_FLAG == 0 { immediate_commit } else { fields.u56()? };
    let length = fields.packed()?;
    let gtid = Gtid { sid: Sid { uuid, tag: String::new() }, number };
    Some(GtidEvent { gtid, length, original_commit, immediate_commit })
}

const HAS_ORIGINAL_FLAG: u64 = 1 << 55;

/// Returns a transaction number if a server could have assigned it.
fn numbered(number: u64) -> Option<u64> {
    (1..i64::MAX as u64).contains(&number).then_some(number)
}

/// Parses the body of an event of type 42.
pub(crate) fn parse_tagged(body: &[u8]) -> Option<GtidEvent> {
    let mut values = TaggedFields::new(body);
    let (version, _size, _last_needed) = (values.unsigned()?, values.unsigned()?, values.unsigned()?);
    if version != 1 {
        return None;
    }
    let (mut uuid, mut number, mut tag) = (None, None, String::new());
    let (mut immediate, mut original) = (0, None);
    while !values.is_empty() {
        match values.unsigned()? {
            0 => drop(values.unsigned()?),
            1 => uuid = Some(Uuid::from_bytes(values.byte_array()?)),
            2 => number = u64::try_from(values.signed()?).ok().and_then(numbered),
            3 => tag = values.text()?.to_owned(),
            4 | 5 => drop(values.signed()?),
            6 => immediate = values.unsigned()?,
            7 => original = Some(values.unsigned()?),
            8 => {
                let gtid = Gtid { sid: Sid { uuid: uuid?, tag }, number: number? };
                return Some(GtidEvent {
                    gtid,
                    length: values.unsigned()?,
                    original_commit: original.unwrap_or(immediate),
                    immediate_commit: immediate,
                });
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_events_are_read_or_refused(mut bytes: Vec<u8>, rest: Vec<u8>) {
            let _ = (parse_untagged(&bytes), parse_tagged(&bytes));
            bytes.resize(25, 1);
            bytes.push(2);
            bytes.extend(&rest);
            let _ = parse_untagged(&bytes);
            let message: Vec<u8> = [2, 0, 0].into_iter().chain(rest).collect();
            let _ = parse_tagged(&message);
        }
    }
}
