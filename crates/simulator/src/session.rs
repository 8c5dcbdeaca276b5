//! Sessions of a server: login, queries and the binlog dump, over an in-memory socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{Dial, Socket};
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use crate::binlog_bytes::{self, ARTIFICIAL_FLAG, kind};
use crate::server::{LogFile, SimServer};

const SOCKET_BYTES: usize = 64 * 1024;
/// Period of heartbeats; the archiver asks for the same.
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(1);
/// Longest time until a server notices what is new, in milliseconds.
const MAX_SEND_DELAY: u64 = 4;
const COM_QUERY: u8 = 0x03;
const COM_REGISTER_REPLICA: u8 = 0x15;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
const ACKNOWLEDGEMENT: u8 = 0xef;
const OK_PACKET: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const EOF_PACKET: &[u8] = &[0xfe, 0, 0, 2, 0];

/// Network of simulated servers, as one client reaches them.
pub struct SimDial {
    /// The servers.
    pub servers: Vec<Arc<SimServer>>,
}

#[async_trait]
impl Dial for SimDial {
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn connect(&self, endpoint: &Endpoint, deadline: Duration) -> Result<Box<dyn Socket>> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let server = self.servers.iter().find(|server| server.endpoint == *endpoint);
        let server = server.filter(|server| server.state().is_up);
        let server = server.ok_or_else(|| Error::failed("connection refused"))?;
        if server.state().is_stalled {
            tokio::time::sleep(deadline).await;
            return Err(Error::failed(format!("nothing answered in {deadline:?}")));
        }
        let (here, there) = tokio::io::duplex(SOCKET_BYTES);
        let generation = server.state().generation;
        let server = Arc::clone(server);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = ended(&server, generation) => {}
                _ = session(&server, there) => {}
            }
        });
        Ok(Box::new(here))
    }
}

/// Returns when the server ends the sessions of this generation.
async fn ended(server: &SimServer, generation: u64) {
    loop {
        let changed = server.changed.notified();
        if server.state().generation != generation {
            return;
        }
        changed.await;
    }
}

/// Returns when the server sends.
async fn unless_stalled(server: &SimServer) {
    loop {
        let changed = server.changed.notified();
        if !server.state().is_stalled {
            return;
        }
        changed.await;
    }
}

async fn session(server: &Arc<SimServer>, socket: DuplexStream) -> io::Result<()> {
    let (read, write) = tokio::io::split(socket);
    let mut session = SimSession { read, write, is_semi_sync: false };
    session.greet().await?;
    loop {
        let (number, command) = session.packet().await?;
        unless_stalled(server).await;
        match command.split_first() {
            Some((&COM_QUERY, sql)) => {
                let sql = String::from_utf8_lossy(sql).into_owned();
                session.is_semi_sync |= sql.contains("@rpl_semi_sync_slave = 1");
                session.reply(number, &answer(server, &sql)).await?;
            }
            Some((&COM_REGISTER_REPLICA, _)) => session.send(number + 1, OK_PACKET).await?,
            Some((&COM_BINLOG_DUMP_GTID, request)) => return dump(server, session, request).await,
            _ => return Ok(()),
        }
    }
}

/// Returns the only row of the answer to a statement; empty: OK.
fn answer(server: &SimServer, sql: &str) -> Vec<String> {
    let state = server.state();
    let one = |value: &str| vec![value.to_owned()];
    match sql {
        "SELECT @@GLOBAL.gtid_owned" => one(&state.owned()),
        "SELECT @@GLOBAL.gtid_executed" => one(&state.executed.to_string()),
        "SELECT @@GLOBAL.gtid_purged" => one(&state.purged.to_string()),
        "SELECT @@GLOBAL.server_uuid" => one(&state.uuid.to_string()),
        "SELECT @@GLOBAL.log_bin" => one("1"),
        "SELECT @@GLOBAL.gtid_mode" => one("ON"),
        "SELECT @@GLOBAL.binlog_encryption" => one("0"),
        "SELECT @source_binlog_checksum" => one("CRC32"),
        "SHOW BINARY LOG STATUS" => {
            let (file, end) = state.position();
            vec![file, end.to_string()]
        }
        sql if sql.contains("wait_sessions") => vec!["name".to_owned(), state.waiting().to_string()],
        sql if sql.contains("_status'") => vec!["name".to_owned(), state.semi_sync_status().to_owned()],
        sql if sql.contains("information_schema.plugins") => one("1"),
        _ => Vec::new(),
    }
}

/// Position of a dump thread.
struct DumpPosition {
    held: GtidSet,
    file: Option<Arc<LogFile>>,
    sent: usize,
}

async fn dump(server: &Arc<SimServer>, session: SimSession, request: &[u8]) -> io::Result<()> {
    let SimSession { read, mut write, is_semi_sync } = session;
    let held = binlog_bytes::decode_set(request.get(22..).unwrap_or_default()).unwrap_or_default();
    let ends = request.first().is_some_and(|flags| flags & 1 == 1);
    let position = match begin(server, held) {
        Ok(position) => position,
        Err(why) => return write_packet(&mut write, 1, &error_packet(&why)).await,
    };
    let receive = receive_acknowledgements(Arc::clone(server), read);
    let sender = DumpSender { position, write, is_semi_sync, number: 1 };
    tokio::select! {
        biased;
        () = receive => Ok(()),
        sent = sender.send(server, ends) => sent,
    }
}

