//! Acknowledging to the source what is durable, and nothing else.

use backstop_binlog::SemiSyncAcknowledger;
use backstop_model::ids::ServerUuid;

use super::queue::AckPosition;

/// The way back to the source that is streamed from now.
#[derive(Default)]
pub(super) struct SemiSyncAck {
    connection: tokio::sync::Mutex<Option<(ServerUuid, SemiSyncAcknowledger)>>,
}

impl SemiSyncAck {
    /// From now on this source is told.
    pub(super) async fn connect(&self, source: ServerUuid, acknowledger: SemiSyncAcknowledger) {
        *self.connection.lock().await = Some((source, acknowledger));
    }

    /// Nobody is told any more.
    pub(super) async fn disconnect(&self) {
        *self.connection.lock().await = None;
    }

    /// Everything up to here is durable. A broken connection is the reader's to notice: what is durable is told again by
    /// the first heartbeat of the next one.
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
