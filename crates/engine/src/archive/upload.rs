//! Archiving what was published: pieces of the tail at a steady pace, whole segments when they are complete.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::Segment;
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::settings::ArchiveAck;
use backstop_repo::ArchiveWriter;
use tokio::sync::mpsc;

use super::acknowledge::Acknowledging;
use super::queue::{At, Piece, Queue, Work};
use crate::world::World;

/// How long the first transaction of a piece waits for others. With the time of the put the tail stays under a second.
pub(super) const PACE: Duration = Duration::from_millis(400);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// While something is wrong it is said again so often.
const REMIND: Duration = Duration::from_secs(30);
/// Looks for work at least so often.
const LOOK: Duration = Duration::from_secs(1);

/// Archives what is in the queue.
pub(super) struct Uploader {
    pub(super) store: Arc<ArchiveWriter>,
    pub(super) queue: Arc<Queue>,
    pub(super) acknowledging: Arc<Acknowledging>,
    /// Who puts segments in the place of pieces.
    pub(super) replacer: mpsc::UnboundedSender<(Segment, PathBuf)>,
    /// What an acknowledgement means; `None`: nothing is acknowledged.
    pub(super) ack: Option<ArchiveAck>,
    pub(super) trouble: Arc<super::trouble::Trouble>,
    pub(super) world: World,
}

impl Uploader {
    /// Archives until it is dropped, or cannot go on: another archiver holds the shard, or what is stored is damaged.
    ///
    /// # Errors
    /// Why it cannot.
    pub(super) async fn run(&self) -> Result<()> {
        let mut wait = FIRST_RETRY;
        loop {
            let changed = self.queue.changed.notified();
            let now = self.world.clock.monotonic();
            let pause = match self.queue.work(now, PACE) {
                Work::None => LOOK,
                Work::Until(due) => due.saturating_sub(now),
                work => match self.archive(work).await {
                    Ok(()) => {
                        self.trouble.over("store");
                        wait = FIRST_RETRY;
                        continue;
                    }
                    Err(fault) if !passes(&fault) => return Err(fault),
                    Err(fault) => {
                        self.trouble.is("store", &fault, REMIND);
                        self.world.clock.sleep(wait).await;
                        wait = (wait * 2).min(LAST_RETRY);
                        continue;
                    }
                },
            };
            tokio::select! {
                () = changed => {}
                () = self.world.clock.sleep(pause) => {}
            }
        }
    }

    async fn archive(&self, work: Work) -> Result<()> {
        match work {
            Work::Tail { source, file, path, skip, piece } => {
                let at = At { source, file, offset: piece.end };
                match self.tail(&at, &path, skip, &piece).await {
                    Ok(()) => self.queue.tail_archived(source, &piece),
                    Err(fault) => {
                        self.queue.put_back(piece);
                        return Err(fault);
                    }
                }
                self.durable(&at).await;
            }
            Work::Seal { segment, path } => {
                self.store.seal(&segment, &path).await?;
                self.queue.sealed(&segment);
                let at = At { source: segment.source, file: segment.file, offset: segment.end };
                self.durable(&at).await;
                remove(&path);
            }
            Work::Replace { segment, path } => {
                let ended = |_| Fault::failed("archive: what replaces the tail has ended");
                self.replacer.send((segment, path)).map_err(ended)?;
            }
            Work::None | Work::Until(_) => {}
        }
        Ok(())
    }

    async fn tail(&self, at: &At, path: &Path, skip: u64, piece: &Piece) -> Result<()> {
        let bytes = read(path.to_owned(), skip, piece.size()).await?;
        let segment = segment(at, piece, *blake3::hash(&bytes).as_bytes());
        self.store.put_tail(&segment, &bytes).await
    }

    async fn durable(&self, at: &At) {
        if self.ack == Some(ArchiveAck::Store) {
            self.acknowledging.durable(at).await;
        }
    }
}

/// Puts segments in the place of their pieces, one after the other, beside what the tail needs.
pub(super) struct Replacer {
    pub(super) store: Arc<ArchiveWriter>,
    pub(super) queue: Arc<Queue>,
    pub(super) trouble: Arc<super::trouble::Trouble>,
    pub(super) segments: mpsc::UnboundedReceiver<(Segment, PathBuf)>,
    pub(super) world: World,
}

impl Replacer {
    /// Works until nobody can send any more. What it cannot do stays in the tail, and is done by the next archiver.
    pub(super) async fn run(mut self) {
        while let Some((segment, path)) = self.segments.recv().await {
            while let Err(fault) = self.store.seal(&segment, &path).await {
                self.trouble.is("segments", &fault, REMIND);
                if !passes(&fault) {
                    return;
                }
                self.world.clock.sleep(LAST_RETRY).await;
            }
            self.trouble.over("segments");
            remove(&path);
            self.queue.replaced();
        }
    }
}

/// A piece as a segment of its own.
pub(super) fn segment(at: &At, piece: &Piece, hash: [u8; 32]) -> Segment {
    Segment {
        source: at.source,
        file: at.file.clone(),
        start: piece.start,
        end: piece.end,
        previous: piece.previous.clone(),
        gtids: piece.gtids.clone(),
        committed: piece.committed,
        hash,
    }
}

/// True if trying again may help.
fn passes(fault: &Fault) -> bool {
    matches!(fault.kind, Kind::Store | Kind::Failed | Kind::Denied)
}

async fn read(path: PathBuf, skip: u64, size: u64) -> Result<Vec<u8>> {
    let doing = format!("read the spool {}", path.display());
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        File::open(path)?.read_exact_at(&mut bytes, skip).map(|()| bytes)
    });
    read.await.failed(&doing)?.failed(&doing)
}

fn remove(path: &Path) {
    for path in [path.to_owned(), super::journal::path_of(path)] {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("remove {}: {error}", path.display());
        }
    }
}
