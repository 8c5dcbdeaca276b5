//! Sending segments to a replica.
//!
//! COM_BINLOG_DUMP: `12` · offset u32 · flags u16 · server id u32 · file's name. COM_BINLOG_DUMP_GTID: see [`crate::dump`].

use std::time::Duration;

use backstop_model::fault::{Context, Result};
use backstop_model::gtid::GtidSet;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::dump::{DUMP_GTID, NON_BLOCK, USE_HEARTBEAT_V2};
use crate::event::{self, ARTIFICIAL, Checksums, HEADER, Header, MAGIC, Place, kind};
use crate::fields::Fields;
use crate::packet::{Arrival, Frames};
use crate::segment::Segment;
use crate::server::{BinlogServer, EOF, Wishes, refusal};
use crate::stream::garbled;
use crate::timeline::{self, FileRun};
use crate::wire::Wire;
use crate::{gtid::GtidEvent, set};

/// What a replica asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    flags: u16,
    from: From,
}

#[derive(Debug, PartialEq, Eq)]
enum From {
    File(String, u64),
    Set(GtidSet),
}

type Input = Box<dyn AsyncRead + Send + Unpin>;

/// An event that must be understood is held as a whole.
const LARGEST_UNDERSTOOD: usize = 64 * 1024 * 1024;
const PIECE: usize = 128 * 1024;

impl Request {
    /// The request in the body of a command.
    pub(crate) fn parse(command: u8, body: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(body);
        if command != DUMP_GTID {
            let offset = u64::from(fields.u32()?);
            let flags = fields.u16()?;
            fields.u32()?;
            let name = String::from_utf8_lossy(fields.rest()).into_owned();
            return Some(Self { flags, from: From::File(name, offset) });
        }
        let flags = fields.u16()?;
        fields.u32()?;
        let name = fields.u32()?;
        fields.bytes(usize::try_from(name).ok()?)?;
        fields.u64()?;
        let length = fields.u32()?;
        let held = set::decode(fields.bytes(usize::try_from(length).ok()?)?)?;
        Some(Self { flags, from: From::Set(held) })
    }
}

