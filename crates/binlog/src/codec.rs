//! Values of MySQL's protocol, in sequence ("Protocol Basics: Data Types" of MySQL's source
//! documentation).
//!
//! Integers are little-endian. A length-encoded integer is one byte below 251, or 252, 253 or 254
//! followed by 2, 3 or 8 bytes; 251 stands for NULL in rows. A length-encoded string is such an
//! integer and that many bytes; other strings end with a zero byte or with the packet.

/// Reads values in order. Returns `None` if the bytes end too early.
pub(crate) struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads an integer of seven bytes.
    pub(crate) fn u56(&mut self) -> Option<u64> {
        let mut value = [0; 8];
        value[..7].copy_from_slice(self.bytes(7)?);
        Some(u64::from_le_bytes(value))
    }

    /// Reads a length-encoded integer; NULL is `None`, too.
    pub(crate) fn packed(&mut self) -> Option<u64> {
        let length = match self.u8()? {
            small @ 0..=250 => return Some(u64::from(small)),
            252 => 2,
            253 => 3,
            254 => 8,
            _ => return None,
        };
        let mut value = [0; 8];
        value[..length].copy_from_slice(self.bytes(length)?);
        Some(u64::from_le_bytes(value))
    }

    /// Reads a length-encoded string.
    pub(crate) fn packed_bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.packed()?).ok()?;
        self.bytes(length)
    }

    /// Reads a string that ends with a zero byte.
    pub(crate) fn terminated(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == 0)?;
        let text = self.bytes(end)?;
        self.u8()?;
        Some(text)
    }
}

/// Appends a length-encoded integer.
pub(crate) fn put_packed(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    match value {
        0..=250 => out.push(bytes[0]),
        251..=0xffff => {
            out.push(252);
            out.extend(&bytes[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(253);
            out.extend(&bytes[..3]);
        }
        _ => {
            out.push(254);
            out.extend(bytes);
        }
    }
}

/// Appends a length-encoded string.
pub(crate) fn put_packed_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_packed(out, bytes.len() as u64);
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_and_null_are_read() {
        let mut fields = FieldReader::new(b"ab\0\x02cd\xfb");
        assert_eq!(fields.terminated(), Some(&b"ab"[..]));
        assert_eq!(fields.packed_bytes(), Some(&b"cd"[..]));
        assert_eq!(fields.packed(), None);
        assert_eq!(FieldReader::new(b"\xfe\x01").packed(), None);
        assert_eq!(FieldReader::new(b"ab").terminated(), None);
    }

    proptest! {
        #[test]
        fn packed_integers_are_read_as_written(value: u64, small in 0_u64..70_000) {
            for value in [value, value >> 38, small] {
                let mut bytes = Vec::new();
                put_packed(&mut bytes, value);
                let mut fields = FieldReader::new(&bytes);
                prop_assert_eq!(fields.packed(), Some(value));
                prop_assert!(fields.is_empty());
            }
        }
    }
}
