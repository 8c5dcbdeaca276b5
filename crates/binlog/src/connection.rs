//! Connection: packets in both directions, plain or encrypted.

use std::time::Duration;

use backstop_types::error::Result;
use tokio::io::{BufWriter, ReadHalf, WriteHalf};

use crate::codec::FieldReader;
use crate::dial::Socket;
use crate::packet::{PacketReader, PacketWriter};

pub(crate) type ConnectionReader = PacketReader<ReadHalf<Box<dyn Socket>>>;
pub(crate) type ConnectionWriter = PacketWriter<BufWriter<WriteHalf<Box<dyn Socket>>>>;

/// Both directions of a connection.
pub(crate) struct PacketConnection {
    pub(crate) reader: ConnectionReader,
    pub(crate) writer: ConnectionWriter,
    pub(crate) encrypted: bool,
    deadline: Duration,
}

impl PacketConnection {
    pub(crate) fn plain(socket: impl Socket + 'static, deadline: Duration) -> Self {
        Self::over(Box::new(socket), deadline)
    }

    /// Returns a connection over a socket that is not encrypted.
    pub(crate) fn over(socket: Box<dyn Socket>, deadline: Duration) -> Self {
        let (read, write) = tokio::io::split(socket);
        let writer = PacketWriter::new(BufWriter::with_capacity(64 * 1024, write), deadline);
        Self { reader: PacketReader::new(read, deadline), writer, encrypted: false, deadline }
    }

    /// Returns the socket, to be wrapped in TLS.
    pub(crate) fn into_socket(self) -> Result<Box<dyn Socket>> {
        Ok(self.reader.into_inner()?.unsplit(self.writer.into_inner().into_inner()))
    }

    /// Returns a connection over the TLS socket.
    pub(crate) fn encrypted(socket: impl Socket + 'static, deadline: Duration) -> Self {
        Self { encrypted: true, ..Self::over(Box::new(socket), deadline) }
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Answers the last packet read.
    pub(crate) async fn answer(&mut self, payload: &[u8]) -> Result<()> {
        self.writer.packet(self.reader.sequence().wrapping_add(1), payload).await?;
        Ok(())
    }

    /// Begins a command.
    pub(crate) async fn command(&mut self, payload: &[u8]) -> Result<()> {
        self.writer.packet(0, payload).await?;
        Ok(())
    }
}

/// An ERR packet: `ff` · code u16 · `#` and the SQL state (5 bytes; absent in the first answer of a
/// server) · message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrPacket {
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl ErrPacket {
    /// Parses an ERR packet; `None` for another packet.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(packet);
        if fields.u8()? != 0xff {
            return None;
        }
        let code = fields.u16()?;
        let text = fields.rest();
        let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
        Some(Self { code, message: String::from_utf8_lossy(text).into_owned() })
    }
}