/// Sending side of a dump thread.
struct DumpSender {
    position: DumpPosition,
    write: WriteHalf<DuplexStream>,
    is_semi_sync: bool,
    /// Number of the next packet.
    number: u8,
}

impl DumpSender {
    /// Sends what is in the binlog, and what follows unless the dump `ends` there.
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn send(mut self, server: &SimServer, ends: bool) -> io::Result<()> {
        let mut due = tokio::time::Instant::now() + HEARTBEAT_PERIOD;
        loop {
            let changed = server.changed.notified();
            unless_stalled(server).await;
            let mut events = next_events(&mut self.position);
            if events.is_empty() && has_lost_its_file(server, &self.position) {
                return Ok(());
            }
            if events.is_empty() && !ends {
                match tokio::time::timeout_at(due, changed).await {
                    Ok(()) => {
                        pause(server).await;
                        continue;
                    }
                    Err(_) => events.push((heartbeat(&self.position), false)),
                }
            }
            for (event, asks) in events {
                let head: &[u8] =
                    if self.is_semi_sync { &[0, ACKNOWLEDGEMENT, u8::from(asks)] } else { &[0] };
                self.packet(&[head, &event].concat()).await?;
            }
            if ends {
                return self.packet(EOF_PACKET).await;
            }
            due = tokio::time::Instant::now() + HEARTBEAT_PERIOD;
        }
    }

    async fn packet(&mut self, payload: &[u8]) -> io::Result<()> {
        write_packet(&mut self.write, self.number, payload).await?;
        self.number = self.number.wrapping_add(1);
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
async fn pause(server: &SimServer) {
    let jitter = server.state().log.len() as u64 % (MAX_SEND_DELAY + 1);
    tokio::time::sleep(Duration::from_millis(jitter)).await;
}

async fn receive_acknowledgements(server: Arc<SimServer>, mut read: ReadHalf<DuplexStream>) {
    while let Ok((_, packet)) = read_packet(&mut read).await {
        if let [ACKNOWLEDGEMENT, rest @ ..] = packet.as_slice()
            && let Some((offset, file)) = rest.split_first_chunk::<8>()
        {
            server.acknowledged(&String::from_utf8_lossy(file), u64::from_le_bytes(*offset));
        }
    }
}

/// Returns where a dump begins: in the newest file before which the replica has everything.
fn begin(server: &SimServer, held: GtidSet) -> std::result::Result<DumpPosition, String> {
    let state = server.state();
    let missing = state.purged.subtract(&held);
    if !missing.is_empty() {
        return Err(format!("the source has purged {missing}"));
    }
    let beyond = held.of_uuid(state.uuid).subtract(&state.reached());
    if !beyond.is_empty() {
        return Err(format!("the replica has more GTIDs than the source: {beyond}"));
    }
    let first = state.files.iter().rfind(|file| file.previous.is_subset_of(&held));
    let file = first.or(state.files.first()).cloned();
    Ok(DumpPosition { held, file, sent: 0 })
}

/// Returns the events that were not sent yet, each with the request for an acknowledgement.
fn next_events(position: &mut DumpPosition) -> Vec<(Vec<u8>, bool)> {
    let mut events = Vec::new();
    while let Some(file) = position.file.clone() {
        if position.sent == 0 {
            events.push((
                binlog_bytes::event(kind::ROTATE, 7, 0, ARTIFICIAL_FLAG, &binlog_bytes::rotate(&file.name)),
                false,
            ));
        }
        let fresh = file.events_after(position.sent);
        position.sent += fresh.len();
        for event in fresh {
            if !event.gtid.as_ref().is_some_and(|gtid| position.held.contains(gtid)) {
                events.push((event.bytes, event.ends));
            }
        }
        let Some(next) = file.next() else { break };
        (position.file, position.sent) = (Some(next), 0);
    }
    events
}

/// True if a reset has deleted the file of a dump thread: it then ends, unless the file in use has the
/// same name. There it stands for ever.
fn has_lost_its_file(server: &SimServer, position: &DumpPosition) -> bool {
    let state = server.state();
    let in_use = state.files.last().map(|file| file.name.as_str());
    let file = position.file.as_ref().filter(|file| file.next().is_none());
    file.is_some_and(|file| Some(file.name.as_str()) != in_use)
}

fn heartbeat(position: &DumpPosition) -> Vec<u8> {
    let (name, end) = position.file.as_ref().map(|file| (file.name.clone(), file.end())).unwrap_or_default();
    binlog_bytes::event(kind::HEARTBEAT, 7, end, 0, name.as_bytes())
}

fn error_packet(why: &str) -> Vec<u8> {
    let mut packet = vec![0xff];
    packet.extend(1236_u16.to_le_bytes());
    packet.extend(b"#HY000");
    packet.extend(why.as_bytes());
    packet
}

struct SimSession {
    read: ReadHalf<DuplexStream>,
    write: WriteHalf<DuplexStream>,
    is_semi_sync: bool,
}

impl SimSession {
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
        self.send(number + 1, OK_PACKET).await
    }

    async fn reply(&mut self, number: u8, row: &[String]) -> io::Result<()> {
        if row.is_empty() {
            return self.send(number + 1, OK_PACKET).await;
        }
        let mut packets = vec![vec![row.len() as u8]];
        packets.extend(row.iter().map(|_| b"column".to_vec()));
        let mut values = Vec::new();
        for value in row {
            values.push(252);
            values.extend((value.len() as u16).to_le_bytes());
            values.extend(value.as_bytes());
        }
        packets.extend([EOF_PACKET.to_vec(), values, EOF_PACKET.to_vec()]);
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
