//! MySQL server in memory, for an archiver: it answers the archiver's queries and streams binlog
//! files that a test writes. Each session is a task behind an in-memory socket.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{Dial, Socket};
use backstop_types::error::{Error, Result};
use backstop_types::gtid::{Gtid, GtidSet, Sid};
use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::topology::{ExternalVerdict, InstanceState, Member, NoAnswer, ReplicationFidelity};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

const MAGIC: &[u8] = b"\xfebin";
/// Interval at which a stream sends what is new, or a heartbeat.
const POLL_INTERVAL: Duration = Duration::from_millis(4);

/// A server.
pub(super) struct FakeServer {
    pub(super) uuid: ServerUuid,
    pub(super) endpoint: Endpoint,
    state: Mutex<ServerState>,
}

struct ServerState {
    up: bool,
    is_primary: bool,
    /// Number of times its sessions were ended.
    generation: u64,
    files: Vec<BinlogFile>,
    executed: GtidSet,
    purged: GtidSet,
    gtid_mode: &'static str,
    encrypts: bool,
    acknowledged: Vec<(String, u64)>,
}

/// A binlog file: the events behind its magic number.
struct BinlogFile {
    name: String,
    previous: GtidSet,
    events: Vec<(Option<Gtid>, Vec<u8>)>,
}

impl BinlogFile {
    fn new(number: usize, previous: GtidSet) -> Self {
        let mut file = Self { name: format!("binlog.{number:06}"), previous, events: Vec::new() };
        let mut description = vec![4, 0];
        description.extend([0; 50 + 4 + 1 + 41]);
        description.extend([0; 5]); // no checksums
        let mut set = Vec::new();
        let intervals: Vec<_> = file.previous.iter().collect();
        set.extend((intervals.len() as u64).to_le_bytes());
        for (sid, start, end) in intervals {
            set.extend(sid.uuid.as_bytes());
            for number in [1, start, end] {
                set.extend(number.to_le_bytes());
            }
        }
        file.push(15, None, &description);
        file.push(35, None, &set);
        file
    }

    fn end(&self) -> u64 {
        MAGIC.len() as u64 + self.events.iter().map(|(_, event)| event.len() as u64).sum::<u64>()
    }

    fn push(&mut self, kind: u8, gtid: Option<Gtid>, body: &[u8]) {
        let end = self.end() + 19 + body.len() as u64;
        self.events.push((gtid, event(kind, end as u32, 0, body)));
    }
}

fn event(kind: u8, end: u32, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut event = vec![0; 4];
    event.push(kind);
    event.extend(7_u32.to_le_bytes());
    event.extend((19 + body.len() as u32).to_le_bytes());
    event.extend(end.to_le_bytes());
    event.extend(flags.to_le_bytes());
    event.extend(body);
    event
}

impl FakeServer {
    pub(super) fn new(number: u8) -> Arc<Self> {
        let text = format!("{}-0000-4000-8000-000000000000", format!("{number:02x}").repeat(4));
        let state = ServerState {
            up: true,
            is_primary: number == 0xaa,
            generation: 0,
            files: vec![BinlogFile::new(1, GtidSet::new())],
            executed: GtidSet::new(),
            purged: GtidSet::new(),
            gtid_mode: "ON",
            encrypts: false,
            acknowledged: Vec::new(),
        };
        let endpoint = Endpoint::new(format!("db{number:x}"), 3306);
        Arc::new(Self { uuid: text.parse().unwrap(), endpoint, state: Mutex::new(state) })
    }

    /// Commits transactions of a server, `fill` bytes longer than the shortest.
    pub(super) fn commit(&self, of: ServerUuid, numbers: std::ops::RangeInclusive<u64>, fill: usize) {
        let mut state = self.state();
        for number in numbers {
            let gtid = Gtid { sid: Sid { uuid: of.0, tag: String::new() }, number };
            let mut body = vec![0];
            body.extend(of.0.as_bytes());
            body.extend(number.to_le_bytes());
            body.push(2);
            body.extend([0; 16]);
            let moment = 1_795_000_000_000_000 + number * 1_000_000 + fill as u64;
            body.extend(&moment.to_le_bytes()[..7]);
            body.push(252);
            body.extend(u16::try_from(19 + body.len() + 2 + fill).unwrap().to_le_bytes());
            body.extend(vec![b'a'; fill]);
            state.executed.insert(&gtid);
            state.files.last_mut().unwrap().push(33, Some(gtid), &body);
        }
    }

