//! Acknowledging to the source what is durable, and nothing else.

use backstop_binlog::Acknowledger;
use backstop_model::ids::ServerUuid;

use super::queue::At;

/// The way back to the source that is streamed from now.
#[derive(Default)]
pub(super) struct Acknowledging {
    way: tokio::sync::Mutex<Option<(ServerUuid, Acknowledger)>>,
}

impl Acknowledging {
    /// From now on this source is told.
    pub(super) async fn connected(&self, source: ServerUuid, acknowledger: Acknowledger) {
        *self.way.lock().await = Some((source, acknowledger));
    }

    /// Nobody is told any more.
    pub(super) async fn disconnected(&self) {
        *self.way.lock().await = None;
    }

    /// Everything up to here is durable. A broken connection is the reader's to notice: what is durable is told again by
    /// the first heartbeat of the next one.
    pub(super) async fn durable(&self, at: &At) {
        let mut way = self.way.lock().await;
        let Some((source, acknowledger)) = way.as_mut() else { return };
        if *source != at.source {
            return;
        }
        if let Err(fault) = acknowledger.acknowledge(&at.file, at.offset).await {
            tracing::debug!("{fault}");
            *way = None;
        }
    }
}
