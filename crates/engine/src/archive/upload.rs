//! Uploads published transactions: tail segments at a steady pace, full segments when they are
//! complete.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::Segment;
use backstop_config::settings::ArchiveAck;
use backstop_types::archive::SegmentHash;
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use tokio::sync::mpsc;

use super::archiver::Shared;
use super::queue::{AckPosition, Chunk, UploadWork};
use super::spool_journal;
use super::synced_chunks::copy_of;
use crate::disk::{Disk, DiskFile};

/// Time that the first transaction of a chunk waits for others. With the time of the upload the
/// tail stays below a second.
pub(super) const PARTIAL_UPLOAD_PACE: Duration = Duration::from_millis(400);
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Interval at which a lasting alert is repeated.
const REMINDER_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes of a file that are read at once.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Longest wait before the uploader looks for work.
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Archives the transactions of the queue.
pub(super) struct Uploader {
    pub(super) shared: Shared,
    /// Channel to the task that replaces tail segments.
    pub(super) replacer: mpsc::UnboundedSender<(Segment, PathBuf)>,
    /// Condition for an acknowledgement; `None`: nothing is acknowledged.
    pub(super) ack: Option<ArchiveAck>,
}

impl Uploader {
    /// Archives until it is dropped or cannot continue: another archiver holds the lease of the
    /// shard, or stored data is damaged.
    ///
    /// # Errors
    /// Returns the reason why it cannot continue.
    pub(super) async fn run(self) -> Result<()> {
        let Shared { queue, alerts, ctx, .. } = &self.shared;
        let mut wait = FIRST_RETRY_DELAY;
        loop {
            let changed = queue.changed.notified();
            let now = ctx.host.clock.monotonic();
            let pause = match queue.next_work(now, PARTIAL_UPLOAD_PACE) {
                UploadWork::None => IDLE_POLL_INTERVAL,
                UploadWork::Until(due) => due.saturating_sub(now),
                work => {
                    let archived = self.archive(work).await;
                    queue.set_idle();
                    match archived {
                        Ok(()) => {
                            alerts.clear("store");
                            alerts.clear("spool file");
                            wait = FIRST_RETRY_DELAY;
                        }
                        Err(UploadError::Spool(error)) => queue.give_up(error),
                        Err(UploadError::Store(error)) if !is_transient(&error) => return Err(error),
                        Err(UploadError::Store(error)) => {
                            alerts.raise("store", &error, REMINDER_INTERVAL);
                            ctx.host.clock.sleep(wait).await;
                            wait = (wait * 2).min(MAX_RETRY_DELAY);
                        }
                    }
                    continue;
                }
            };
            ctx.host.within(pause, changed).await;
        }
    }

    async fn archive(&self, work: UploadWork) -> Result<(), UploadError> {
        match work {
            UploadWork::Partial { source, file, path, skip, chunk } => {
                let at = AckPosition { source, file, offset: chunk.end };
                match self.upload_partial(&at, &path, skip, &chunk).await {
                    Ok(()) => self.shared.queue.partial_archived(source, &chunk),
                    Err(error) => {
                        self.shared.queue.put_back(chunk);
                        return Err(error);
                    }
                }
                self.acknowledge(&at).await;
            }
            UploadWork::Segment { segment, path } => {
                self.shared.upload_segment(&segment, &path).await?;
                self.shared.queue.segment_archived(&segment);
                let at = AckPosition { source: segment.source, file: segment.file, offset: segment.end };
                self.acknowledge(&at).await;
                remove_spool_file(&*self.shared.disk, &path);
            }
            UploadWork::Replace { segment, path } => {
                let ended = |_| Error::failed("cannot archive: the task that replaces the tail has ended");
                self.replacer.send((segment, path)).map_err(ended).map_err(UploadError::Store)?;
            }
            UploadWork::None | UploadWork::Until(_) => {}
        }
        Ok(())
    }

    async fn upload_partial(
        &self,
        at: &AckPosition,
        path: &Path,
        skip: u64,
        chunk: &Chunk,
    ) -> Result<(), UploadError> {
        let read = self.shared.read_chunk(path.to_owned(), skip, chunk.clone()).await;
        let (bytes, hash) = read.map_err(UploadError::Spool)?;
        let segment = segment(at, chunk, hash);
        self.shared.store.put_tail(&segment, &bytes).await.map_err(UploadError::Store)
    }

    async fn acknowledge(&self, at: &AckPosition) {
        if self.ack == Some(ArchiveAck::Store) {
            self.shared.semi_sync_ack.acknowledge(at).await;
        }
    }
}

/// Reason why something was not archived.
enum UploadError {
    /// The store did not accept it.
    Store(Error),
    /// The spool does not have what the source sent: the transactions are requested from the source
    /// again.
    Spool(Error),
}

impl Shared {
    /// Archives a full segment. If that fails, checks the spool's file.
    async fn upload_segment(&self, segment: &Segment, path: &Path) -> Result<(), UploadError> {
        let Err(error) = self.store.seal(segment, &self.spool_bytes(path)).await else { return Ok(()) };
        if !is_transient(&error) {
            return Err(UploadError::Store(error));
        }
        match self.check_segment_file(path.to_owned(), segment.clone()).await {
            Ok(()) => Err(UploadError::Store(error)),
            Err(error) => Err(UploadError::Spool(error)),
        }
    }

