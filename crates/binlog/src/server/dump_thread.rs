//! Binlog dump thread: sends segments to a replica.
//!
//! COM_BINLOG_DUMP: `12` · offset u32 · flags u16 · server id u32 · file's name.
//! COM_BINLOG_DUMP_GTID: see [`crate::dump`].

use std::time::Duration;

use backstop_types::error::{Result, ResultExt};
use backstop_types::gtid::GtidSet;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{BinlogServer, EOF_PACKET, SessionSettings, error_packet};
use crate::codec::FieldReader;
use crate::connection::PacketConnection;
use crate::dump::{DUMP_GTID, NON_BLOCK_FLAG, USE_HEARTBEAT_V2};
use crate::dump_plan::{self, FileSegments};
use crate::event::{
    self, ARTIFICIAL_FLAG, BinlogCoordinates, Checksums, EventHeader, FILE_MAGIC, HEADER_BYTES, kind,
};
use crate::gtid_event::GtidEvent;
use crate::gtid_set_codec;
use crate::packet::{FrameHeaders, PacketArrival};
use crate::segment::Segment;
use crate::stream::garbled;

/// Request of a replica.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReplicaRequest {
    flags: u16,
    from: StartFrom,
}

#[derive(Debug, PartialEq, Eq)]
enum StartFrom {
    File(String, u64),
    Set(GtidSet),
}

type ReplicaInput = Box<dyn AsyncRead + Send + Unpin>;

/// Largest event that is parsed, and therefore buffered, in bytes.
const MAX_PARSED_EVENT_BYTES: usize = 64 * 1024 * 1024;
const CHUNK_BYTES: usize = 128 * 1024;

impl ReplicaRequest {
    /// Parses the request in the body of a command.
    pub(crate) fn parse(command: u8, body: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(body);
        if command != DUMP_GTID {
            let offset = u64::from(fields.u32()?);
            let flags = fields.u16()?;
            fields.u32()?;
            let name = String::from_utf8_lossy(fields.rest()).into_owned();
            return Some(Self { flags, from: StartFrom::File(name, offset) });
        }
        let flags = fields.u16()?;
        fields.u32()?;
        let name = fields.u32()?;
        fields.bytes(usize::try_from(name).ok()?)?;
        fields.u64()?;
        let length = fields.u32()?;
        let held = gtid_set_codec::decode_gtid_set(fields.bytes(usize::try_from(length).ok()?)?)?;
        Some(Self { flags, from: StartFrom::Set(held) })
    }
}

/// Sender of the requested transactions.
pub(crate) struct DumpThread<'a> {
    server: &'a BinlogServer,
    connection: PacketConnection,
    wishes: SessionSettings,
    sequence: u8,
    at: BinlogCoordinates,
    done: GtidSet,
}

impl<'a> DumpThread<'a> {
    pub(crate) fn new(
        server: &'a BinlogServer,
        connection: PacketConnection,
        wishes: SessionSettings,
    ) -> Self {
        let at = BinlogCoordinates { file: "binlog".to_owned(), offset: 4 };
        Self { server, connection, wishes, sequence: 1, at, done: GtidSet::new() }
    }

    /// Sends everything, then ends or sends heartbeats until the replica disconnects, as requested.
    pub(crate) async fn run(mut self, request: &ReplicaRequest) -> Result<()> {
        let sent = match self.plan(request).await {
            Ok(runs) => self.files(&runs).await,
            Err(words) => return self.connection.answer(&error_packet(1236, "HY000", &words)).await,
        };
        if let Err(error) = sent {
            // In the middle of an event the replica cannot parse this, and reconnects; it never
            // accepts half an event.
            let words = error_packet(1236, "HY000", &error.message);
            return self.connection.writer.packet(self.sequence, &words).await.map(drop);
        }
        if request.flags & NON_BLOCK_FLAG != 0 {
            return self.connection.writer.packet(self.sequence, EOF_PACKET).await.map(drop);
        }
        self.stay(request.flags & USE_HEARTBEAT_V2 != 0).await
    }

