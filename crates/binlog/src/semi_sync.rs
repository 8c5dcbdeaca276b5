//! Acknowledges transactions to a semi-synchronous source.

use backstop_types::error::Result;

use crate::connection::ConnectionWriter;

/// Semi-synchronous replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SemiSyncMode {
    /// The source does not wait for this replica.
    Never,
    /// The source waits for [`SemiSyncAcknowledger::acknowledge`] where it requests one.
    Asked,
}

/// Sends acknowledgements to a source. Works independently of the stream, also in another task.
pub struct SemiSyncAcknowledger {
    writer: ConnectionWriter,
}

impl SemiSyncAcknowledger {
    pub(crate) fn new(writer: ConnectionWriter) -> Self {
        Self { writer }
    }

    /// Acknowledges that everything of the source up to this offset of its file is durable here:
    /// `ef` · offset u64 · the file's name, in a packet with number 0. This includes all before it,
    /// so only the latest position needs an acknowledgement, which may be sent without a request.
    ///
    /// # Errors
    /// Returns an error if the connection broke.
    pub async fn acknowledge(&mut self, file: &str, offset: u64) -> Result<()> {
        let mut packet = vec![0xef];
        packet.extend(offset.to_le_bytes());
        packet.extend(file.as_bytes());
        let sent = self.writer.packet(0, &packet).await;
        sent.map(drop).map_err(|error| error.during("cannot acknowledge a transaction"))
    }
}
