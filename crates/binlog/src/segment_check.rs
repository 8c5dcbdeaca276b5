//! Checks the bytes of a segment of a binlog file: each event begins at the end of the previous one
//! and says so itself, each checksum is correct, and transactions have the length they declare.
//!
//! Only the first segment of a file has the description that declares whether events carry
//! checksums. In the others either all events do or none does: if some checksums of a segment are
//! correct and others wrong, the wrong ones mean damage.

use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;

use crate::crc::Crc32;
use crate::event::{self, CHECKSUM_BYTES, Checksums, EventHeader, FILE_MAGIC, HEADER_BYTES, kind};

/// Largest event that is parsed, in bytes. A format description or a GTID event is far smaller.
const MAX_EVENT_BYTES: usize = 64 * 1024;

/// Checker of a segment's bytes, which may arrive in parts of any size.
pub struct SegmentCheck {
    /// Offset in the file of the next byte.
    at: u64,
    end: u64,
    /// The file's first bytes, or an event's header.
    head: Vec<u8>,
    event: Option<CheckedEvent>,
    /// Offset at which the current transaction ends.
    transaction: Option<u64>,
    sums: ChecksumState,
    gtids: GtidSet,
}

/// The event being read.
struct CheckedEvent {
    header: EventHeader,
    start: u64,
    left: usize,
    crc: Crc32,
    stored: Vec<u8>,
    /// The whole event, if it must be parsed.
    whole: Option<Vec<u8>>,
}

/// Results of the checksums so far.
#[derive(Default)]
struct ChecksumState {
    described: Option<Checksums>,
    right: u64,
    /// Offset of the first event with a wrong or without a checksum.
    wrong: Option<u64>,
}

impl SegmentCheck {
    /// Returns a checker for a segment from `start` to `end` of a file.
    pub fn new(start: u64, end: u64) -> Self {
        Self {
            at: start,
            end,
            head: Vec::new(),
            event: None,
            transaction: None,
            sums: ChecksumState::default(),
            gtids: GtidSet::new(),
        }
    }

    /// Checks a complete segment and returns its transactions.
    ///
    /// # Errors
    /// Returns the same errors as [`SegmentCheck::finish`].
    pub fn all(start: u64, bytes: &[u8]) -> Result<GtidSet> {
        let mut check = Self::new(start, start + bytes.len() as u64);
        check.update(bytes)?;
        check.finish()
    }

    /// Checks the next bytes.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`] with the offset, if they are not those of a binlog.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let used = match &mut self.event {
                Some(event) => event.take(bytes),
                None => self.begin(bytes)?,
            };
            self.at += used as u64;
            bytes = bytes.get(used..).unwrap_or_default();
            if self.event.as_ref().is_some_and(|event| event.left == 0) {
                self.conclude()?;
            }
        }
        Ok(())
    }

    /// Returns the transactions of the segment, which must be complete.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`] with the offset, if the segment ends too early or too late,
    /// or if the checksum of an event is wrong.
    pub fn finish(self) -> Result<GtidSet> {
        if self.event.is_some() || !self.head.is_empty() || self.transaction.is_some() || self.at < self.end {
            return Err(wrong(self.at, "it is cut off"));
        }
        let summed = match self.sums.described {
            Some(described) => described == Checksums::Crc32,
            None => self.sums.right > 0,
        };
        match self.sums.wrong {
            Some(at) if summed => Err(wrong(at, "the checksum of the event is wrong")),
            _ => Ok(self.gtids),
        }
    }

    /// Takes the available bytes of the next head: the file's, or an event's.
    fn begin(&mut self, bytes: &[u8]) -> Result<usize> {
        let begins_file = self.at < FILE_MAGIC.len() as u64;
        let size = if begins_file { FILE_MAGIC.len() } else { HEADER_BYTES };
        let used = bytes.len().min(size - self.head.len());
        self.head.extend_from_slice(bytes.get(..used).unwrap_or_default());
        if self.head.len() < size {
            return Ok(used);
        }
        let head = std::mem::take(&mut self.head);
        if begins_file {
            return if head == FILE_MAGIC {
                Ok(used)
            } else {
                Err(wrong(0, "the file has no binlog magic number"))
            };
        }
        let start = self.at + used as u64 - HEADER_BYTES as u64;
        let header = EventHeader::parse(&head).ok_or_else(|| wrong(start, "invalid event header"))?;
        let end = start + u64::from(header.size);
        if header.end != end as u32 {
            return Err(wrong(start, "an event is out of place"));
        }
        if end > self.end || self.transaction.is_some_and(|transaction| end > transaction) {
            return Err(wrong(start, "an event extends beyond its segment or transaction"));
        }
        self.event = Some(CheckedEvent::begin(header, start, head));
        Ok(used)
    }

    fn conclude(&mut self) -> Result<()> {
        let Some(event) = self.event.take() else { return Ok(()) };
        let right = event.crc_is_right();
        let whole = event.whole.as_deref().unwrap_or_default();
        match event.header.kind {
            kind::FORMAT_DESCRIPTION => {
                let described = Checksums::described(whole);
                let described = described.ok_or_else(|| wrong(event.start, "unknown checksum algorithm"))?;
                // In a file without checksums, a source that changes the description does not
                // recompute its checksum.
                if described == Checksums::Crc32 && !right {
                    return Err(wrong(event.start, "the checksum of the format description is wrong"));
                }
                self.sums.described = Some(described);
            }
            _ if right => self.sums.right += 1,
            _ => drop(self.sums.wrong.get_or_insert(event.start)),
        }
        if matches!(event.header.kind, kind::GTID | kind::TAGGED_GTID) {
            // A checksum may follow the body: the parser does not read beyond the known fields.
            let gtid = whole.get(HEADER_BYTES..).and_then(|body| event::gtid(event.header.kind, body));
            let gtid = gtid.ok_or_else(|| wrong(event.start, "a GTID event has an unknown format"))?;
            if self.transaction.is_some() {
                return Err(wrong(event.start, "a transaction begins within another"));
            }
            self.transaction = Some(event.start.saturating_add(gtid.length));
            self.gtids.insert(&gtid.gtid);
        }
        let Some(end) = self.transaction else { return Ok(()) };
        if end > self.end || end < self.at {
            return Err(wrong(
                event.start,
                "a transaction is longer than the segment, or shorter than its events",
            ));
        }
        if self.at == end {
            self.transaction = None;
        }
        Ok(())
    }
}