    async fn plan(&mut self, request: &ReplicaRequest) -> Result<Vec<FileSegments>, String> {
        let segments = self.server.source.segments().await.map_err(|error| error.message)?;
        let segments = match &request.from {
            StartFrom::Set(held) => {
                self.done = held.clone();
                &segments
            }
            StartFrom::File(name, offset) => {
                if *offset != 4 {
                    return Err("an archive is only read from the beginning of a file or by GTID".to_owned());
                }
                let rest = dump_plan::from_file(&segments, name)?;
                self.done = rest.first().map(|first| first.previous.clone()).unwrap_or_default();
                rest
            }
        };
        dump_plan::plan_dump(segments, &self.done)
    }

    async fn files(&mut self, runs: &[FileSegments]) -> Result<()> {
        if let Some(last) = runs.last() {
            self.at.file.clone_from(&last.first.file);
        }
        for run in runs {
            self.at = BinlogCoordinates { file: run.first.file.clone(), offset: 4 };
            self.rotate().await?;
            self.descriptions(&run.first).await?;
            for segment in &run.segments {
                self.send_segment(segment).await?;
            }
        }
        if runs.is_empty() {
            self.rotate().await?;
        }
        self.connection.writer.flush().await
    }

    /// Sends the event that announces the next file.
    async fn rotate(&mut self) -> Result<()> {
        let mut body = 4_u64.to_le_bytes().to_vec();
        body.extend(self.at.file.as_bytes());
        self.make_up(kind::ROTATE, 0, &body).await
    }

    async fn make_up(&mut self, kind: u8, end: u32, body: &[u8]) -> Result<()> {
        let header =
            EventHeader { kind, server_id: self.server.server_id, size: 0, end, flags: ARTIFICIAL_FLAG };
        let mut packet = vec![0];
        packet.extend(event::artificial_event(&header, body, self.wishes.checksums));
        self.sequence = self.connection.writer.packet(self.sequence, &packet).await?;
        Ok(())
    }

    /// Sends a file's format description and previous GTIDs.
    async fn descriptions(&mut self, first: &Segment) -> Result<()> {
        let mut input = self.server.source.open(first).await?;
        let mut magic = [0; FILE_MAGIC.len()];
        input.read_exact(&mut magic).await.failed("cannot read a segment")?;
        for expected in [kind::FORMAT_DESCRIPTION, kind::PREVIOUS_GTIDS] {
            let (header, start) = read_header(&mut input).await?;
            if magic != FILE_MAGIC || header.kind != expected {
                return Err(garbled("a file has no binlog magic number"));
            }
            let whole = read_whole(&mut input, &header, start).await?;
            if expected == kind::FORMAT_DESCRIPTION {
                let described = Checksums::described(&whole);
                self.wishes.checksums = described.ok_or_else(|| garbled("unknown checksum algorithm"))?;
            }
            let mut frames = self.begin(&header).await?;
            self.connection.writer.write_chunk(&mut frames, &whole).await?;
        }
        Ok(())
    }

    /// Sends the transactions of a segment that were not sent yet. Skips transactions in its bytes
    /// that are not in its set.
    async fn send_segment(&mut self, segment: &Segment) -> Result<()> {
        let mut input = self.server.source.open(segment).await?;
        let mut at = segment.start;
        if at == 0 {
            input.read_exact(&mut [0; FILE_MAGIC.len()]).await.failed("cannot read a segment")?;
            at = FILE_MAGIC.len() as u64;
        }
        while at < segment.end {
            let (header, start) = read_header(&mut input).await?;
            let size = u64::from(header.size);
            at += match self.gtid(&mut input, &header, &start).await? {
                None => skip(&mut input, size - HEADER_BYTES as u64).await.map(|()| size)?,
                Some((gtid, whole))
                    if self.done.contains(&gtid.gtid) || !segment.gtids.contains(&gtid.gtid) =>
                {
                    skip(&mut input, gtid.length.saturating_sub(whole.len() as u64)).await?;
                    gtid.length
                }
                Some((gtid, whole)) => {
                    self.transaction(&mut input, &header, &whole, gtid.length).await?;
                    self.done.insert(&gtid.gtid);
                    gtid.length
                }
            };
            self.at.offset = at;
        }
        Ok(())
    }

