//! Syncs the spool to disk, for acknowledgements that mean durability on this host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstop_types::error::{Error, ResultExt};

use super::alerts::Alerts;
use super::queue::{Queue, UnsyncedChunk};
use super::semi_sync_ack::SemiSyncAck;
use super::synced_chunks::{SyncError, SyncedChunks};
use crate::context::RunContext;

const SYNC_RETRY_DELAY: Duration = Duration::from_secs(1);
const REMINDER_INTERVAL: Duration = Duration::from_secs(30);

/// Syncs all published chunks together, and acknowledges their end.
pub(super) struct Syncer {
    pub(super) queue: Arc<Queue>,
    pub(super) semi_sync_ack: Arc<SemiSyncAck>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) synced_chunks: Arc<Mutex<SyncedChunks>>,
    pub(super) ctx: RunContext,
}

impl Syncer {
    /// Syncs until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            let changed = self.queue.changed.notified();
            let (chunks, transactions) = self.queue.take_unsynced();
            let Some(last) = chunks.last().map(|unsynced| unsynced.at.clone()) else {
                tokio::select! {
                    () = changed => {}
                    () = self.ctx.host.clock.sleep(SYNC_RETRY_DELAY) => {}
                }
                continue;
            };
            match self.sync(chunks.clone()).await {
                Ok(()) => {
                    self.alerts.clear("spool");
                    self.queue.synced(transactions);
                    self.semi_sync_ack.acknowledge(&last).await;
                }
                Err(SyncError::Refused(error)) => {
                    self.alerts.raise("spool", &error, REMINDER_INTERVAL);
                    self.queue.put_back_unsynced(chunks);
                    self.ctx.host.clock.sleep(SYNC_RETRY_DELAY).await;
                }
                Err(SyncError::Lost(error)) => {
                    self.queue.give_up(error);
                    self.queue.put_back_unsynced(chunks);
                }
            }
        }
    }

    async fn sync(&self, chunks: Vec<UnsyncedChunk>) -> Result<(), SyncError> {
        let (queue, synced_chunks) = (Arc::clone(&self.queue), Arc::clone(&self.synced_chunks));
        let synced = tokio::task::spawn_blocking(move || {
            // Each change of the state is complete before anything can panic.
            let mut synced_chunks = synced_chunks.lock().unwrap_or_else(PoisonError::into_inner);
            sync_files(&queue, &mut synced_chunks, &chunks)
        });
        let failed = |error: Error| SyncError::Refused(error);
        synced.await.failed("cannot write the spool").map_err(failed)?
    }
}

fn sync_files(
    queue: &Queue,
    synced_chunks: &mut SyncedChunks,
    chunks: &[UnsyncedChunk],
) -> Result<(), SyncError> {
    synced_chunks.forget();
    for of_file in chunks.chunk_by(|a, b| a.path == b.path) {
        // An archived chunk need not be made durable on this disk.
        let done = of_file.partition_point(|unsynced| queue.has_archived(unsynced));
        let waiting = of_file.get(done..).unwrap_or_default();
        match synced_chunks.sync(waiting) {
            Err(SyncError::Lost(_)) if waiting.iter().all(|unsynced| queue.has_archived(unsynced)) => {}
            synced => synced?,
        }
    }
    Ok(())
}
