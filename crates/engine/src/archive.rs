//! Archiver: streams the binlog of a shard and stores it, until it is stopped.
//!
//! A loop looks at the shard and at the archive, decides from which server and position to stream
//! ([`backstop_policy::stream_or_fork`]), streams until that ends, and looks again. Background tasks
//! upload the streamed transactions and, if configured, acknowledge them.

mod alerts;
mod binlog_source;
mod disk;
#[cfg(test)]
mod frozen;
mod fsync;
mod gtid_divergence;
mod monitor;
mod preflight;
mod queue;
mod refetch;
#[cfg(test)]
mod sample_binlog;
mod semi_sync_ack;
mod spool;
mod spool_journal;
mod spool_recovery;
mod status;
mod store_check;
mod stream;
mod stream_loop;
mod stream_position;
mod synced_chunks;
mod upload;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_binlog::{Segment, Segmenter};
use backstop_config::settings::{ArchiveAck, ArchiveSettings};
use backstop_repo::ArchiveWriter;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{ServerUuid, ShardName};

use crate::report::ArchiveReport;

pub use binlog_source::ReplicaIdentity;
pub use preflight::preflight;
pub use status::{ArchiveStatus, ShardArchive, archive_status, check_archive};

use crate::context::RunContext;
use crate::ports::Topology;
use crate::shared_credentials::SharedCredentials;
use alerts::Alerts;
use disk::HostDisk;
use fsync::Syncer;
use queue::Queue;
use semi_sync_ack::SemiSyncAck;
use spool::Spool;
use stream_position::SharedStreamPosition;
use synced_chunks::SyncedChunks;
use upload::{Replacer, Uploader};

const FIRST_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Time to drain the spool on shutdown. The rest stays in the spool.
const SHUTDOWN_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
const RESTART_HINT: &str =
    "restart the archiver when the store answers: it requests the missing transactions from the source";

/// Inputs of the archiver of a shard.
pub struct Archiver<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// Archive settings of the shard.
    pub settings: &'a ArchiveSettings,
    /// Its members.
    pub topology: &'a dyn Topology,
    /// Credentials of its members.
    pub access: &'a SharedCredentials,
    /// Its archive.
    pub store: Arc<ArchiveWriter>,
    /// Encryption of the stored segments.
    pub encryption: Encryption,
    /// Names the shard and repository; the source takes archivers with the same name for one.
    pub name: &'a str,
    /// Folder for transactions that are not archived yet. The caller holds its lock
    /// ([`crate::shard_dir`]).
    pub spool: PathBuf,
    /// Folder that older versions used; another repository may share it.
    pub old_spool: Option<PathBuf>,
    /// Condition that ends archiving.
    pub until: ArchiveUntil,
    /// Clock, progress reporter, cancellation.
    pub ctx: &'a RunContext,
}

/// Encryption of the stored segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Everything is encrypted.
    On,
    /// Nothing is encrypted.
    Off,
}

/// Condition that ends archiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveUntil {
    /// The user stops it.
    Stopped,
    /// Everything that the source has at the start is archived.
    CaughtUp,
}

/// State shared with the background tasks.
struct Shared {
    queue: Arc<Queue>,
    semi_sync_ack: Arc<SemiSyncAck>,
    alerts: Arc<Alerts>,
    stream_position: SharedStreamPosition,
}

/// State of the stream loop.
struct StreamState {
    segmenter: Option<(Segmenter, ServerUuid)>,
    spool: Spool,
    /// All transactions of the timeline, streamed or archived; `None`: no transaction yet.
    held: Option<GtidSet>,
    /// The last archived or sealed segment of each server, except of the one that is streamed.
    last: Vec<Segment>,
    /// Numbers of segments that the archive lost and that no source has any more.
    unrecoverable: BTreeSet<u64>,
    report: ArchiveReport,
    retry_delay: Duration,
    /// Consecutive rounds that failed.
    failures: u32,
    /// Consecutive rounds that ended without a new transaction.
    empty_streams: u32,
}