    /// Begins another binlog file.
    pub(super) fn rotate(&self) {
        let mut state = self.state();
        let next = BinlogFile::new(state.files.len() + 1, state.executed.clone());
        let mut body = 4_u64.to_le_bytes().to_vec();
        body.extend(next.name.as_bytes());
        state.files.last_mut().unwrap().push(4, None, &body);
        state.files.push(next);
    }

    /// Purges all files but the last.
    pub(super) fn purge(&self) {
        let mut state = self.state();
        let last = state.files.pop().unwrap();
        state.purged = last.previous.clone();
        // Keeps the numbers of files.
        state.files.iter_mut().for_each(|file| file.events.clear());
        state.files.push(last);
    }

    /// Forgets its binlog and its transactions: an older copy of the server.
    pub(super) fn set_back(&self) {
        let mut state = self.state();
        state.files = vec![BinlogFile::new(1, GtidSet::new())];
        state.executed = GtidSet::new();
        state.generation += 1;
    }

    pub(super) fn set_up(&self, up: bool) {
        let mut state = self.state();
        state.up = up;
        state.generation += 1;
    }

    /// Ends its sessions.
    pub(super) fn disconnect(&self) {
        self.state().generation += 1;
    }

    pub(super) fn set_primary(&self, is_primary: bool) {
        self.state().is_primary = is_primary;
    }

    pub(super) fn set_gtid_mode(&self, mode: &'static str) {
        self.state().gtid_mode = mode;
    }

    pub(super) fn encrypt(&self) {
        self.state().encrypts = true;
    }

    /// Returns the last position that was acknowledged.
    pub(super) fn acknowledged(&self) -> Option<(String, u64)> {
        self.state().acknowledged.last().cloned()
    }

    /// Returns the end of its binlog.
    pub(super) fn position(&self) -> (String, u64) {
        let state = self.state();
        let last = state.files.last().unwrap();
        (last.name.clone(), last.end())
    }

