//! Event stream of a source: verifies the checksum of each event, and passes events on in parts.
//!
//! A packet is `00` and an event; from a semi-synchronous source `00 ef flag` and an event, and
//! flag & 1 requests an acknowledgement once the event is durable. `ff` is an error, `fe` the end
//! of a dump that does not wait.

use std::time::Duration;

use backstop_types::error::{Error, ErrorKind, Result};
use bytes::Bytes;

use crate::connection::{ConnectionReader, ErrPacket};
use crate::crc::Crc32;
use crate::event::{self, BinlogCoordinates, CHECKSUM_BYTES, Checksums, EventHeader, HEADER_BYTES, kind};
use crate::packet::PacketArrival;
use crate::semi_sync::SemiSyncMode;

/// `ER_SOURCE_FATAL_ERROR_READING_BINLOG`.
const ER_SOURCE_FATAL_ERROR_READING_BINLOG: u16 = 1236;
/// Part of the message, in all versions, for the end of a stream that another replica replaced.
const SAME_SERVER_ID_MESSAGE: &str = "with the same server_uuid/server_id";
/// Size of the parts of an event, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
/// Largest event that is parsed, and therefore buffered, in bytes; a set of previous GTIDs can be
/// large.
const MAX_PARSED_EVENT_BYTES: usize = 64 * 1024 * 1024;

/// Stream of a source's events.
pub struct EventStream {
    reader: ConnectionReader,
    checksums: Checksums,
    acknowledge: SemiSyncMode,
    /// Time without a byte after which the stream is dead.
    dead: Duration,
    silent: Duration,
    body: PendingBody,
}

/// The part of the current event that was not passed on yet.
#[derive(Default)]
struct PendingBody {
    /// Bytes that were read.
    held: Option<Bytes>,
    /// Number of bytes still to be read.
    left: usize,
    /// Checksum so far and the expected one, for an event that was not read as a whole.
    crc: Crc32,
    stored: Vec<u8>,
    checksum: usize,
}

/// Next item of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamItem {
    /// Nothing arrived within the given time; the stream is not dead yet.
    Nothing,
    /// Everything was sent.
    End,
    /// The next events are in this file.
    File(BinlogCoordinates),
    /// The source is alive, at this position.
    Heartbeat(BinlogCoordinates),
    /// An event of the file, before its bytes.
    Event(StreamEvent),
    /// The source cannot send the requested transactions: the stream has ended.
    Refused(Error),
}

/// An event of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamEvent {
    pub(crate) header: EventHeader,
    /// The whole event, if it is of a kind that must be parsed.
    pub(crate) whole: Option<Bytes>,
    /// True if the source requests an acknowledgement.
    pub(crate) acknowledge: bool,
}

impl EventStream {
    pub(crate) fn new(
        reader: ConnectionReader,
        checksums: Checksums,
        acknowledge: SemiSyncMode,
        dead: Duration,
    ) -> Self {
        Self { reader, checksums, acknowledge, dead, silent: Duration::ZERO, body: PendingBody::default() }
    }

    /// Returns the checksum kind of the streamed file.
    pub(crate) fn checksums(&self) -> Checksums {
        self.checksums
    }

    /// Returns the next item; waits `quiet` for it. The previous event must have been read to its
    /// end.
    pub(crate) async fn next(&mut self, quiet: Duration) -> Result<StreamItem> {
        let wait = quiet.min(self.dead.saturating_sub(self.silent));
        if self.reader.arrival(wait).await? == PacketArrival::Nothing {
            self.silent += wait;
            if self.silent >= self.dead {
                return Err(Error::failed(format!(
                    "cannot stream the binlog: neither an event nor a heartbeat arrived in {:?}",
                    self.dead
                ))
                .hint("connect again; if it repeats, check the source and the network"));
            }
            return Ok(StreamItem::Nothing);
        }
        self.silent = Duration::ZERO;
        self.reader.begin().await?;
        match self.reader.exactly(1).await?.first() {
            Some(0) => self.event().await,
            Some(0xfe) => self.reader.rest().await.map(|_| StreamItem::End),
            Some(0xff) => self.refusal().await,
            _ => Err(garbled("a packet is neither an event nor an error")),
        }
    }

    /// Returns the next bytes of the current event; `None` after the last, if the checksum was
    /// correct.
    pub(crate) async fn read_chunk(&mut self) -> Result<Option<Bytes>> {
        if let Some(held) = self.body.held.take() {
            return Ok(Some(held));
        }
        if self.body.left == 0 {
            return self.body.conclude().map(|()| None);
        }
        let chunk = self.reader.read_chunk(CHUNK_BYTES.min(self.body.left)).await?;
        let chunk = chunk.ok_or_else(|| garbled("an event is shorter than its header says"))?;
        self.body.took(&chunk);
        if self.body.left == 0 && self.reader.read_chunk(1).await?.is_some() {
            return Err(garbled("an event is longer than its header says"));
        }
        Ok(Some(chunk))
    }

    async fn refusal(&mut self) -> Result<StreamItem> {
        let mut packet = vec![0xff];
        packet.extend(self.reader.rest().await?);
        let Some(refusal) = ErrPacket::parse(&packet) else { return Err(garbled("unreadable error packet")) };
        stream_error(&refusal).map(StreamItem::Refused)
    }