    /// Returns the whole GTID event that begins with this header. Returns `None` for descriptions
    /// and the end of a file, the only other events outside of transactions; the sender creates
    /// those itself.
    async fn gtid(
        &self,
        input: &mut ReplicaInput,
        header: &EventHeader,
        start: &[u8; HEADER_BYTES],
    ) -> Result<Option<(GtidEvent, Vec<u8>)>> {
        match header.kind {
            kind::GTID | kind::TAGGED_GTID => {
                let whole = read_whole(input, header, *start).await?;
                let gtid = self.wishes.checksums.body(&whole).and_then(|body| event::gtid(header.kind, body));
                let gtid = gtid.filter(|gtid| gtid.length >= whole.len() as u64);
                gtid.map(|gtid| Some((gtid, whole))).ok_or_else(|| garbled("invalid GTID event"))
            }
            kind::FORMAT_DESCRIPTION | kind::PREVIOUS_GTIDS | kind::ROTATE | kind::STOP => Ok(None),
            _ => Err(garbled("an event is outside of a transaction")),
        }
    }

    async fn transaction(
        &mut self,
        input: &mut ReplicaInput,
        first: &EventHeader,
        whole: &[u8],
        length: u64,
    ) -> Result<()> {
        let mut frames = self.begin(first).await?;
        self.connection.writer.write_chunk(&mut frames, whole).await?;
        let mut left = length - whole.len() as u64;
        while left > 0 {
            let (header, start) = read_header(input).await?;
            left = left
                .checked_sub(u64::from(header.size))
                .ok_or_else(|| garbled("a transaction is too short"))?;
            let mut frames = self.begin(&header).await?;
            self.connection.writer.write_chunk(&mut frames, &start).await?;
            self.copy(input, &mut frames, header.size as usize - HEADER_BYTES).await?;
        }
        Ok(())
    }

    /// Begins the packet of an event of any size.
    async fn begin(&mut self, header: &EventHeader) -> Result<FrameHeaders> {
        let length = u64::from(header.size) + 1;
        let mut frames = FrameHeaders::new(self.sequence, length);
        self.sequence =
            self.sequence.wrapping_add((length / crate::packet::FULL_FRAME_BYTES as u64 + 1) as u8);
        self.connection.writer.write_chunk(&mut frames, &[0]).await?;
        Ok(frames)
    }

    async fn copy(
        &mut self,
        input: &mut ReplicaInput,
        frames: &mut FrameHeaders,
        mut left: usize,
    ) -> Result<()> {
        let mut segment = vec![0; CHUNK_BYTES.min(left)];
        while left > 0 {
            let length = left.min(segment.len());
            input.read_exact(&mut segment[..length]).await.failed("cannot read a segment")?;
            self.connection.writer.write_chunk(frames, &segment[..length]).await?;
            left -= length;
        }
        Ok(())
    }

    /// Sends heartbeats until the replica disconnects.
    async fn stay(&mut self, second_form: bool) -> Result<()> {
        let period = self.wishes.heartbeat;
        let period = if period.is_zero() { Duration::from_secs(3600) } else { period };
        loop {
            // The only packet expected from a replica now is its COM_QUIT.
            if self.connection.reader.arrival(period).await? == PacketArrival::Packet {
                return Ok(());
            }
            let place = self.at.clone();
            if second_form {
                self.make_up(kind::HEARTBEAT_V2, 0, &event::heartbeat_v2_body(&place)).await?;
            } else {
                self.make_up(kind::HEARTBEAT, place.offset as u32, place.file.as_bytes()).await?;
            }
        }
    }
}

async fn read_header(input: &mut ReplicaInput) -> Result<(EventHeader, [u8; HEADER_BYTES])> {
    let mut start = [0; HEADER_BYTES];
    input.read_exact(&mut start).await.failed("cannot read a segment")?;
    let header = EventHeader::parse(&start).ok_or_else(|| garbled("invalid event header"))?;
    Ok((header, start))
}

async fn read_whole(
    input: &mut ReplicaInput,
    header: &EventHeader,
    start: [u8; HEADER_BYTES],
) -> Result<Vec<u8>> {
    let size = header.size as usize;
    if size > MAX_PARSED_EVENT_BYTES {
        return Err(garbled("an event exceeds the maximum size of its type"));
    }
    let mut whole = start.to_vec();
    whole.resize(size, 0);
    input.read_exact(&mut whole[HEADER_BYTES..]).await.failed("cannot read a segment")?;
    Ok(whole)
}

async fn skip(input: &mut ReplicaInput, length: u64) -> Result<()> {
    let skipped = tokio::io::copy(&mut input.take(length), &mut tokio::io::sink()).await;
    if skipped.failed("cannot read a segment")? == length {
        Ok(())
    } else {
        Err(garbled("a segment ends too early"))
    }
}
