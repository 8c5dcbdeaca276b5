//! Binlog server: replicas and `mysqlbinlog` read an archive from it as if it were the source.
//!
//! It has one account and answers the queries of a replica (docs/binlog.md lists them),
//! COM_REGISTER_REPLICA, COM_BINLOG_DUMP and COM_BINLOG_DUMP_GTID ("Replication Protocol" of
//! MySQL's source documentation).

mod dump_thread;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use backstop_types::error::{Error, Result, ResultExt};
use backstop_types::ids::ServerUuid;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::caching_sha2::{NONCE_BYTES, PLUGIN_NAME, PasswordCheck};
use crate::codec::{FieldReader, put_packed, put_packed_bytes};
use crate::connection::PacketConnection;
use crate::event::Checksums;
use crate::handshake::{UTF8MB4, capability};
use crate::segment::SegmentSource;
use dump_thread::{DumpThread, ReplicaRequest};

/// Identity and content of a binlog server.
#[derive(Clone)]
pub struct BinlogServer {
    /// The segments it serves.
    pub source: Arc<dyn SegmentSource>,
    /// Name of the only account.
    pub user: String,
    /// Its password.
    pub password: PasswordCheck,
    /// Its `@@server_id`; the replica's must differ.
    pub server_id: u32,
    /// Its `@@server_uuid`; the replica's must differ.
    pub server_uuid: ServerUuid,
    /// The version in its greeting: that of the servers whose binlogs it serves.
    pub version: String,
    /// Clock: seconds since 1970.
    pub now: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Longest duration of any action of a client except the wait for its next command.
    pub deadline: Duration,
}

/// Time after which an idle client is disconnected.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const SERVER_CAPABILITIES: u32 = capability::LONG_PASSWORD
    | capability::LONG_FLAG
    | capability::CONNECT_WITH_DB
    | capability::PROTOCOL_41
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::PLUGIN_AUTH
    | capability::PLUGIN_AUTH_LENENC;

/// Settings that the client of a session has sent.
pub(crate) struct SessionSettings {
    pub(crate) checksums: Checksums,
    pub(crate) heartbeat: Duration,
}

impl BinlogServer {
    /// Serves until it is dropped, each client in a separate task.
    ///
    /// # Errors
    /// Returns the errors of the listener.
    pub async fn serve(&self, listener: TcpListener) -> Result<()> {
        let mut sessions = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.failed("cannot accept connections of replicas")?;
            let server = self.clone();
            // An error concerns only its client, which has received it or has disconnected.
            sessions.spawn(async move { drop(server.session(socket).await) });
            while sessions.try_join_next().is_some() {}
        }
    }

    async fn session(&self, socket: TcpStream) -> Result<()> {
        socket.set_nodelay(true).failed("cannot set up a connection")?;
        let mut connection = PacketConnection::plain(socket, self.deadline);
        if !self.admit(&mut connection).await? {
            return connection.answer(&error_packet(1045, "28000", "Access denied")).await;
        }
        let mut wishes = SessionSettings { checksums: Checksums::None, heartbeat: Duration::ZERO };
        loop {
            connection.reader.arrival(IDLE_TIMEOUT).await?;
            let command = connection.reader.packet().await?;
            match command.split_first() {
                Some((0x01, _)) | None => return Ok(()),
                Some((0x03, sql)) => {
                    let answer = self.query(&String::from_utf8_lossy(sql), &mut wishes);
                    self.reply(&mut connection, answer).await?;
                }
                Some((0x0e | 0x15, _)) => connection.answer(OK_PACKET).await?,
                Some((kind @ (0x12 | 0x1e), body)) => match ReplicaRequest::parse(*kind, body) {
                    Some(request) => return DumpThread::new(self, connection, wishes).run(&request).await,
                    None => connection.answer(&error_packet(1835, "HY000", "Malformed packet")).await?,
                },
                Some(_) => connection.answer(&error_packet(1047, "08S01", "Unknown command")).await?,
            }
        }
    }

    /// Greets and authenticates the client; returns false for a wrong password.
    async fn admit(&self, connection: &mut PacketConnection) -> Result<bool> {
        let nonce = nonce()?;
        connection.command(&self.greeting(&nonce)).await?;
        let response = connection.reader.packet().await?;
        let Some((user, mut answer, plugin)) = parse_handshake_response(&response) else { return Ok(false) };
        if plugin != PLUGIN_NAME.as_bytes() {
            let mut switch = vec![0xfe];
            switch.extend(PLUGIN_NAME.as_bytes());
            switch.push(0);
            switch.extend(nonce);
            switch.push(0);
            connection.answer(&switch).await?;
            answer = connection.reader.packet().await?;
        }
        let right = self.password.accepts(&answer, &nonce) && user == self.user.as_bytes();
        let mut next = connection.reader.sequence().wrapping_add(1);
        if right && !answer.is_empty() {
            next = connection.writer.packet(next, &[1, 3]).await?;
        }
        if right {
            connection.writer.packet(next, OK_PACKET).await?;
        }
        Ok(right)
    }

    fn greeting(&self, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
        let mut out = vec![10];
        out.extend(self.version.as_bytes());
        out.push(0);
        out.extend(1_u32.to_le_bytes());
        out.extend(&nonce[..8]);
        out.push(0);
        out.extend((SERVER_CAPABILITIES as u16).to_le_bytes());
        out.push(UTF8MB4);
        out.extend(2_u16.to_le_bytes());
        out.extend(((SERVER_CAPABILITIES >> 16) as u16).to_le_bytes());
        out.push(NONCE_BYTES as u8 + 1);
        out.extend([0; 10]);
        out.extend(&nonce[8..]);
        out.push(0);
        out.extend(PLUGIN_NAME.as_bytes());
        out.push(0);
        out
    }

    /// Returns the answer to a statement: a value, or `Ok(None)` for OK.
    fn query(&self, sql: &str, wishes: &mut SessionSettings) -> Result<Option<String>, ()> {
        let upper = sql.trim().trim_end_matches(';').to_ascii_uppercase();
        if upper.starts_with("SET ") {
            wishes.hear(&upper);
            return Ok(None);
        }
        let value = match upper.strip_prefix("SELECT ").ok_or(())?.trim() {
            "UNIX_TIMESTAMP()" => (self.now)().to_string(),
            "VERSION()" | "@@VERSION" => self.version.clone(),
            "@@GLOBAL.SERVER_ID" => self.server_id.to_string(),
            "@@GLOBAL.SERVER_UUID" => self.server_uuid.to_string(),
            "@@GLOBAL.GTID_MODE" => "ON".to_owned(),
            "@MASTER_BINLOG_CHECKSUM" | "@SOURCE_BINLOG_CHECKSUM" | "@@GLOBAL.BINLOG_CHECKSUM" => {
                "CRC32".to_owned()
            }
            _ => return Err(()),
        };
        Ok(Some(value))
    }

    async fn reply(
        &self,
        connection: &mut PacketConnection,
        answer: Result<Option<String>, ()>,
    ) -> Result<()> {
        let value = match answer {
            Ok(None) => return connection.answer(OK_PACKET).await,
            Err(()) => {
                return connection
                    .answer(&error_packet(1193, "HY000", "Unknown system variable or statement"))
                    .await;
            }
            Ok(Some(value)) => value,
        };
        let mut row = Vec::new();
        put_packed_bytes(&mut row, value.as_bytes());
        let mut sequence = connection.reader.sequence().wrapping_add(1);
        for packet in [&[1][..], &column_definition(), EOF_PACKET, &row, EOF_PACKET] {
            sequence = connection.writer.packet(sequence, packet).await?;
        }
        Ok(())
    }
}