impl CheckedEvent {
    fn begin(header: EventHeader, start: u64, head: Vec<u8>) -> Self {
        let mut crc = Crc32::new();
        crc.update(&head);
        let understood = matches!(header.kind, kind::FORMAT_DESCRIPTION | kind::GTID | kind::TAGGED_GTID);
        Self {
            header,
            start,
            left: header.size as usize - HEADER_BYTES,
            crc,
            stored: Vec::with_capacity(CHECKSUM_BYTES),
            whole: understood.then_some(head),
        }
    }

    /// Takes the bytes that belong to the event. Its last four bytes may be its checksum.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let used = bytes.len().min(self.left);
        let taken = bytes.get(..used).unwrap_or_default();
        let (body, sum) = taken.split_at(used.min(self.left.saturating_sub(CHECKSUM_BYTES)));
        self.crc.update(body);
        self.stored.extend_from_slice(sum);
        if let Some(whole) = self.whole.as_mut().filter(|whole| whole.len() < MAX_EVENT_BYTES) {
            whole.extend_from_slice(taken);
        }
        self.left -= used;
        used
    }

    fn crc_is_right(&self) -> bool {
        let stored: Option<[u8; CHECKSUM_BYTES]> = self.stored.as_slice().try_into().ok();
        stored.is_some_and(|stored| self.crc.clone().finish() == u32::from_le_bytes(stored))
    }
}

fn wrong(at: u64, what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("the segment is invalid at offset {at} of its file: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Returns a GTID event that declares the length of its transaction, and an event of `size`
    /// more bytes.
    fn transaction(at: u64, number: u64, size: usize, sums: Checksums) -> Vec<u8> {
        let mut body = vec![0; 17];
        body.extend(number.to_le_bytes());
        body.push(2);
        body.extend([0; 16]);
        body.extend([1; 7]);
        body[48] = 0;
        let first = HEADER_BYTES + body.len() + 3 + sums.length();
        let length = first + HEADER_BYTES + size + sums.length();
        body.push(252);
        body.extend((length as u16).to_le_bytes());
        let made = |kind, end: usize, body: &[u8]| {
            let header = EventHeader { kind, server_id: 1, size: 0, end: at as u32 + end as u32, flags: 0 };
            event::artificial_event(&header, body, sums)
        };
        [made(kind::GTID, first, &body), made(kind::QUERY, length, &vec![number as u8; size])].concat()
    }

    fn make_segment(start: u64, sums: Checksums) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in 1..=5 {
            bytes.extend(transaction(start + bytes.len() as u64, number, 300, sums));
        }
        bytes
    }

    #[test]
    fn complete_segment_is_valid_in_chunks_of_any_size() {
        for sums in [Checksums::Crc32, Checksums::None] {
            let bytes = make_segment(5 << 32, sums);
            for run in [1, 7, 18, 19, 20, 1000, 100_000] {
                let mut check = SegmentCheck::new(5 << 32, (5 << 32) + bytes.len() as u64);
                bytes.chunks(run).for_each(|run| check.update(run).unwrap());
                assert_eq!(check.finish().unwrap().count(), 5);
            }
        }
    }

    #[test]
    fn every_flipped_byte_is_detected_with_checksums() {
        let bytes = make_segment(700, Checksums::Crc32);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            let error = SegmentCheck::all(700, &bytes).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Damaged, "{at}");
        }
    }

    #[test]
    fn shifted_missing_or_zero_bytes_are_always_detected() {
        for sums in [Checksums::Crc32, Checksums::None] {
            let bytes = make_segment(700, sums);
            assert!(SegmentCheck::all(701, &bytes).is_err(), "of another offset");
            assert!(SegmentCheck::all(700, &bytes[..bytes.len() - 1]).is_err(), "cut off");
            assert!(
                SegmentCheck::all(700, &[&bytes[..300], &bytes[200..]].concat()).is_err(),
                "written twice"
            );
            assert!(SegmentCheck::all(700, &[&bytes[..300], &bytes[700..]].concat()).is_err(), "a hole");
            assert!(SegmentCheck::all(700, &vec![0; bytes.len()]).is_err(), "never written");
            let end = 700 + bytes.len() as u64;
            let next = SegmentCheck::all(end, &make_segment(end, sums));
            assert!(next.is_ok());
        }
        assert!(SegmentCheck::all(0, b"\xfebim").is_err(), "no binlog");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(start in 0_u64..10, bytes in proptest::collection::vec(0_u8.., 1..200)) {
            let _ = SegmentCheck::all(start, &bytes);
        }
    }
}
