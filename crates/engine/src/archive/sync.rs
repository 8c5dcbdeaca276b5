//! Making the spool durable, where an acknowledgement means just that.

use std::sync::Arc;
use std::time::Duration;

use backstop_model::fault::{Context, Result};

use super::acknowledge::Acknowledging;
use super::journal;
use super::queue::{Piece, Queue, Unsynced};
use super::trouble::Trouble;
use crate::world::World;

const RETRY: Duration = Duration::from_secs(1);
const REMIND: Duration = Duration::from_secs(30);

/// Syncs what was published, all at once, and acknowledges its end.
pub(super) struct Syncer {
    pub(super) queue: Arc<Queue>,
    pub(super) acknowledging: Arc<Acknowledging>,
    pub(super) trouble: Arc<Trouble>,
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
            match sync(pieces.clone()).await {
                Ok(()) => {
                    self.trouble.over("spool");
                    self.queue.synced(transactions);
                    self.acknowledging.durable(&last).await;
                }
                Err(fault) => {
                    self.trouble.is("spool", &fault, REMIND);
                    self.queue.put_back_unsynced(pieces);
                    self.world.clock.sleep(RETRY).await;
                }
            }
        }
    }
}

async fn sync(pieces: Vec<Unsynced>) -> Result<()> {
    tokio::task::spawn_blocking(move || all(&pieces)).await.failed("write the spool")?
}

fn all(pieces: &[Unsynced]) -> Result<()> {
    for of_file in pieces.chunk_by(|a, b| a.path == b.path) {
        let Some(first) = of_file.first() else { continue };
        // A file that is gone was archived as a whole meanwhile, which is safer than this disk.
        if !first.path.exists() {
            continue;
        }
        let pieces: Vec<Piece> = of_file.iter().map(|unsynced| unsynced.piece.clone()).collect();
        match journal::sync(&first.path, &first.at, &pieces) {
            Err(_) if !first.path.exists() => {}
            done => done?,
        }
    }
    Ok(())
}