    async fn event(&mut self) -> Result<StreamItem> {
        let mut acknowledge = false;
        if self.acknowledge == SemiSyncMode::Asked {
            match *self.reader.exactly(2).await?.as_slice() {
                [0xef, flag] => acknowledge = flag & 1 == 1,
                _ => return Err(garbled("the semi-synchronous header is missing")),
            }
        }
        let start = self.reader.exactly(HEADER_BYTES).await?;
        let header = EventHeader::parse(&start).ok_or_else(|| garbled("invalid event header"))?;
        self.body = PendingBody::begin(start, header, self.checksums);
        if !must_be_understood(&header) {
            return Ok(StreamItem::Event(StreamEvent { header, whole: None, acknowledge }));
        }
        let whole = self.whole(header).await?;
        self.understand(header, whole, acknowledge)
    }

    /// Returns the whole event, which can still be read in parts.
    async fn whole(&mut self, header: EventHeader) -> Result<Bytes> {
        if header.size as usize > MAX_PARSED_EVENT_BYTES {
            return Err(garbled("an event exceeds the maximum size of its type"));
        }
        let mut whole = Vec::with_capacity(header.size as usize);
        // The format description itself declares whether it has a checksum.
        if header.kind == kind::FORMAT_DESCRIPTION {
            self.body.checksum = 0;
        }
        while let Some(chunk) = self.read_chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }

    fn understand(&mut self, header: EventHeader, whole: Bytes, acknowledge: bool) -> Result<StreamItem> {
        if header.kind == kind::FORMAT_DESCRIPTION {
            self.checksums =
                Checksums::described(&whole).ok_or_else(|| garbled("unknown checksum algorithm"))?;
            if !self.checksums.hold(&whole) {
                return Err(garbled("the checksum of the format description is wrong"));
            }
        }
        let body = self.checksums.body(&whole).ok_or_else(|| garbled("an event is too short"))?;
        let place = match header.kind {
            kind::ROTATE if header.flags & event::ARTIFICIAL_FLAG != 0 => {
                event::rotate(body).map(StreamItem::File)
            }
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => {
                event::heartbeat(&header, body).map(StreamItem::Heartbeat)
            }
            _ => {
                self.body.held = Some(whole.clone());
                return Ok(StreamItem::Event(StreamEvent { header, whole: Some(whole), acknowledge }));
            }
        };
        place.ok_or_else(|| garbled("unreadable heartbeat or rotate event"))
    }
}

/// Converts the error with which a source ends a stream: it cannot send the requested transactions,
/// or another error.
fn stream_error(refusal: &ErrPacket) -> Result<Error> {
    let message =
        format!("cannot stream the binlog: the source reports: {} (error {})", refusal.message, refusal.code);
    if refusal.code != ER_SOURCE_FATAL_ERROR_READING_BINLOG {
        return Err(Error::failed(message));
    }
    // The same error number also ends a stream that another replica replaced; the requested
    // transactions exist then.
    if refusal.message.contains(SAME_SERVER_ID_MESSAGE) {
        return Err(Error::failed(format!(
            "cannot stream the binlog: another replica has connected under this archiver's server UUID, and the source ended this stream ({})",
            refusal.message
        ))
        .hint("stop the other archiver: it archives the same shard into a copy of this repository; a copy needs its own archive"));
    }
    Ok(Error::new(ErrorKind::Refused, message)
        .hint("stream from a member that still has the missing transactions; without one, they stay a gap"))
}

impl PendingBody {
    fn begin(start: Vec<u8>, header: EventHeader, checksums: Checksums) -> Self {
        let left = header.size as usize - HEADER_BYTES;
        let mut body = Self { checksum: checksums.length(), ..Self::default() };
        body.left = left + start.len();
        body.took(&start);
        body.held = Some(start.into());
        body
    }

    /// Records bytes that were read of the event: content of the checksum, or the expected
    /// checksum.
    fn took(&mut self, chunk: &[u8]) {
        let after = self.left - chunk.len();
        let checked = (self.left.saturating_sub(self.checksum)).min(chunk.len());
        let (data, stored) = chunk.split_at(checked);
        self.crc.update(data);
        self.stored.extend(stored);
        self.left = after;
    }

    fn conclude(&mut self) -> Result<()> {
        let crc = std::mem::take(&mut self.crc).finish();
        let stored = std::mem::take(&mut self.stored);
        let checksum = std::mem::take(&mut self.checksum);
        if checksum == CHECKSUM_BYTES && stored != crc.to_le_bytes() {
            return Err(garbled("an event's checksum is wrong"));
        }
        Ok(())
    }
}

fn must_be_understood(header: &EventHeader) -> bool {
    matches!(
        header.kind,
        kind::ROTATE
            | kind::FORMAT_DESCRIPTION
            | kind::HEARTBEAT
            | kind::HEARTBEAT_V2
            | kind::GTID
            | kind::TAGGED_GTID
            | kind::PREVIOUS_GTIDS
    )
}

pub(crate) fn garbled(what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("cannot stream the binlog: the source sent invalid data: {what}"))
        .hint("connect again; if it repeats, check the source's binlog with mysqlbinlog --verify-binlog-checksum")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn takeover_of_a_stream_is_distinguished_from_a_purge() {
        let said = |message: &str| {
            stream_error(&ErrPacket {
                code: ER_SOURCE_FATAL_ERROR_READING_BINLOG,
                message: message.to_owned(),
            })
        };
        for who in ["replica", "slave"] {
            let message = format!(
                "A {who} with the same server_uuid/server_id as this {who} has connected to the source; …"
            );
            let error = said(&message).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Failed);
            assert!(error.message.contains("another replica has connected"), "{error}");
            assert!(!error.hint.unwrap().contains("gap"));
        }
        let purged = said("Cannot replicate because the source purged required binary logs.").unwrap();
        assert_eq!(purged.kind, ErrorKind::Refused);
    }
}