    /// Returns it as a member of its shard.
    pub(super) fn member(&self) -> Member {
        let state = self.state();
        let answer = InstanceState {
            server_uuid: self.uuid,
            server_id: u32::from(self.uuid.0.as_bytes()[0]),
            version: "9.7.4".parse().unwrap(),
            gtid_mode_on: state.gtid_mode == "ON",
            read_only: !state.is_primary,
            gtid_executed: state.executed.clone(),
            gtid_purged: state.purged.clone(),
            semi_sync_replica: false,
            semi_sync_source_loaded: true,
            replication: None,
            fidelity: ReplicationFidelity::default(),
            group: None,
        };
        let silent = NoAnswer::Unreachable("connection refused".to_owned());
        Member {
            endpoint: self.endpoint.clone(),
            candidate: false,
            state: if state.up { Ok(answer) } else { Err(silent) },
            verdict: ExternalVerdict::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap()
    }

    /// Returns the only row of the answer to a statement; empty: OK.
    fn answer(&self, sql: &str) -> Vec<String> {
        let state = self.state();
        let last = state.files.last().unwrap();
        let one = |value: &str| vec![value.to_owned()];
        match sql {
            "SELECT @@GLOBAL.gtid_owned" => one(""),
            "SELECT @@GLOBAL.gtid_executed" => one(&state.executed.to_string()),
            "SELECT @@GLOBAL.gtid_purged" => one(&state.purged.to_string()),
            "SELECT @@GLOBAL.server_uuid" => one(&self.uuid.to_string()),
            "SELECT @@GLOBAL.log_bin" => one("1"),
            "SELECT @@GLOBAL.gtid_mode" => one(state.gtid_mode),
            "SELECT @@GLOBAL.binlog_encryption" => one(if state.encrypts { "1" } else { "0" }),
            "SELECT @source_binlog_checksum" => one("NONE"),
            "SHOW BINARY LOG STATUS" => vec![last.name.clone(), last.end().to_string()],
            sql if sql.contains("wait_sessions") => vec!["name".to_owned(), "0".to_owned()],
            sql if sql.contains("_status'") => vec!["name".to_owned(), "ON".to_owned()],
            sql if sql.contains("information_schema.plugins") => one("1"),
            _ => Vec::new(),
        }
    }

    /// Returns the packets of events that were not sent yet, behind the sent ones.
    fn next_events(&self, sent: &mut Sent) -> Vec<Vec<u8>> {
        let state = self.state();
        let mut events = Vec::new();
        let missing = state.purged.subtract(&sent.held);
        assert!(missing.is_empty(), "the archiver requests purged transactions: {missing}");
        let first = state.files.iter().rposition(|file| file.previous.is_subset_of(&sent.held)).unwrap_or(0);
        for at in sent.file.unwrap_or(first)..state.files.len() {
            let file = &state.files[at];
            if sent.file != Some(at) {
                (sent.file, sent.count) = (Some(at), 0);
                let mut body = 4_u64.to_le_bytes().to_vec();
                body.extend(file.name.as_bytes());
                events.push(event(4, 0, 0x20, &body));
            }
            for (gtid, event) in &file.events[sent.count..] {
                if !gtid.as_ref().is_some_and(|gtid| sent.held.contains(gtid)) {
                    events.push(event.clone());
                }
            }
            sent.count = file.events.len();
        }
        events
    }

    async fn session(self: Arc<Self>, socket: DuplexStream) -> io::Result<()> {
        let generation = self.state().generation;
        let (read, write) = tokio::io::split(socket);
        let mut session = FakeSession { read, write, semi_sync: false };
        session.greet().await?;
        loop {
            let (number, command) = session.packet().await?;
            if self.state().generation != generation {
                return Ok(());
            }
            match command.split_first() {
                Some((3, sql)) => {
                    let sql = String::from_utf8_lossy(sql).into_owned();
                    session.semi_sync |= sql.contains("@rpl_semi_sync_slave = 1");
                    session.reply(number, &self.answer(&sql)).await?;
                }
                Some((0x15, _)) => session.send(number + 1, &[0, 0, 0, 2, 0, 0, 0]).await?,
                Some((0x1e, request)) => return self.dump(session, request, generation).await,
                _ => return Ok(()),
            }
        }
    }

    async fn dump(self: Arc<Self>, session: FakeSession, request: &[u8], generation: u64) -> io::Result<()> {
        let FakeSession { mut read, mut write, semi_sync } = session;
        let server = Arc::clone(&self);
        let acknowledgements = tokio::spawn(async move {
            while let Ok((_, packet)) = read_packet(&mut read).await {
                if let [0xef, rest @ ..] = packet.as_slice() {
                    let offset = u64::from_le_bytes(rest[..8].try_into().unwrap());
                    let file = String::from_utf8_lossy(&rest[8..]).into_owned();
                    server.state().acknowledged.push((file, offset));
                }
            }
        });
        let no_wait = request[0] & 1 == 1;
        let mut sent = Sent { held: parse_set(&request[22..]), file: None, count: 0 };
        let (mut number, mut idle) = (1_u8, 0);
        while self.state().generation == generation {
            let mut events = self.next_events(&mut sent);
            idle = if events.is_empty() { idle + 1 } else { 0 };
            if idle == 3 {
                idle = 0;
                let (file, offset) = self.position();
                events.push(event(27, offset as u32, 0, file.as_bytes()));
            }
            for event in events {
                let head: &[u8] = if semi_sync { &[0, 0xef, 1] } else { &[0] };
                write_packet(&mut write, number, &[head, &event].concat()).await?;
                number = number.wrapping_add(1);
            }
            if no_wait {
                write_packet(&mut write, number, &[0xfe, 0, 0, 2, 0]).await?;
                break;
            }
            pause().await;
        }
        acknowledgements.abort();
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "the played server runs on this host's clock")]
async fn pause() {
    tokio::time::sleep(POLL_INTERVAL).await;
}

/// Progress of a stream.
struct Sent {
    held: GtidSet,
    file: Option<usize>,
    count: usize,
}

struct FakeSession {
    read: ReadHalf<DuplexStream>,
    write: WriteHalf<DuplexStream>,
    semi_sync: bool,
}

impl FakeSession {
    async fn greet(&mut self) -> io::Result<()> {
        let mut greeting = vec![10];
        greeting.extend(b"9.7.4\0");
        greeting.extend([1, 0, 0, 0]);
        greeting.extend(b"12345678\0");
        let capabilities = 1_u32 | 4 | 0x200 | 0x2000 | 0x8000 | 0x8_0000 | 0x20_0000;
        greeting.extend((capabilities as u16).to_le_bytes());
        greeting.extend([45, 2, 0]);
        greeting.extend(((capabilities >> 16) as u16).to_le_bytes());
        greeting.push(21);
        greeting.extend([0; 10]);
        greeting.extend(b"123456789012\0caching_sha2_password\0");
        self.send(0, &greeting).await?;
        let (number, _) = self.packet().await?;
        self.send(number + 1, &[0, 0, 0, 2, 0, 0, 0]).await
    }

