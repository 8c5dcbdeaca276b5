//! Heartbeat of the archiver: tells `status` that it runs, how far the archive is, and its faults.

use std::time::Duration;

use backstop_types::archive::ArchiverHeartbeat;
use backstop_types::error::{Error, ErrorKind, Result};

use super::archiver::Archiver;

/// Interval at which the archiver writes its heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);

impl Archiver<'_> {
    /// Writes a heartbeat every [`HEARTBEAT_INTERVAL`]; returns when another archiver has taken the
    /// lease.
    pub(super) async fn beat(&self) -> Error {
        let alerts = &self.shared.alerts;
        loop {
            match self.beat_once().await {
                Err(error) if error.kind == ErrorKind::Held => return error,
                Err(error) => alerts.raise("heartbeat", &error, REMINDER_INTERVAL),
                Ok(()) => alerts.clear("heartbeat"),
            }
            self.sleep(HEARTBEAT_INTERVAL).await;
        }
    }

    /// Writes one heartbeat. The final one says that everything is archived.
    pub(super) async fn beat_once(&self) -> Result<()> {
        let told = self.shared.queue.archived();
        let alive = ArchiverHeartbeat {
            at: self.now(),
            source: told.source,
            archived: told.gtids,
            complete_to: told.complete_to,
            last_commit: told.last_commit,
            trouble: self.shared.alerts.summary(),
        };
        self.shared.store.heartbeat(&alive).await
    }
}
