//! Binlog dump: requests a server's binlog (COM_REGISTER_REPLICA, COM_BINLOG_DUMP_GTID).
//!
//! COM_REGISTER_REPLICA: `15` · server id u32 · host, user, password, each with its length (u8) ·
//! port u16 · 0 u32 · 0 u32.
//!
//! COM_BINLOG_DUMP_GTID: `1e` · flags u16 (1: end instead of waiting, 2: heartbeats of type 41) ·
//! server id u32 · length of the file's name u32 · name · offset u64 (4) · length of the set u32 ·
//! the set (see [`crate::gtid_set_codec`]).

use std::time::Duration;

use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;

use crate::event::Checksums;
use crate::gtid_set_codec;
use crate::semi_sync::{SemiSyncAcknowledger, SemiSyncMode};
use crate::session::Session;
use crate::stream::EventStream;

/// Request for a stream.
#[derive(Debug, Clone)]
pub struct DumpRequest {
    /// Server id of this replica; no other replica of the source may use it.
    pub server_id: u32,
    /// UUID of this replica. The source ends an older connection with the same one.
    pub replica_uuid: ServerUuid,
    /// Transactions that the source leaves out, since they exist here.
    pub executed: GtidSet,
    /// Interval at which an idle source sends heartbeats, at least a millisecond. After twice this
    /// time and a second without a byte, the stream is dead.
    pub heartbeat: Duration,
    /// Use of semi-synchronous replication.
    pub acknowledge: SemiSyncMode,
    /// Action at the end of the source's binlog.
    pub at_end: AtBinlogEnd,
}

/// Action at the end of the source's binlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtBinlogEnd {
    /// Wait for further events.
    Wait,
    /// End the stream.
    Stop,
}

pub(crate) const REGISTER_REPLICA: u8 = 0x15;
pub(crate) const DUMP_GTID: u8 = 0x1e;
pub(crate) const NON_BLOCK_FLAG: u16 = 1;
pub(crate) const USE_HEARTBEAT_V2: u16 = 2;

impl Session {
    /// Turns the session into a stream of binlog events, with an acknowledger for them.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Refused`] if the request needs acknowledgement and the source has no
    /// semi-synchronous replication. The stream returns it later if the source no longer has the
    /// missing transactions.
    pub async fn dump(mut self, dump: &DumpRequest) -> Result<(EventStream, SemiSyncAcknowledger)> {
        let nanos = dump.heartbeat.max(Duration::from_millis(1)).as_nanos();
        let uuid = dump.replica_uuid;
        self.query(&format!("SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}"))
            .await?;
        self.query(
            "SET @master_binlog_checksum = @@global.binlog_checksum, \
             @source_binlog_checksum = @@global.binlog_checksum",
        )
        .await?;
        let checksum = self.value("SELECT @source_binlog_checksum").await?;
        let checksums = if checksum.as_deref() == Some("CRC32") { Checksums::Crc32 } else { Checksums::None };
        self.query(&format!("SET @slave_uuid = '{uuid}', @replica_uuid = '{uuid}'")).await?;
        if dump.acknowledge == SemiSyncMode::Asked {
            self.ask_to_acknowledge().await?;
        }
        self.register(dump.server_id).await?;
        self.connection.command(&request(dump)).await?;
        let dead = dump.heartbeat * 2 + Duration::from_secs(1);
        let mut reader = self.connection.reader;
        reader.set_deadline(dead);
        Ok((
            EventStream::new(reader, checksums, dump.acknowledge, dead),
            SemiSyncAcknowledger::new(self.connection.writer),
        ))
    }

    async fn ask_to_acknowledge(&mut self) -> Result<()> {
        let known = "SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_status = 'ACTIVE' AND plugin_name IN \
                     ('rpl_semi_sync_source', 'rpl_semi_sync_master')";
        if self.value(known).await?.as_deref() == Some("0") {
            return Err(Error::new(
                ErrorKind::Refused,
                "cannot acknowledge transactions: the source has no semi-synchronous replication",
            )
            .hint("install the plugin: INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'"));
        }
        self.query("SET @rpl_semi_sync_slave = 1, @rpl_semi_sync_replica = 1").await?;
        Ok(())
    }

    async fn register(&mut self, server_id: u32) -> Result<()> {
        let mut command = vec![REGISTER_REPLICA];
        command.extend(server_id.to_le_bytes());
        command.extend([0; 3]); // no host, user or password
        command.extend([0; 2]); // no port
        command.extend([0; 8]);
        self.connection.command(&command).await?;
        let answer = self.connection.reader.packet().await?;
        crate::handshake::statement_refused(&answer)
            .map_err(|error| error.during("cannot register as a replica"))
    }
}

fn request(dump: &DumpRequest) -> Vec<u8> {
    let flags = USE_HEARTBEAT_V2 | if dump.at_end == AtBinlogEnd::Stop { NON_BLOCK_FLAG } else { 0 };
    let set = gtid_set_codec::encode_gtid_set(&dump.executed);
    let mut out = vec![DUMP_GTID];
    out.extend(flags.to_le_bytes());
    out.extend(dump.server_id.to_le_bytes());
    out.extend(0_u32.to_le_bytes()); // no file's name
    out.extend(4_u64.to_le_bytes());
    out.extend((set.len() as u32).to_le_bytes());
    out.extend(set);
    out
}
