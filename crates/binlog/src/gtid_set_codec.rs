//! Binary form of GTID sets, in a replica's request and in the event Previous_gtids
//! (`Gtid_set::encode` of MySQL's source).
//!
//! Number of entries u64 · for each: UUID 16 bytes · number of intervals u64 · for each first and
//! last + 1, both u64. If one has a tag, the number n of entries is written as
//! `1 + (n << 8) + (1 << 56)`, and after every UUID follows its tag: twice its length (u8) and its
//! characters.

use backstop_types::gtid::{GtidSet, Sid};
use uuid::Uuid;

use crate::codec::FieldReader;

/// Encodes a set.
pub(crate) fn encode_gtid_set(set: &GtidSet) -> Vec<u8> {
    let mut entries: Vec<(&Sid, Vec<(u64, u64)>)> = Vec::new();
    for (sid, start, end) in set.iter() {
        match entries.last_mut() {
            Some((last, intervals)) if *last == sid => intervals.push((start, end)),
            _ => entries.push((sid, vec![(start, end)])),
        }
    }
    let tagged = entries.iter().any(|(sid, _)| !sid.tag.is_empty());
    let count = entries.len() as u64;
    let count = if tagged { 1 | count << 8 | 1 << 56 } else { count };
    let mut out = count.to_le_bytes().to_vec();
    for (sid, intervals) in entries {
        out.extend(sid.uuid.as_bytes());
        if tagged {
            out.push((sid.tag.len() << 1) as u8);
            out.extend(sid.tag.as_bytes());
        }
        out.extend((intervals.len() as u64).to_le_bytes());
        for (start, end) in intervals {
            out.extend(start.to_le_bytes());
            out.extend(end.to_le_bytes());
        }
    }
    out
}

/// Decodes a set; `None` if the bytes are not exactly one set.
pub(crate) fn decode_gtid_set(bytes: &[u8]) -> Option<GtidSet> {
    let mut fields = FieldReader::new(bytes);
    let count = fields.u64()?;
    let tagged = count >> 56 == 1;
    let count = if tagged { (count >> 8) & 0xffff_ffff_ffff } else { count };
    let mut set = GtidSet::new();
    for _ in 0..count {
        let uuid = Uuid::from_slice(fields.bytes(16)?).ok()?;
        let tag = if tagged { tag(&mut fields)? } else { String::new() };
        for _ in 0..fields.u64()? {
            let (start, end) = (fields.u64()?, fields.u64()?);
            if start == 0 || start >= end || end > i64::MAX as u64 {
                return None;
            }
            set.insert_interval(Sid { uuid, tag: tag.clone() }, start, end);
        }
    }
    fields.is_empty().then_some(set)
}

fn tag(fields: &mut FieldReader<'_>) -> Option<String> {
    let length = fields.u8()?;
    if length & 1 == 1 || length > 64 {
        return None;
    }
    let tag = std::str::from_utf8(fields.bytes(usize::from(length >> 1))?).ok()?;
    Some(tag.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = GtidSet> {
        let interval = (0_u128..3, "|a|blue_2", 1_u64..100, 1_u64..20);
        prop::collection::vec(interval, 0..12).prop_map(|intervals| {
            let mut set = GtidSet::new();
            for (uuid, tag, start, length) in intervals {
                set.insert_interval(Sid { uuid: Uuid::from_u128(uuid), tag }, start, start + length);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn sets_are_read_as_written(set in sets()) {
            prop_assert_eq!(decode_gtid_set(&encode_gtid_set(&set)), Some(set));
        }

        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>, set in sets(), at: usize, byte: u8) {
            let _ = decode_gtid_set(&bytes);
            let mut encoded = encode_gtid_set(&set);
            let at = at % encoded.len();
            encoded[at] = byte;
            let _ = decode_gtid_set(&encoded);
            prop_assert_eq!(decode_gtid_set(&encoded[..encoded.len() - 1]), None);
        }
    }
}
