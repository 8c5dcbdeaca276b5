//! Refetches segments that the archive's index lists and the store lacks or has damaged: while the
//! source still has them, they are stored again under their numbers.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{Segment, SegmentSink, Segmenter, SegmenterStep};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;

use super::archiver::Archiver;
use super::binlog_source::ChosenSource;
use crate::disk::{Disk, DiskFile};

/// Timeout for a silent source: it may read for a while until it reaches the requested
/// transactions.
const SOURCE_SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Stores lost segments of a source's files again.
pub(super) struct Refetch<'a> {
    pub(super) archiver: &'a Archiver<'a>,
    pub(super) source: &'a ChosenSource<'a>,
}

impl Refetch<'_> {
    /// Stores the lost segments of this source's files again. Reports the reason if it cannot;
    /// archiving continues. `gone` are the numbers of segments that the source no longer has; they
    /// are not requested again.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if another archiver has taken the lease of the archive.
    pub(super) async fn run(&self, gone: &mut BTreeSet<u64>) -> Result<()> {
        match self.refetch_all(gone).await {
            Err(error) if error.kind != ErrorKind::Held => {
                let text = format!(
                    "cannot store lost segments again: {error}; the archiver retries at the next connection"
                );
                self.archiver.reporter().notice(&text);
                Ok(())
            }
            done => done,
        }
    }

    async fn refetch_all(&self, gone: &mut BTreeSet<u64>) -> Result<()> {
        let store = &self.archiver.shared.store;
        let from = &self.source.from;
        for lost in store.lost_segments().await? {
            let piece = lost.segment();
            if piece.source != from.server_uuid || gone.contains(&lost.number()) {
                continue;
            }
            let path = self.archiver.config.spool.with_extension("again");
            let mut kept = RefetchFile::new(Arc::clone(&self.archiver.shared.disk), path)?;
            let stored = match self.fetch(piece, &mut kept).await {
                Ok(Some(segment)) => store
                    .seal_again(&lost, &segment, &self.archiver.shared.spool_bytes(&kept.path))
                    .await
                    .map(|()| true),
                other => other.map(|_| false),
            };
            kept.remove()?;
            let lost_one = format!("{} at {} (transactions `{}`)", piece.file, piece.start, piece.gtids);
            let text = if stored? {
                format!(
                    "{lost_one} was missing or damaged in the archive: it was stored again from {}",
                    from.endpoint
                )
            } else {
                gone.insert(lost.number());
                format!(
                    "{lost_one} is missing or damaged in the archive, and {} no longer has it: make a backup",
                    from.endpoint
                )
            };
            self.archiver.reporter().notice(&text);
        }
        Ok(())
    }

    /// Has the source resend a segment; `None` if it no longer has it, or has other transactions in
    /// its place.
    async fn fetch(&self, piece: &Segment, kept: &mut RefetchFile) -> Result<Option<Segment>> {
        let before = Segment { end: piece.start, gtids: GtidSet::new(), committed: None, ..piece.clone() };
        let opened = self.source.open().await?;
        let mut stream = opened.resend(self.source.identity, piece.previous.clone()).await?;
        let mut segmenter = Segmenter::after(&before);
        loop {
            let arrived = match segmenter.step(&mut stream, kept, SOURCE_SILENCE_TIMEOUT).await {
                Err(error) if error.kind == ErrorKind::Damaged => return Ok(None),
                arrived => arrived?,
            };
            let (file, end) = segmenter.position().unwrap_or((&piece.file, piece.start));
            match arrived {
                SegmenterStep::Refused(_) | SegmenterStep::Hole { .. } => return Ok(None),
                _ if file != piece.file || end > piece.end => return Ok(None),
                _ if end == piece.end => {
                    let sent = segmenter.cut(kept).await?;
                    return Ok(sent.filter(|sent| is_same(sent, piece)));
                }
                SegmenterStep::End => return Ok(None),
                SegmenterStep::Quiet => {
                    let message = format!(
                        "cannot fetch a lost segment from {}: it sends nothing",
                        self.source.from.endpoint
                    );
                    return Err(Error::failed(message).hint("the archiver retries"));
                }
                _ => {}
            }
        }
    }
}

/// True if the source resent the same segment. The first event of a file holds its creation time,
/// which is omitted when the file is requested later: only there may bytes differ.
fn is_same(sent: &Segment, piece: &Segment) -> bool {
    let facts = (sent.start, sent.end, &sent.gtids, sent.committed)
        == (piece.start, piece.end, &piece.gtids, piece.committed);
    facts && (piece.start == 0 || sent.hash == piece.hash)
}

/// File of the archiver with the bytes of one segment.
struct RefetchFile {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    size: u64,
}

impl RefetchFile {
    fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self> {
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).failed(doing("write", &path));
            }
            _ => {}
        }
        let file = disk.create(&path).failed(doing("write", &path))?;
        Ok(Self { disk, file, path, size: 0 })
    }

    fn remove(self) -> Result<()> {
        self.disk.remove(&self.path).failed(doing("remove", &self.path))
    }
}

fn doing(verb: &str, path: &Path) -> String {
    format!("{verb} {}", path.display())
}

#[async_trait]
impl SegmentSink for RefetchFile {
    async fn begin(&mut self, _: ServerUuid, _: &str, _: u64) -> Result<()> {
        self.cut_back(0).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(bytes, self.size).failed(doing("write", &self.path))?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    async fn cut_back(&mut self, size: u64) -> Result<()> {
        self.file.truncate(size).failed(doing("write", &self.path))?;
        self.size = size;
        Ok(())
    }

    async fn seal(&mut self, _: &Segment) -> Result<()> {
        Ok(())
    }
}
