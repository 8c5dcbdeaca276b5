//! Making the spool durable, where an acknowledgement means just that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstop_model::fault::{Context, Fault};

use super::acknowledge::Acknowledging;
use super::notes::{Notes, Unsafe};
use super::queue::{Queue, Unsynced};
use super::trouble::Trouble;
use crate::world::World;

const RETRY: Duration = Duration::from_secs(1);
const REMIND: Duration = Duration::from_secs(30);

/// Syncs what was published, all at once, and acknowledges its end.
pub(super) struct Syncer {
    pub(super) queue: Arc<Queue>,
    pub(super) acknowledging: Arc<Acknowledging>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) notes: Arc<Mutex<Notes>>,
    pub(super) world: World,
}

impl Syncer {
    /// Syncs until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            let changed = self.queue.changed.notified();
            let (pieces, transactions) = self.queue.take_unsynced();
            let Some(last) = pieces.last().map(|unsynced| unsynced.at.clone()) else {
                tokio::select! {
                    () = changed => {}
                    () = self.world.clock.sleep(RETRY) => {}
                }
                continue;
            };
            match self.sync(pieces.clone()).await {
                Ok(()) => {
                    self.trouble.over("spool");
                    self.queue.synced(transactions);
                    self.acknowledging.durable(&last).await;
                }
                Err(Unsafe::Refused(fault)) => {
                    self.trouble.is("spool", &fault, REMIND);
                    self.queue.put_back_unsynced(pieces);
                    self.world.clock.sleep(RETRY).await;
                }
                Err(Unsafe::Lost(fault)) => {
                    self.queue.give_up(fault);
                    self.queue.put_back_unsynced(pieces);
                }
            }
        }
    }

    async fn sync(&self, pieces: Vec<Unsynced>) -> Result<(), Unsafe> {
        let (queue, notes) = (Arc::clone(&self.queue), Arc::clone(&self.notes));
        let synced = tokio::task::spawn_blocking(move || {
            // Each change is complete before anything can panic.
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            all(&queue, &mut notes, &pieces)
        });
        let failed = |fault: Fault| Unsafe::Refused(fault);
        synced.await.failed("write the spool").map_err(failed)?
    }
}

fn all(queue: &Queue, notes: &mut Notes, pieces: &[Unsynced]) -> Result<(), Unsafe> {
    notes.forget();
    for of_file in pieces.chunk_by(|a, b| a.path == b.path) {
        // What is archived is safer there than on this disk.
        let done = of_file.partition_point(|unsynced| queue.has_archived(unsynced));
        let waiting = of_file.get(done..).unwrap_or_default();
        match notes.sync(waiting) {
            Err(Unsafe::Lost(_)) if waiting.iter().all(|unsynced| queue.has_archived(unsynced)) => {}
            synced => synced?,
        }
    }
    Ok(())
}
