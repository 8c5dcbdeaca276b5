//! Binary log file: reads the whole transactions it holds.
//!
//! A file is the four bytes `fe 62 69 6e` (`fd 62 69 6e`: encrypted) and events one after the
//! other. An event is a header of 19 bytes, all little-endian (time u32 · type u8 · server id u32 ·
//! size of the whole event u32 · end position u32 · flags u16), its body, and, if the file's format
//! description declares it, a CRC-32 of everything before it (4 bytes).

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use backstop_types::gtid::Gtid;

use crate::crc::Crc32;
use crate::gtid_event;

/// Error: a binary log file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBinlog {
    /// Error of the operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// The file is not a binary log, or its form is unknown.
    #[error("at offset {at}: {what}")]
    Form {
        /// Offset in the file, in bytes.
        at: u64,
        /// Description of the error.
        what: &'static str,
    },
}

/// A whole transaction in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTransaction {
    /// Its identifier.
    pub gtid: Gtid,
    /// Offset of its GTID event.
    pub start: u64,
    /// Offset after its last event.
    pub end: u64,
}

/// A binary log file opened for reading. The file must not change while it is open.
#[derive(Debug)]
pub struct BinlogFile<R: Read + Seek> {
    input: BufReader<R>,
    size: u64,
    checksums: bool,
}

const FILE_MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
const ENCRYPTED_FILE_MAGIC: [u8; 4] = [0xfd, b'b', b'i', b'n'];
const HEADER_BYTES: usize = 19;
const CHECKSUM_BYTES: u64 = 4;
/// Largest body that is parsed, in bytes. A format description or GTID event is far smaller.
const MAX_BODY_BYTES: u64 = 64 * 1024;

const FORMAT_DESCRIPTION: u8 = 15;
const GTID: u8 = 33;
const ANONYMOUS_GTID: u8 = 34;
const TAGGED_GTID: u8 = 42;

/// An event's header with the offsets of the event.
struct FileEvent {
    kind: u8,
    start: u64,
    end: u64,
}

impl<R: Read + Seek> BinlogFile<R> {
    /// Opens a file and reads its first event, which describes the others.
    ///
    /// # Errors
    /// Returns [`InvalidBinlog::Encrypted`] if the file is encrypted, and [`InvalidBinlog::Form`]
    /// if it is not a binary log of MySQL 5.6 or later.
    pub fn open(input: R) -> Result<Self, InvalidBinlog> {
        let mut input = BufReader::with_capacity(64 * 1024, input);
        let size = input.seek(SeekFrom::End(0))?;
        let mut file = Self { input, size, checksums: false };
        file.input.seek(SeekFrom::Start(0))?;
        let mut magic = [0; 4];
        file.input.read_exact(&mut magic)?;
        match magic {
            FILE_MAGIC => {}
            ENCRYPTED_FILE_MAGIC => return Err(InvalidBinlog::Encrypted),
            _ => return Err(InvalidBinlog::Form { at: 0, what: "this is not a binary log" }),
        }
        let event = file.event_at(4)?.filter(|event| event.kind == FORMAT_DESCRIPTION);
        let bad = || InvalidBinlog::Form { at: 4, what: "the format description is missing" };
        let body = file.body(&event.ok_or_else(bad)?)?;
        // The description ends with the kind of checksum (0 none, 1 CRC-32) and its own checksum.
        let kind = body.len().checked_sub(CHECKSUM_BYTES as usize + 1).and_then(|at| body.get(at));
        file.checksums = match kind.ok_or_else(bad)? {
            0 => false,
            1 => true,
            _ => return Err(InvalidBinlog::Form { at: 4, what: "the checksum algorithm is unknown" }),
        };
        Ok(file)
    }

