//! Checks that the store keeps what it accepted: reads the newest entries of the journal, and
//! stores lost ones again while the spool has them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstop_repo::LostEntry;
use backstop_types::error::{Error, ErrorKind, Result};

use super::archiver::Shared;
use crate::disk::Disk;

/// Interval of the checks after an upload, and otherwise.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
const IDLE_STORE_CHECK_INTERVAL: Duration = Duration::from_secs(60);
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
const STORE_ALERT: &str = "store's memory";

/// Checks of the store beside the stream.
pub(super) struct StoreCheck<'a> {
    shared: &'a Shared,
    /// The entries that could not be stored again the last time.
    missed: BTreeSet<u64>,
}

impl<'a> StoreCheck<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, missed: BTreeSet::new() }
    }

    /// Checks while it is polled. Returns when another archiver has taken the lease.
    pub(super) async fn run(mut self) -> Error {
        let Shared { store, alerts, ctx, .. } = self.shared;
        // The entry up to which everything was seen, and when.
        let mut seen = None;
        loop {
            ctx.host.clock.sleep(STORE_CHECK_INTERVAL).await;
            let (newest, now) = (store.newest().await, ctx.host.clock.monotonic());
            if seen.is_some_and(|(number, at)| number == newest && now < at + IDLE_STORE_CHECK_INTERVAL) {
                continue;
            }
            match self.check().await {
                Ok(()) => {
                    alerts.clear(STORE_ALERT);
                    seen = Some((newest, now));
                }
                Err(error) if error.kind == ErrorKind::Held => return error,
                Err(error) => alerts.raise(STORE_ALERT, &error, REMINDER_INTERVAL),
            }
        }
    }

    async fn check(&mut self) -> Result<()> {
        let Shared { store, queue, ctx, .. } = self.shared;
        let before = std::mem::take(&mut self.missed);
        let mut gone: Vec<LostEntry> = Vec::new();
        for lost in store.lost().await? {
            match self.spooled_bytes(&lost).await? {
                Some(bytes) => {
                    store.put_again(&lost, &bytes).await?;
                    ctx.reporter.notice(&format!(
                        "the store lost {} after it reported it as written; it was stored again (check the store)",
                        lost.object()
                    ));
                }
                // A full segment may just be replacing it.
                None if !before.contains(&lost.number()) || queue.is_replacing() => {
                    self.missed.insert(lost.number());
                }
                None => {
                    self.missed.insert(lost.number());
                    gone.push(lost);
                }
            }
        }
        let Some(first) = gone.first() else { return Ok(()) };
        let gtids = first.segment().map(|piece| piece.gtids.to_string()).unwrap_or_default();
        let message = format!(
            "cannot keep the archive: the store lost {} with transactions {gtids}, and the spool no longer has it ({} in all)",
            first.object(),
            gone.len()
        );
        Err(Error::new(ErrorKind::Damaged, message)
            .hint("take a backup now, and check the store: it lost data that it reported as written"))
    }

    /// Returns the bytes of an entry's segment, if the spool has them.
    async fn spooled_bytes(&self, lost: &LostEntry) -> Result<Option<Vec<u8>>> {
        let Some(piece) = lost.segment() else { return Ok(Some(Vec::new())) };
        let Some((path, skip)) = self.shared.queue.find_spooled(piece) else { return Ok(None) };
        let size = usize::try_from(piece.size()).unwrap_or(usize::MAX);
        let disk = Arc::clone(&self.shared.disk);
        let read = self.shared.ctx.host.blocking(move || read(&*disk, &path, skip, size));
        let bytes = read.await.map_err(|error| error.during("cannot read the spool"))?;
        Ok(bytes.filter(|bytes| *blake3::hash(bytes).as_bytes() == piece.hash.0))
    }
}

fn read(disk: &dyn Disk, path: &Path, skip: u64, size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    disk.open(path).and_then(|file| file.read_at(&mut bytes, skip)).ok()?;
    Some(bytes)
}