    /// Reads the bytes of a chunk and their hash. They must be binlog events with the chunk's
    /// transactions.
    async fn read_chunk(&self, path: PathBuf, skip: u64, chunk: Chunk) -> Result<(Vec<u8>, SegmentHash)> {
        let doing = format!("cannot read the spool {}", path.display());
        let disk = Arc::clone(&self.disk);
        let read = self.ctx.host.blocking(move || {
            let mut bytes = Vec::with_capacity(usize::try_from(chunk.size()).unwrap_or_default());
            let file = disk.open(&path).context(ErrorKind::Damaged, "cannot read the spool")?;
            let mut take = |part: &[u8]| {
                bytes.extend_from_slice(part);
                Ok(())
            };
            let hash = spool_journal::check_chunk(&*file, skip, &chunk, &mut take)?;
            Ok((bytes, SegmentHash(*hash.as_bytes())))
        });
        read.await.flatten().map_err(|error| error.during(&doing))
    }

    /// Returns `Ok` if a file of the spool holds a whole segment.
    async fn check_segment_file(&self, path: PathBuf, segment: Segment) -> Result<()> {
        let doing = format!("cannot read the spool {}", path.display());
        let disk = Arc::clone(&self.disk);
        let hashed = self.ctx.host.blocking(move || hash(&*disk.open(&path)?));
        match hashed.await.map_err(|error| error.during(&doing))? {
            Ok(hash) if *hash.as_bytes() == segment.hash.0 => Ok(()),
            Ok(_) => Err(Error::new(
                ErrorKind::Damaged,
                format!("{doing}: its bytes are not those of the segment"),
            )),
            Err(error) => Err(Error::new(ErrorKind::Damaged, format!("{doing}: {error}"))),
        }
    }
}

/// Replaces tail segments by full segments, one after another, beside the uploads of the tail.
pub(super) struct Replacer {
    pub(super) shared: Shared,
    pub(super) segments: mpsc::UnboundedReceiver<(Segment, PathBuf)>,
}

impl Replacer {
    /// Runs until the channel is closed. Segments that it cannot replace stay in the tail for the
    /// next archiver.
    pub(super) async fn run(mut self) {
        let Shared { alerts, ctx, .. } = &self.shared;
        while let Some((segment, path)) = self.segments.recv().await {
            loop {
                match self.shared.upload_segment(&segment, &path).await {
                    Ok(()) => {
                        alerts.clear("segments");
                        break;
                    }
                    // All of it is in the tail already, and the next archiver merges that into a
                    // full segment.
                    Err(UploadError::Spool(error)) => {
                        ctx.reporter.notice(&format!("{error}; its tail segments are archived"));
                        break;
                    }
                    Err(UploadError::Store(error)) => {
                        alerts.raise("segments", &error, REMINDER_INTERVAL);
                        if !is_transient(&error) {
                            return;
                        }
                        ctx.host.clock.sleep(MAX_RETRY_DELAY).await;
                    }
                }
            }
            remove_spool_file(&*self.shared.disk, &path);
            self.shared.queue.replaced();
        }
    }
}

/// Returns the chunk as a tail segment.
pub(super) fn segment(at: &AckPosition, chunk: &Chunk, hash: SegmentHash) -> Segment {
    Segment {
        source: at.source,
        file: at.file.clone(),
        start: chunk.start,
        end: chunk.end,
        previous: chunk.previous.clone(),
        gtids: chunk.gtids.clone(),
        committed: chunk.committed,
        hash,
    }
}

/// True if a retry may help.
fn is_transient(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Store | ErrorKind::Failed | ErrorKind::Denied)
}

/// Returns the hash of a file.
fn hash(file: &dyn DiskFile) -> io::Result<blake3::Hash> {
    let (size, mut at, mut hasher) = (file.size()?, 0, blake3::Hasher::new());
    let mut part = vec![0; READ_BUFFER_BYTES];
    while at < size {
        let length = usize::try_from(size - at).map_or(READ_BUFFER_BYTES, |left| left.min(READ_BUFFER_BYTES));
        let part = part.get_mut(..length).unwrap_or_default();
        file.read_at(part, at)?;
        hasher.update(part);
        at += length as u64;
    }
    Ok(hasher.finalize())
}

/// Removes a file of the spool, with its copies and journals.
pub(super) fn remove_spool_file(disk: &dyn Disk, path: &Path) {
    for path in
        with_copies(disk, path).into_iter().flat_map(|path| [spool_journal::journal_path(&path), path])
    {
        if let Err(error) = disk.remove(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
}

/// True if transactions may have been acknowledged from a file of the spool or a copy of it.
pub(super) fn has_journal(disk: &dyn Disk, path: &Path) -> bool {
    with_copies(disk, path).iter().any(|path| disk.exists(&spool_journal::journal_path(path)))
}

/// Returns the path of a file of the spool, and those of its copies. Copies without a durable byte
/// are removed, so a number may be missing between two others.
fn with_copies(disk: &dyn Disk, path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    let copies = path.parent().and_then(|folder| disk.list(folder).ok()).unwrap_or_default();
    let begin = copy_of(path, 1).to_string_lossy().trim_end_matches('1').to_owned();
    all.extend(copies.into_iter().filter(|copy| {
        copy.to_string_lossy().strip_prefix(&begin).is_some_and(|number| number.parse::<u64>().is_ok())
    }));
    all
}
