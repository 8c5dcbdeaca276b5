//! GTID events: who numbered a transaction, and how long it is.
//!
//! Body of event type 33, all little-endian: flags u8 · source UUID 16 bytes · number i64 · 2 (u8) · last committed i64 ·
//! sequence number i64 · immediate commit time, 7 bytes in µs; its bit 55 says that the original commit time follows in
//! the same form · transaction length, packed (below 251: one byte; 252, 253, 254: 2, 3, 8 bytes follow) · more that is not
//! read here. The length counts from the first byte of this event to the last of the transaction.
//!
//! Body of event type 42 (with a tag): see [`crate::serialized`]; fields 0 flags, 1 UUID, 2 number (signed), 3 tag,
//! 4 last committed (signed), 5 sequence number (signed), 6 and 7 commit times, 8 transaction length.

use backstop_model::gtid::{Gtid, Sid};
use uuid::Uuid;

use crate::serialized::Values;

/// What a GTID event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GtidEvent {
    pub(crate) gtid: Gtid,
    /// In bytes, from the start of the GTID event.
    pub(crate) length: u64,
}

/// Reads the body of an event of type 33. `None` if it is not of that form, or from a server before 8.0.
pub(crate) fn untagged(body: &[u8]) -> Option<GtidEvent> {
    let uuid = Uuid::from_slice(body.get(1..17)?).ok()?;
    let number = u64::from_le_bytes(body.get(17..25)?.try_into().ok()?);
    if *body.get(25)? != 2 {
        return None;
    }
    let has_original = body.get(48)? & 0x80 != 0;
    let length = packed(body.get(if has_original { 56 } else { 49 }..)?)?;
    Some(GtidEvent { gtid: Gtid { sid: Sid { uuid, tag: String::new() }, number }, length })
}

/// Reads the body of an event of type 42.
pub(crate) fn tagged(body: &[u8]) -> Option<GtidEvent> {
    let mut values = Values::new(body);
    let (version, _size, _last_needed) = (values.unsigned()?, values.unsigned()?, values.unsigned()?);
    if version != 1 {
        return None;
    }
    let (mut uuid, mut number, mut tag) = (None, None, String::new());
    while !values.is_empty() {
        match values.unsigned()? {
            0 => drop(values.unsigned()?),
            1 => uuid = Some(Uuid::from_bytes(values.byte_array()?)),
            2 => number = u64::try_from(values.signed()?).ok(),
            3 => tag = values.text()?.to_owned(),
            4 | 5 => drop(values.signed()?),
            6 | 7 => drop(values.unsigned()?),
            8 => {
                let gtid = Gtid { sid: Sid { uuid: uuid?, tag }, number: number? };
                return Some(GtidEvent { gtid, length: values.unsigned()? });
            }
            _ => return None,
        }
    }
    None
}

/// MySQL's packed integer.
fn packed(bytes: &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let length = match first {
        0..=250 => return Some(u64::from(first)),
        252 => 2,
        253 => 3,
        254 => 8,
        _ => return None,
    };
    let mut value = [0; 8];
    value[..length].copy_from_slice(rest.get(..length)?);
    Some(u64::from_le_bytes(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_integers() {
        assert_eq!(packed(&[250]), Some(250));
        assert_eq!(packed(&[252, 1, 1]), Some(257));
        assert_eq!(packed(&[253, 0, 0, 1]), Some(65_536));
        assert_eq!((packed(&[251]), packed(&[254, 1]), packed(&[])), (None, None, None));
    }
}
