//! Archive: streams the binlog of a shard and keeps it, until it is stopped.
//!
//! A loop: look at the shard and at the archive, decide from whom and from where to stream
//! ([`backstop_model::stream_or_fork`]), stream until that ends, look again. Beside it what was streamed is archived and, if that is
//! wanted, acknowledged.

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
use backstop_model::error::{Error, ErrorKind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{ServerUuid, ShardName};
use backstop_model::report::ArchiveReport;
use backstop_model::settings::{ArchiveAck, ArchiveSettings};
use backstop_repo::ArchiveWriter;

pub use binlog_source::ReplicaIdentity;
pub use preflight::preflight;
pub use status::{ArchiveStatus, ShardArchive, archive_status, check_archive};

use alerts::Alerts;
use disk::HostDisk;
use fsync::Syncer;
use queue::Queue;
use semi_sync_ack::SemiSyncAck;
use spool::Spool;
use stream_position::SharedStreamPosition;
use synced_chunks::SyncedChunks;
use upload::{Replacer, Uploader};

use crate::context::RunContext;
use crate::ports::Topology;
use crate::shared_credentials::SharedCredentials;

const FIRST_RETRY_DELAY: Duration = Duration::from_millis(200);
/// When it is stopped, what was streamed is archived within this time, or stays in the spool.
const SHUTDOWN_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
const RESTART_HINT: &str =
    "start the archiver again when the store answers: it asks the source for what is missing";

/// What archiving a shard is made of.
pub struct Archiver<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// How it is archived.
    pub settings: &'a ArchiveSettings,
    /// Its members.
    pub topology: &'a dyn Topology,
    /// How to log in to them.
    pub access: &'a SharedCredentials,
    /// Its archive.
    pub store: Arc<ArchiveWriter>,
    /// Whether what is stored is encrypted.
    pub encryption: Encryption,
    /// Names what is archived where: the source takes archivers with the same name for one.
    pub name: &'a str,
    /// Folder for what is not archived yet. No one else's: whoever calls holds it ([`crate::shard_dir`]).
    pub spool: PathBuf,
    /// Where older versions had it; it may be another repository's.
    pub old_spool: Option<PathBuf>,
    /// When it ends.
    pub until: ArchiveUntil,
    /// Time, reporter, stop.
    pub ctx: &'a RunContext,
}

/// Whether what is stored is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Everything is.
    On,
    /// Nothing is.
    Off,
}

/// When archiving ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveUntil {
    /// When it is stopped.
    Stopped,
    /// When all that the source has now is archived.
    CaughtUp,
}

/// What goes on beside the loop.
struct Shared {
    queue: Arc<Queue>,
    semi_sync_ack: Arc<SemiSyncAck>,
    alerts: Arc<Alerts>,
    stream_position: SharedStreamPosition,
}

/// Where the loop is.
struct StreamState {
    segmenter: Option<(Segmenter, ServerUuid)>,
    spool: Spool,
    /// Everything of the line, streamed or archived; `None`: nothing yet.
    held: Option<GtidSet>,
    /// The last piece of each server that was archived or sealed, but for the one that is streamed.
    last: Vec<Segment>,
    /// Numbers of pieces that the archive lost and that no source has any more.
    unrecoverable: BTreeSet<u64>,
    report: ArchiveReport,
    retry_delay: Duration,
    /// Rounds that failed, one after the other.
    failures: u32,
    /// Rounds that ended without a transaction more, one after the other.
    empty_streams: u32,
}

/// Archives until it is stopped, or until all is archived, what [`preflight`] let through. What it has streamed is archived when it returns `Ok`.
///
/// # Errors
/// [`ErrorKind::Refused`] for a server that cannot be archived from: without GTIDs or binlog, encrypted into a repository that is not,
/// or of another shard, naming the difference; [`ErrorKind::Held`] when another archiver has taken the shard over;
/// [`ErrorKind::Damaged`] when the archive's newest entries are; [`ErrorKind::Interrupted`] when it was stopped and the store
/// did not take what was left. A store or source that does not answer is waited for, and told.
pub async fn archive(archiver: &Archiver<'_>) -> Result<ArchiveReport> {
    let clock = Arc::clone(&archiver.ctx.clock);
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
    let begun = archiver.ctx.clock.monotonic();
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
        return Err(outcome.err().unwrap_or_else(|| Error::failed("archive")));
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
    state.report.seconds = (archiver.ctx.clock.monotonic() - begun).as_secs_f64();
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

/// Ends tasks when it is dropped.
struct AbortOnDrop(Vec<tokio::task::AbortHandle>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

fn upload_task_ended(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(failure)) => failure,
        Ok(Ok(())) => Error::failed("archive: what stores has ended"),
        Err(error) => Error::failed(format!("archive: what stores has ended: {error}")),
    }
}

/// All that need not be asked for again: what is archived, and what was missing when it was.
fn archived_or_lost(held: Option<GtidSet>, last: &[Segment]) -> Option<GtidSet> {
    Some(last.iter().fold(held?, |all, segment| all.union(&segment.held_after())))
}

/// Archives what was streamed, within bounds.
async fn drain(archiver: &Archiver<'_>, shared: &Shared, state: &mut StreamState) -> Result<()> {
    archiver.ctx.reporter.step("seal");
    finish_file(state).await?;
    shared.queue.upload_at_once();
    tokio::select! {
        ended = wait_until_drained(archiver, shared) => ended.map_err(|error| Error::new(ErrorKind::Interrupted, error.message).hint(RESTART_HINT))?,
        () = archiver.ctx.clock.sleep(SHUTDOWN_DRAIN_TIMEOUT) => {
            let why = shared.alerts.summary().unwrap_or_else(|| "the store is slow".to_owned());
            return Err(Error::new(ErrorKind::Interrupted, format!("archive what was streamed before the end: {why}"))
                .hint(RESTART_HINT));
        }
    }
    monitor::final_heartbeat(archiver, shared).await
}

async fn finish_file(state: &mut StreamState) -> Result<()> {
    if let Some((mut segmenter, source)) = state.segmenter.take() {
        if let Err(error) = segmenter.cut(&mut state.spool).await {
            // What it holds is not written yet: it continues with it.
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

/// Waits until all that was streamed is archived.
///
/// # Errors
/// When what is spooled was given up.
async fn wait_until_drained(archiver: &Archiver<'_>, shared: &Shared) -> Result<()> {
    while !shared.queue.is_drained() {
        if let Some(error) = shared.queue.given_up() {
            return Err(error);
        }
        let changed = shared.queue.changed.notified();
        tokio::select! {
            () = changed => {}
            () = archiver.ctx.clock.sleep(FIRST_RETRY_DELAY) => {}
        }
    }
    Ok(())
}
