//! Archiving what was published: pieces of the tail at a steady pace, whole segments when they are complete.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::Segment;
use backstop_model::fault::{Context, Fault, Kind, Result};
use backstop_model::settings::ArchiveAck;
use backstop_repo::ArchiveWriter;
use tokio::sync::mpsc;

use super::acknowledge::Acknowledging;
use super::journal;
use super::notes::copy_of;
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
                work => {
                    let archived = self.archive(work).await;
                    self.queue.rest();
                    match archived {
                        Ok(()) => {
                            self.trouble.over("store");
                            self.trouble.over("spool file");
                            wait = FIRST_RETRY;
                        }
                        Err(Failure::Spool(fault)) => self.queue.give_up(fault),
                        Err(Failure::Store(fault)) if !passes(&fault) => return Err(fault),
                        Err(Failure::Store(fault)) => {
                            self.trouble.is("store", &fault, REMIND);
                            self.world.clock.sleep(wait).await;
                            wait = (wait * 2).min(LAST_RETRY);
                        }
                    }
                    continue;
                }
            };
            tokio::select! {
                () = changed => {}
                () = self.world.clock.sleep(pause) => {}
            }
        }
    }

    async fn archive(&self, work: Work) -> Result<(), Failure> {
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
                seal(&self.store, &segment, &path).await?;
                self.queue.sealed(&segment);
                let at = At { source: segment.source, file: segment.file, offset: segment.end };
                self.durable(&at).await;
                remove(&path);
            }
            Work::Replace { segment, path } => {
                let ended = |_| Fault::failed("archive: what replaces the tail has ended");
                self.replacer.send((segment, path)).map_err(ended).map_err(Failure::Store)?;
            }
            Work::None | Work::Until(_) => {}
        }
        Ok(())
    }

    async fn tail(&self, at: &At, path: &Path, skip: u64, piece: &Piece) -> Result<(), Failure> {
        let (bytes, hash) = read(path.to_owned(), skip, piece.clone()).await.map_err(Failure::Spool)?;
        let segment = segment(at, piece, hash);
        self.store.put_tail(&segment, &bytes).await.map_err(Failure::Store)
    }

    async fn durable(&self, at: &At) {
        if self.ack == Some(ArchiveAck::Store) {
            self.acknowledging.durable(at).await;
        }
    }
}

/// Why something was not archived.
enum Failure {
    /// The store did not take it.
    Store(Fault),
    /// The spool does not have what the source sent: it is asked of the source again.
    Spool(Fault),
}

/// Archives a segment. If that fails the spool's file is looked at.
async fn seal(store: &ArchiveWriter, segment: &Segment, path: &Path) -> Result<(), Failure> {
    let Err(fault) = store.seal(segment, path).await else { return Ok(()) };
    if !passes(&fault) {
        return Err(Failure::Store(fault));
    }
    match whole(path.to_owned(), segment.clone()).await {
        Ok(()) => Err(Failure::Store(fault)),
        Err(fault) => Err(Failure::Spool(fault)),
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
            loop {
                match seal(&self.store, &segment, &path).await {
                    Ok(()) => {
                        self.trouble.over("segments");
                        break;
                    }
                    // All of it is in the tail already, and the next archiver makes a segment of that.
                    Err(Failure::Spool(fault)) => {
                        self.world.reporter.notice(&format!("{fault}; its pieces are archived"));
                        break;
                    }
                    Err(Failure::Store(fault)) => {
                        self.trouble.is("segments", &fault, REMIND);
                        if !passes(&fault) {
                            return;
                        }
                        self.world.clock.sleep(LAST_RETRY).await;
                    }
                }
            }
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

/// The bytes of a piece, and their hash. They are those of a binlog with the piece's transactions.
async fn read(path: PathBuf, skip: u64, piece: Piece) -> Result<(Vec<u8>, [u8; 32])> {
    let doing = format!("read the spool {}", path.display());
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::with_capacity(usize::try_from(piece.size()).unwrap_or_default());
        let file = File::open(path).fault(Kind::Damaged, "read the spool")?;
        let mut take = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        let hash = journal::look(&file, skip, &piece, &mut take)?;
        Ok((bytes, *hash.as_bytes()))
    });
    read.await.failed(&doing)?.map_err(|fault: Fault| fault.during(&doing))
}

/// Ok if a file of the spool holds a whole segment.
async fn whole(path: PathBuf, segment: Segment) -> Result<()> {
    let doing = format!("read the spool {}", path.display());
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?).map(|hasher| hasher.finalize())
    });
    match hashed.await.failed(&doing)? {
        Ok(hash) if *hash.as_bytes() == segment.hash => Ok(()),
        Ok(_) => Err(Fault::new(Kind::Damaged, format!("{doing}: its bytes are not those of the segment"))),
        Err(error) => Err(Fault::new(Kind::Damaged, format!("{doing}: {error}"))),
    }
}

/// Removes a file of the spool, with what was noted of it.
pub(super) fn remove(path: &Path) {
    let mut all = vec![path.to_owned()];
    all.extend((1..).map(|number| copy_of(path, number)).take_while(|copy| copy.exists()));
    for path in all.into_iter().flat_map(|path| [journal::path_of(&path), path]) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("remove {}: {error}", path.display());
        }
    }
}