    async fn reply(&mut self, number: u8, row: &[String]) -> io::Result<()> {
        if row.is_empty() {
            return self.send(number + 1, &[0, 0, 0, 2, 0, 0, 0]).await;
        }
        let mut packets = vec![vec![row.len() as u8]];
        packets.extend(row.iter().map(|_| b"column".to_vec()));
        let eof = vec![0xfe, 0, 0, 2, 0];
        let mut values = Vec::new();
        for value in row {
            values.push(252);
            values.extend((value.len() as u16).to_le_bytes());
            values.extend(value.as_bytes());
        }
        packets.extend([eof.clone(), values, eof]);
        for (at, packet) in packets.iter().enumerate() {
            self.send(number + 1 + at as u8, packet).await?;
        }
        Ok(())
    }

    async fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        read_packet(&mut self.read).await
    }

    async fn send(&mut self, number: u8, payload: &[u8]) -> io::Result<()> {
        write_packet(&mut self.write, number, payload).await
    }
}

async fn read_packet(read: &mut ReadHalf<DuplexStream>) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    read.read_exact(&mut head).await?;
    let mut packet = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    read.read_exact(&mut packet).await?;
    Ok((head[3], packet))
}

async fn write_packet(write: &mut WriteHalf<DuplexStream>, number: u8, payload: &[u8]) -> io::Result<()> {
    let mut packet = (payload.len() as u32).to_le_bytes();
    packet[3] = number;
    write.write_all(&[&packet, payload].concat()).await
}

/// Parses the set of a dump request, whose sources have no tags.
fn parse_set(bytes: &[u8]) -> GtidSet {
    let mut numbers = bytes;
    let mut set = GtidSet::new();
    let next = |numbers: &mut &[u8]| {
        let (number, rest) = numbers.split_first_chunk::<8>().unwrap();
        *numbers = rest;
        u64::from_le_bytes(*number)
    };
    for _ in 0..next(&mut numbers) {
        let (uuid, rest) = numbers.split_first_chunk::<16>().unwrap();
        numbers = rest;
        for _ in 0..next(&mut numbers) {
            let (start, end) = (next(&mut numbers), next(&mut numbers));
            set.insert_interval(Sid { uuid: uuid::Uuid::from_bytes(*uuid), tag: String::new() }, start, end);
        }
    }
    set
}

/// Network of played servers.
pub(super) struct FakeNetwork(pub(super) Vec<Arc<FakeServer>>);

#[async_trait]
impl Dial for FakeNetwork {
    async fn connect(&self, endpoint: &Endpoint, _: Duration) -> Result<Box<dyn Socket>> {
        let server = self.0.iter().find(|server| server.endpoint == *endpoint && server.state().up);
        let server = server.ok_or_else(|| Error::failed("connection refused"))?;
        let (here, there) = tokio::io::duplex(64 * 1024);
        tokio::spawn(Arc::clone(server).session(there));
        Ok(Box::new(here))
    }
}