/// Archives until it is stopped, or until everything is archived. Run [`preflight`] first. When it
/// returns `Ok`, all streamed transactions are archived.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] if the server cannot be archived from: it has no GTIDs or no
/// binlog, it encrypts its binlog and the repository does not, or it belongs to another shard (the
/// error names the difference); [`ErrorKind::Held`] if another archiver has taken over the shard;
/// [`ErrorKind::Damaged`] if the archive's newest entries are damaged; [`ErrorKind::Interrupted`]
/// if the user stopped it and the store did not accept the remaining transactions. If a store or
/// source does not answer, the archiver reports that and waits.
pub async fn archive(archiver: &Archiver<'_>) -> Result<ArchiveReport> {
    let clock = Arc::clone(&archiver.ctx.host.clock);
    let shared = Shared {
        queue: Arc::new(Queue::default()),
        semi_sync_ack: Arc::new(SemiSyncAck::default()),
        alerts: Arc::new(Alerts::new(clock, Arc::clone(&archiver.ctx.reporter))),
        stream_position: SharedStreamPosition::default(),
    };
    let left = spool_recovery::recover_spool(
        &archiver.store,
        &archiver.spool,
        archiver.old_spool.as_deref(),
        &*archiver.ctx.reporter,
    );
    archiver.ctx.unless_stopped(archiver.ctx.step("resume", left)).await?;
    let (held, last) = archiver.store.held().await;
    let mut state = StreamState {
        segmenter: None,
        spool: Spool::new(&archiver.spool, Arc::clone(&shared.queue), Arc::new(HostDisk))?,
        held: archived_or_lost(held, &last),
        last,
        unrecoverable: BTreeSet::new(),
        report: ArchiveReport::new(archiver.shard.clone()),
        retry_delay: FIRST_RETRY_DELAY,
        failures: 0,
        empty_streams: 0,
    };
    let (uploader, syncer, replacer) = background_tasks(archiver, &shared);
    let upload = tokio::spawn(async move { uploader.run().await });
    let sync = tokio::spawn(async move { syncer.run().await });
    let replace = tokio::spawn(replacer.run());
    let abort = AbortOnDrop(vec![upload.abort_handle(), sync.abort_handle(), replace.abort_handle()]);
    let begun = archiver.ctx.host.clock.monotonic();
    let mut upload = upload;
    let outcome = tokio::select! {
        ended = &mut upload => Err(upload_task_ended(ended)),
        outcome = archiver.ctx.unless_stopped(stream_loop::stream_loop(archiver, &shared, &mut state)) => outcome,
        error = monitor::heartbeat(archiver, &shared) => Err(error),
        error = store_check::watch_store(archiver, &shared) => Err(error),
    };
    let outcome = match outcome {
        Err(error) if error.kind == ErrorKind::Interrupted => Ok(()),
        outcome => outcome,
    };
    if outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Held) {
        return Err(outcome.err().unwrap_or_else(|| Error::failed("another archiver holds the lease")));
    }
    let ended = tokio::select! {
        ended = &mut upload => Err(upload_task_ended(ended)),
        ended = drain(archiver, &shared, &mut state) => ended,
    };
    drop(abort);
    outcome.and(ended)?;
    let passed = shared.queue.counts();
    state.report.transactions = passed.archived;
    state.report.archived = shared.queue.archived().gtids;
    state.report.seconds = (archiver.ctx.host.clock.monotonic() - begun).as_secs_f64();
    Ok(state.report)
}

