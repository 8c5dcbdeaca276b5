//! MySQL's self-describing serialization, the format of tagged GTID events.
//!
//! A message is: format version (1), size of the whole message in bytes, number of the last field
//! that the reader must know, then fields in ascending order, each its number followed by its
//! value. A field with its default value may be omitted. Every integer has a variable length: as
//! many low one bits as bytes follow the first, then a zero bit, then the value in little-endian
//! order; after eight one bits follow the eight bytes of the value. Signed integers carry their
//! sign in the lowest bit of that value. An array of bytes is its elements one by one, each such an
//! integer; a text is its length and its bytes.

/// Reads values in order. Returns `None` if the bytes end too early.
pub(crate) struct TaggedFields<'a> {
    rest: &'a [u8],
}

impl<'a> TaggedFields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn unsigned(&mut self) -> Option<u64> {
        let first = *self.rest.first()?;
        let more = first.trailing_ones() as usize;
        let bytes = self.take(1 + more)?;
        let mut value = [0; 16];
        value[..bytes.len()].copy_from_slice(bytes);
        // The first byte's low bits are the length: `more` ones and, if there are fewer than eight,
        // a zero.
        let value = u128::from_le_bytes(value) >> (more + 1).min(8);
        u64::try_from(value).ok()
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        let magnitude = (value >> 1) as i64;
        Some(if value & 1 == 1 { !magnitude } else { magnitude })
    }

    pub(crate) fn byte_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = u8::try_from(self.unsigned()?).ok()?;
        }
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn integers_of_every_length_are_read() {
        let mut values = TaggedFields::new(&[0x02, 0x01, 0x04, 0xfe, 0xff]);
        assert_eq!(
            (values.unsigned(), values.unsigned(), values.unsigned()),
            (Some(1), Some(256), Some(127))
        );
        assert_eq!(values.unsigned(), None, "eight more bytes are announced");
        let mut long = vec![0xff];
        long.extend(u64::MAX.to_le_bytes());
        assert_eq!(TaggedFields::new(&long).unsigned(), Some(u64::MAX));
        assert_eq!(
            (TaggedFields::new(&[0x04]).signed(), TaggedFields::new(&[0x06]).signed()),
            (Some(1), Some(-2))
        );
    }

    #[test]
    fn texts_and_arrays_are_read() {
        let mut values = TaggedFields::new(&[0x06, b'a', b'b', b'c', 0x02, 0xfd, 0x03]);
        assert_eq!(values.text(), Some("abc"));
        assert_eq!(values.byte_array::<2>(), Some([1, 255]));
        assert!(values.is_empty());
    }
}