    /// Returns every whole transaction with a GTID that begins at `from` or later; `from` must be
    /// the offset of an event. The file may end in the middle of a transaction, as that of a
    /// crashed server does. A partial transaction is not returned, and neither is anything after an
    /// event with a wrong checksum.
    ///
    /// # Errors
    /// Returns [`InvalidBinlog::Form`] if a GTID event is of an unknown form, or if a transaction's
    /// events do not end where its GTID event declares.
    pub fn transactions(&mut self, from: u64) -> Result<Vec<FileTransaction>, InvalidBinlog> {
        let mut found = Vec::new();
        let mut at = from.max(FILE_MAGIC.len() as u64);
        while let Some(event) = self.event_at(at)? {
            at = match event.kind {
                GTID | TAGGED_GTID => match self.transaction(&event)? {
                    Some(transaction) => {
                        let end = transaction.end;
                        found.push(transaction);
                        end
                    }
                    None => break,
                },
                // Without GTIDs the end of a transaction is unknown and not needed.
                ANONYMOUS_GTID => event.end,
                // In a file in use, a flag is set in the description that its checksum does not
                // cover.
                FORMAT_DESCRIPTION => event.end,
                _ if self.is_sound(&event)? => event.end,
                _ => break,
            };
        }
        Ok(found)
    }

    /// Returns the transaction that begins with this GTID event, if the file contains all of it.
    fn transaction(&mut self, event: &FileEvent) -> Result<Option<FileTransaction>, InvalidBinlog> {
        if !self.is_sound(event)? {
            return Ok(None);
        }
        let form = |what| InvalidBinlog::Form { at: event.start, what };
        let body = self.body(event)?;
        let read = if event.kind == GTID {
            gtid_event::parse_untagged(&body)
        } else {
            gtid_event::parse_tagged(&body)
        };
        let read = read.ok_or_else(|| form("the GTID event has an unknown format"))?;
        let end = event.start.saturating_add(read.length);
        if read.length < event.end - event.start {
            return Err(form("the GTID event does not contain its transaction's length"));
        }
        let mut at = event.end;
        while at < end {
            let Some(next) = self.event_at(at)? else { return Ok(None) };
            if !self.is_sound(&next)? {
                return Ok(None);
            }
            at = next.end;
        }
        if at != end {
            return Err(form("the transaction's events do not end where its GTID event says"));
        }
        Ok(Some(FileTransaction { gtid: read.gtid, start: event.start, end }))
    }

    /// Returns the header at an offset, if the file contains the whole event.
    fn event_at(&mut self, start: u64) -> Result<Option<FileEvent>, InvalidBinlog> {
        if start + HEADER_BYTES as u64 > self.size {
            return Ok(None);
        }
        let mut header = [0; HEADER_BYTES];
        self.input.seek(SeekFrom::Start(start))?;
        self.input.read_exact(&mut header)?;
        let size = u32::from_le_bytes([header[9], header[10], header[11], header[12]]);
        let end = start + u64::from(size);
        let whole = u64::from(size) >= HEADER_BYTES as u64 && end <= self.size;
        Ok(whole.then_some(FileEvent { kind: header[4], start, end }))
    }

    fn body(&mut self, event: &FileEvent) -> Result<Vec<u8>, InvalidBinlog> {
        let checksum = if self.checksums { CHECKSUM_BYTES } else { 0 };
        let start = event.start + HEADER_BYTES as u64;
        let length = event.end.saturating_sub(checksum).saturating_sub(start);
        if length > MAX_BODY_BYTES {
            return Err(InvalidBinlog::Form {
                at: event.start,
                what: "the event exceeds the maximum size of its type",
            });
        }
        self.input.seek(SeekFrom::Start(start))?;
        let mut body = vec![0; length as usize];
        self.input.read_exact(&mut body)?;
        Ok(body)
    }

    /// True if the event's checksum is correct, or the file has none. Reads the event in parts,
    /// since it may be large.
    fn is_sound(&mut self, event: &FileEvent) -> Result<bool, InvalidBinlog> {
        if !self.checksums {
            return Ok(true);
        }
        let Some(mut left) = (event.end - event.start).checked_sub(CHECKSUM_BYTES) else { return Ok(false) };
        self.input.seek(SeekFrom::Start(event.start))?;
        let mut crc = Crc32::new();
        let mut chunk = [0; 16 * 1024];
        while left > 0 {
            let length = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input.read_exact(&mut chunk[..length])?;
            crc.update(&chunk[..length]);
            left -= length as u64;
        }
        let mut stored = [0; CHECKSUM_BYTES as usize];
        self.input.read_exact(&mut stored)?;
        Ok(crc.finish() == u32::from_le_bytes(stored))
    }
}