fn background_tasks(archiver: &Archiver<'_>, shared: &Shared) -> (Uploader, Syncer, Replacer) {
    let (replacer, segments) = tokio::sync::mpsc::unbounded_channel();
    let ack = archiver.settings.semi_sync.then_some(archiver.settings.ack);
    if ack == Some(ArchiveAck::Store) {
        shared.queue.upload_at_once();
    }
    if ack == Some(ArchiveAck::Spool) {
        shared.queue.track_unsynced();
    }
    let uploader = Uploader {
        store: Arc::clone(&archiver.store),
        queue: Arc::clone(&shared.queue),
        semi_sync_ack: Arc::clone(&shared.semi_sync_ack),
        replacer,
        ack,
        alerts: Arc::clone(&shared.alerts),
        ctx: archiver.ctx.clone(),
    };
    let syncer = Syncer {
        queue: Arc::clone(&shared.queue),
        semi_sync_ack: Arc::clone(&shared.semi_sync_ack),
        alerts: Arc::clone(&shared.alerts),
        synced_chunks: Arc::new(Mutex::new(SyncedChunks::new(Arc::new(HostDisk)))),
        ctx: archiver.ctx.clone(),
    };
    let replacer = Replacer {
        store: Arc::clone(&archiver.store),
        queue: Arc::clone(&shared.queue),
        alerts: Arc::clone(&shared.alerts),
        segments,
        ctx: archiver.ctx.clone(),
    };
    (uploader, syncer, replacer)
}

/// Aborts tasks when dropped.
struct AbortOnDrop(Vec<tokio::task::AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

fn upload_task_ended(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(failure)) => failure,
        Ok(Ok(())) => Error::failed("cannot archive: the upload task has ended"),
        Err(error) => Error::failed(format!("cannot archive: the upload task has ended: {error}")),
    }
}

/// Returns the transactions that need not be requested again: the archived ones, and those that
/// were missing before them.
fn archived_or_lost(held: Option<GtidSet>, last: &[Segment]) -> Option<GtidSet> {
    Some(last.iter().fold(held?, |all, segment| all.union(&segment.held_after())))
}

/// Archives the streamed transactions within [`SHUTDOWN_DRAIN_TIMEOUT`].
async fn drain(archiver: &Archiver<'_>, shared: &Shared, state: &mut StreamState) -> Result<()> {
    archiver.ctx.reporter.step("seal");
    finish_file(state).await?;
    shared.queue.upload_at_once();
    tokio::select! {
        ended = wait_until_drained(archiver, shared) => ended.map_err(|error| Error::new(ErrorKind::Interrupted, error.message).hint(RESTART_HINT))?,
        () = archiver.ctx.host.clock.sleep(SHUTDOWN_DRAIN_TIMEOUT) => {
            let why = shared.alerts.summary().unwrap_or_else(|| "the store is slow".to_owned());
            let message = format!("cannot archive the streamed transactions before exit: {why}");
            return Err(Error::new(ErrorKind::Interrupted, message).hint(RESTART_HINT));
        }
    }
    monitor::final_heartbeat(archiver, shared).await
}

async fn finish_file(state: &mut StreamState) -> Result<()> {
    if let Some((mut segmenter, source)) = state.segmenter.take() {
        if let Err(error) = segmenter.cut(&mut state.spool).await {
            // The segmenter's bytes are not written yet: the state continues with it.
            state.segmenter = Some((segmenter, source));
            return Err(error);
        }
        for segment in state.spool.finished_segments() {
            state.last.retain(|last| last.source != segment.source);
            state.last.push(segment.clone());
        }
        state.held = Some(state.held.take().unwrap_or_default().union(segmenter.held()));
    }
    Ok(())
}

/// Waits until all streamed transactions are archived.
///
/// # Errors
/// Fails if the spooled transactions were given up.
async fn wait_until_drained(archiver: &Archiver<'_>, shared: &Shared) -> Result<()> {
    while !shared.queue.is_drained() {
        if let Some(error) = shared.queue.given_up() {
            return Err(error);
        }
        let changed = shared.queue.changed.notified();
        tokio::select! {
            () = changed => {}
            () = archiver.ctx.host.clock.sleep(FIRST_RETRY_DELAY) => {}
        }
    }
    Ok(())
}