/// Sends what a replica asked for.
pub(crate) struct Sender<'a> {
    server: &'a BinlogServer,
    wire: Wire,
    wishes: Wishes,
    sequence: u8,
    at: Place,
    done: GtidSet,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(server: &'a BinlogServer, wire: Wire, wishes: Wishes) -> Self {
        let at = Place { file: "binlog".to_owned(), offset: 4 };
        Self { server, wire, wishes, sequence: 1, at, done: GtidSet::new() }
    }

    /// Sends everything, then waits with heartbeats until the replica goes, or ends.
    pub(crate) async fn run(mut self, request: &Request) -> Result<()> {
        let sent = match self.plan(request).await {
            Ok(runs) => self.files(&runs).await,
            Err(words) => return self.wire.answer(&refusal(1236, "HY000", &words)).await,
        };
        if let Err(fault) = sent {
            // In the middle of an event this is not understood, and the replica connects again; it never takes half an event.
            let words = refusal(1236, "HY000", &fault.message);
            return self.wire.writer.packet(self.sequence, &words).await.map(drop);
        }
        if request.flags & NON_BLOCK != 0 {
            return self.wire.writer.packet(self.sequence, EOF).await.map(drop);
        }
        self.stay(request.flags & USE_HEARTBEAT_V2 != 0).await
    }

    async fn plan(&mut self, request: &Request) -> Result<Vec<FileRun>, String> {
        let segments = self.server.source.segments().await.map_err(|fault| fault.message)?;
        let segments = match &request.from {
            From::Set(held) => {
                self.done = held.clone();
                &segments
            }
            From::File(name, offset) => {
                if *offset != 4 {
                    return Err("an archive is read from the beginning of a file, or by GTID".to_owned());
                }
                let rest = timeline::from_file(&segments, name)?;
                self.done = rest.first().map(|first| first.previous.clone()).unwrap_or_default();
                rest
            }
        };
        timeline::plan(segments, &self.done)
    }

    async fn files(&mut self, runs: &[FileRun]) -> Result<()> {
        if let Some(last) = runs.last() {
            self.at.file.clone_from(&last.first.file);
        }
        for run in runs {
            self.at = Place { file: run.first.file.clone(), offset: 4 };
            self.rotate().await?;
            self.descriptions(&run.first).await?;
            for piece in &run.pieces {
                self.piece(piece).await?;
            }
        }
        if runs.is_empty() {
            self.rotate().await?;
        }
        self.wire.writer.flush().await
    }

    /// Says which file follows.
    async fn rotate(&mut self) -> Result<()> {
        let mut body = 4_u64.to_le_bytes().to_vec();
        body.extend(self.at.file.as_bytes());
        self.make_up(kind::ROTATE, 0, &body).await
    }

    async fn make_up(&mut self, kind: u8, end: u32, body: &[u8]) -> Result<()> {
        let header = Header { kind, server_id: self.server.server_id, size: 0, end, flags: ARTIFICIAL };
        let mut packet = vec![0];
        packet.extend(event::made_up(&header, body, self.wishes.checksums));
        self.sequence = self.wire.writer.packet(self.sequence, &packet).await?;
        Ok(())
    }

    /// Sends a file's format description and previous GTIDs.
    async fn descriptions(&mut self, first: &Segment) -> Result<()> {
        let mut input = self.server.source.open(first).await?;
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic).await.failed("read a segment")?;
        for expected in [kind::FORMAT_DESCRIPTION, kind::PREVIOUS_GTIDS] {
            let (header, start) = read_header(&mut input).await?;
            if magic != MAGIC || header.kind != expected {
                return Err(garbled("a file does not begin as one does"));
            }
            let whole = read_whole(&mut input, &header, start).await?;
            if expected == kind::FORMAT_DESCRIPTION {
                self.wishes.checksums = Checksums::described(&whole).ok_or_else(|| garbled("no checksum"))?;
            }
            let mut frames = self.begin(&header).await?;
            self.wire.writer.pieces(&mut frames, &whole).await?;
        }
        Ok(())
    }

    /// Sends the transactions of a piece that were not sent yet. What is in its bytes but not in its set is not meant.
    async fn piece(&mut self, piece: &Segment) -> Result<()> {
        let mut input = self.server.source.open(piece).await?;
        let mut at = piece.start;
        if at == 0 {
            input.read_exact(&mut [0; MAGIC.len()]).await.failed("read a segment")?;
            at = MAGIC.len() as u64;
        }
        while at < piece.end {
            let (header, start) = read_header(&mut input).await?;
            let size = u64::from(header.size);
            at += match self.gtid(&mut input, &header, &start).await? {
                None => skip(&mut input, size - HEADER as u64).await.map(|()| size)?,
                Some((gtid, whole))
                    if self.done.contains(&gtid.gtid) || !piece.gtids.contains(&gtid.gtid) =>
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

    /// The GTID event that begins with this header, as a whole. Outside of transactions are only descriptions and the end of the
    /// file, which are sent anew.
    async fn gtid(
        &self,
        input: &mut Input,
        header: &Header,
        start: &[u8; HEADER],
    ) -> Result<Option<(GtidEvent, Vec<u8>)>> {
        match header.kind {
            kind::GTID | kind::TAGGED_GTID => {
                let whole = read_whole(input, header, *start).await?;
                let gtid = self.wishes.checksums.body(&whole).and_then(|body| event::gtid(header.kind, body));
                let gtid = gtid.filter(|gtid| gtid.length >= whole.len() as u64);
                gtid.map(|gtid| Some((gtid, whole))).ok_or_else(|| garbled("a GTID event"))
            }
            kind::FORMAT_DESCRIPTION | kind::PREVIOUS_GTIDS | kind::ROTATE | kind::STOP => Ok(None),
            _ => Err(garbled("an event is outside of a transaction")),
        }
    }

    async fn transaction(
        &mut self,
        input: &mut Input,
        first: &Header,
        whole: &[u8],
        length: u64,
    ) -> Result<()> {
        let mut frames = self.begin(first).await?;
        self.wire.writer.pieces(&mut frames, whole).await?;
        let mut left = length - whole.len() as u64;
        while left > 0 {
            let (header, start) = read_header(input).await?;
            left = left
                .checked_sub(u64::from(header.size))
                .ok_or_else(|| garbled("a transaction is too short"))?;
            let mut frames = self.begin(&header).await?;
            self.wire.writer.pieces(&mut frames, &start).await?;
            self.copy(input, &mut frames, header.size as usize - HEADER).await?;
        }
        Ok(())
    }

    /// Begins the packet of an event, however large.
    async fn begin(&mut self, header: &Header) -> Result<Frames> {
        let length = u64::from(header.size) + 1;
        let mut frames = Frames::new(self.sequence, length);
        self.sequence = self.sequence.wrapping_add((length / crate::packet::FULL_FRAME as u64 + 1) as u8);
        self.wire.writer.pieces(&mut frames, &[0]).await?;
        Ok(frames)
    }

    async fn copy(&mut self, input: &mut Input, frames: &mut Frames, mut left: usize) -> Result<()> {
        let mut piece = vec![0; PIECE.min(left)];
        while left > 0 {
            let length = left.min(piece.len());
            input.read_exact(&mut piece[..length]).await.failed("read a segment")?;
            self.wire.writer.pieces(frames, &piece[..length]).await?;
            left -= length;
        }
        Ok(())
    }

    /// Says that it is alive until the replica goes.
    async fn stay(&mut self, second_form: bool) -> Result<()> {
        let period = self.wishes.heartbeat;
        let period = if period.is_zero() { Duration::from_secs(3600) } else { period };
        loop {
            // A replica says nothing but goodbye now.
            if self.wire.reader.arrival(period).await? == Arrival::Packet {
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

async fn read_header(input: &mut Input) -> Result<(Header, [u8; HEADER])> {
    let mut start = [0; HEADER];
    input.read_exact(&mut start).await.failed("read a segment")?;
    let header = Header::parse(&start).ok_or_else(|| garbled("an event's header cannot be"))?;
    Ok((header, start))
}

async fn read_whole(input: &mut Input, header: &Header, start: [u8; HEADER]) -> Result<Vec<u8>> {
    let size = header.size as usize;
    if size > LARGEST_UNDERSTOOD {
        return Err(garbled("an event is larger than its kind can be"));
    }
    let mut whole = start.to_vec();
    whole.resize(size, 0);
    input.read_exact(&mut whole[HEADER..]).await.failed("read a segment")?;
    Ok(whole)
}

async fn skip(input: &mut Input, length: u64) -> Result<()> {
    let skipped = tokio::io::copy(&mut input.take(length), &mut tokio::io::sink()).await;
    if skipped.failed("read a segment")? == length {
        Ok(())
    } else {
        Err(garbled("a segment ends too early"))
    }
}
