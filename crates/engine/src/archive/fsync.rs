//! Syncs the spool to disk, for acknowledgements that mean durability on this host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::archiver::Shared;
use super::queue::{Queue, UnsyncedChunk};
use super::synced_chunks::{SyncError, SyncedChunks};

const SYNC_RETRY_DELAY: Duration = Duration::from_secs(1);
const REMINDER_INTERVAL: Duration = Duration::from_secs(30);

/// Syncs all published chunks together, and acknowledges their end.
pub(super) struct Syncer {
    shared: Shared,
    synced_chunks: Arc<Mutex<SyncedChunks>>,
}

impl Syncer {
    pub(super) fn new(shared: Shared) -> Self {
        let synced_chunks = Arc::new(Mutex::new(SyncedChunks::new(Arc::clone(&shared.disk))));
        Self { shared, synced_chunks }
    }

    /// Syncs until it is dropped.
    pub(super) async fn run(self) {
        let Shared { queue, semi_sync_ack, alerts, ctx, .. } = &self.shared;
        loop {
            let changed = queue.changed.notified();
            let (chunks, transactions) = queue.take_unsynced();
            let Some(last) = chunks.last().map(|unsynced| unsynced.at.clone()) else {
                ctx.host.within(SYNC_RETRY_DELAY, changed).await;
                continue;
            };
            match self.sync(chunks.clone()).await {
                Ok(()) => {
                    alerts.clear("spool");
                    queue.synced(transactions);
                    semi_sync_ack.acknowledge(&last).await;
                }
                Err(SyncError::Refused(error)) => {
                    alerts.raise("spool", &error, REMINDER_INTERVAL);
                    queue.put_back_unsynced(chunks);
                    ctx.host.clock.sleep(SYNC_RETRY_DELAY).await;
                }
                Err(SyncError::Lost(error)) => {
                    queue.give_up(error);
                    queue.put_back_unsynced(chunks);
                }
            }
        }
    }

    async fn sync(&self, chunks: Vec<UnsyncedChunk>) -> Result<(), SyncError> {
        let (queue, synced_chunks) = (Arc::clone(&self.shared.queue), Arc::clone(&self.synced_chunks));
        let synced = self.shared.ctx.host.blocking(move || {
            // Each change of the state is complete before anything can panic.
            let mut synced_chunks = synced_chunks.lock().unwrap_or_else(PoisonError::into_inner);
            sync_files(&queue, &mut synced_chunks, &chunks)
        });
        synced.await.map_err(|error| SyncError::Refused(error.during("cannot write the spool")))?
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
