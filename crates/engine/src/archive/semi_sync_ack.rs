//! Semi-sync acknowledgements to the source: for durable transactions only.

use backstop_binlog::SemiSyncAcknowledger;
use backstop_types::ids::ServerUuid;

use super::queue::AckPosition;

/// Connection for acknowledgements to the current source.
#[derive(Default)]
pub(super) struct SemiSyncAck {
    connection: tokio::sync::Mutex<Option<(ServerUuid, SemiSyncAcknowledger)>>,
}

impl SemiSyncAck {
    /// Sends acknowledgements to this source from now on.
    pub(super) async fn connect(&self, source: ServerUuid, acknowledger: SemiSyncAcknowledger) {
        *self.connection.lock().await = Some((source, acknowledger));
    }

    /// Stops acknowledging.
    pub(super) async fn disconnect(&self) {
        *self.connection.lock().await = None;
    }

    /// Acknowledges everything up to this position. A broken connection is left to the reader to
    /// detect; after the first heartbeat of the next one the acknowledgement is repeated.
    pub(super) async fn acknowledge(&self, at: &AckPosition) {
        let mut connection = self.connection.lock().await;
        let Some((source, acknowledger)) = connection.as_mut() else { return };
        if *source != at.source {
            return;
        }
        if let Err(error) = acknowledger.acknowledge(&at.file, at.offset).await {
            tracing::debug!("{error}");
            *connection = None;
        }
    }
}