impl SessionSettings {
    fn hear(&mut self, upper: &str) {
        for assignment in upper.trim_start_matches("SET ").split(',') {
            let Some((name, value)) = assignment.split_once('=') else { continue };
            match name.trim() {
                "@MASTER_BINLOG_CHECKSUM" | "@SOURCE_BINLOG_CHECKSUM" => {
                    let none = value.trim().trim_matches('\'') == "NONE";
                    self.checksums = if none { Checksums::None } else { Checksums::Crc32 };
                }
                "@MASTER_HEARTBEAT_PERIOD" | "@SOURCE_HEARTBEAT_PERIOD" => {
                    self.heartbeat = Duration::from_nanos(value.trim().parse().unwrap_or(0));
                }
                _ => {}
            }
        }
    }
}

/// OK: `00` · affected rows · last id · status u16 (autocommit) · warnings u16.
const OK_PACKET: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
/// EOF: `fe` · warnings u16 · status u16.
pub(crate) const EOF_PACKET: &[u8] = &[0xfe, 0, 0, 2, 0];

/// Returns an ERR packet.
pub(crate) fn error_packet(code: u16, state: &str, message: &str) -> Vec<u8> {
    let mut out = vec![0xff];
    out.extend(code.to_le_bytes());
    out.push(b'#');
    out.extend(state.as_bytes());
    out.extend(message.as_bytes());
    out
}

/// Returns the definition of a text column ("Protocol::ColumnDefinition41").
fn column_definition() -> Vec<u8> {
    let mut out = Vec::new();
    for name in ["def", "", "", "", "value", ""] {
        put_packed_bytes(&mut out, name.as_bytes());
    }
    put_packed(&mut out, 12);
    out.extend(u16::from(UTF8MB4).to_le_bytes());
    out.extend(1024_u32.to_le_bytes());
    out.push(253); // VAR_STRING
    out.extend([0; 5]);
    out
}

/// Parses user, answer to the nonce and plugin of a HandshakeResponse41.
fn parse_handshake_response(packet: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8])> {
    let mut fields = FieldReader::new(packet);
    let capabilities = fields.u32()?;
    fields.bytes(28)?;
    let user = fields.terminated()?;
    let answer = if capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
        fields.packed_bytes()?
    } else {
        let length = fields.u8()?;
        fields.bytes(usize::from(length))?
    };
    if capabilities & capability::CONNECT_WITH_DB != 0 {
        fields.terminated()?;
    }
    Some((user, answer.to_vec(), fields.terminated().unwrap_or(PLUGIN_NAME.as_bytes())))
}

/// Returns random bytes without zero and `$`, at which some clients would end the nonce.
fn nonce() -> Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce)
        .map_err(|_| Error::failed("cannot generate a nonce: the system provides no random bytes"))?;
    nonce.iter_mut().for_each(|byte| *byte = b'0' + (*byte & 0x3f));
    Ok(nonce)
}
