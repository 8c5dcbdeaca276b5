//! Run of the archiver: recovers what an earlier one left, streams beside its background tasks, and
//! archives the rest before it ends.

use std::time::Duration;

use backstop_host::Task;
use backstop_types::error::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::archiver::Archiver;
use super::config::ArchiverConfig;
use super::fsync::Syncer;
use super::spool::Spool;
use super::spool_recovery::SpoolRecovery;
use super::store_check::StoreCheck;
use super::stream_loop::StreamLoop;
use super::stream_state::StreamState;
use super::upload::{Replacer, Uploader};
use crate::report::ArchiveReport;

/// Time to drain the spool on shutdown. The rest stays in the spool.
const SHUTDOWN_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
const RESTART_HINT: &str =
    "restart the archiver when the store answers: it requests the missing transactions from the source";

/// Archives until it is stopped, or until everything is archived. Run [`super::preflight`] first.
/// When it returns `Ok`, all streamed transactions are archived.
///
/// # Errors
/// Returns [`ErrorKind::Refused`] if the server cannot be archived from: it has no GTIDs or no
/// binlog, it encrypts its binlog and the repository does not, or it belongs to another shard (the
/// error names the difference); [`ErrorKind::Held`] if another archiver has taken over the shard;
/// [`ErrorKind::Damaged`] if the archive's newest entries are damaged; [`ErrorKind::Interrupted`]
/// if the user stopped it and the store did not accept the remaining transactions. If a store or
/// source does not answer, the archiver reports that and waits.
pub async fn archive(config: ArchiverConfig<'_>) -> Result<ArchiveReport> {
    Archiver::new(&config).run().await
}

impl Archiver<'_> {
    async fn run(&self) -> Result<ArchiveReport> {
        let (ctx, shared) = (self.config.ctx, &self.shared);
        let mut rounds = self.resume().await?;
        let begun = self.monotonic();
        let mut tasks = BackgroundTasks::start(self);
        let outcome = tokio::select! {
            // The rounds last: a source that always has more events would use up the share of this
            // task, and the others, which soon wait again, would never run.
            biased;
            // Without it nothing can be drained either.
            ended = &mut tasks.upload => return Err(upload_task_ended(ended)),
            error = self.beat() => Err(error),
            error = StoreCheck::new(shared).run() => Err(error),
            outcome = ctx.unless_stopped(rounds.run()) => outcome,
        };
        let outcome = match outcome {
            Err(error) if error.kind == ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind == ErrorKind::Held => return Err(error),
            outcome => outcome,
        };
        let ended = tokio::select! {
            // The end of the uploads explains why the spool is not drained.
            biased;
            ended = &mut tasks.upload => return Err(upload_task_ended(ended)),
            ended = self.drain(&mut rounds) => ended,
        };
        tasks.end().await;
        outcome.and(ended)?;
        let mut report = rounds.into_report();
        report.transactions = shared.queue.counts().archived;
        report.archived = shared.queue.archived().gtids;
        report.seconds = (self.monotonic() - begun).as_secs_f64();
        Ok(report)
    }

    /// Archives the spool that an earlier archiver left, and begins at the end of the archive.
    async fn resume(&self) -> Result<StreamLoop<'_>> {
        let config = self.config;
        let left = SpoolRecovery {
            store: &self.shared.store,
            disk: &*self.shared.disk,
            spool: &config.spool,
            old_spool: config.old_spool.as_deref(),
            reporter: self.reporter(),
        };
        config.ctx.unless_stopped(config.ctx.step("resume", left.run())).await?;
        let (held, last) = self.shared.store.held().await;
        let (queue, disk) = (self.shared.queue.clone(), self.shared.disk.clone());
        let spool = Spool::new(&config.spool, queue, disk)?;
        let state = StreamState::new(spool, held, last);
        self.shared.queue.archive_holds(state.held.as_ref());
        Ok(StreamLoop::new(self, state))
    }

    /// Archives the streamed transactions within [`SHUTDOWN_DRAIN_TIMEOUT`].
    async fn drain(&self, rounds: &mut StreamLoop<'_>) -> Result<()> {
        self.reporter().step("seal");
        rounds.finish_file().await?;
        self.shared.queue.upload_at_once();
        let interrupted = |message: String| Error::new(ErrorKind::Interrupted, message).hint(RESTART_HINT);
        let drained = self.config.ctx.host.within(SHUTDOWN_DRAIN_TIMEOUT, self.wait_until_drained());
        match drained.await {
            Some(ended) => ended.map_err(|error| interrupted(error.message))?,
            None => {
                let why = self.shared.alerts.summary().unwrap_or_else(|| "the store is slow".to_owned());
                let message = format!("cannot archive the streamed transactions before exit: {why}");
                return Err(interrupted(message));
            }
        }
        self.beat_once().await
    }
}

/// Tasks beside the rounds. Dropping this aborts them.
struct BackgroundTasks {
    upload: Task<Result<()>>,
    sync: Task<()>,
    replace: Task<()>,
}

impl BackgroundTasks {
    fn start(archiver: &Archiver<'_>) -> Self {
        let (host, shared) = (&archiver.config.ctx.host, &archiver.shared);
        let (replacer, segments) = mpsc::unbounded_channel();
        let uploader = Uploader { shared: shared.clone(), replacer, ack: archiver.ack() };
        Self {
            upload: host.spawn(uploader.run()),
            sync: host.spawn(Syncer::new(shared.clone()).run()),
            replace: host.spawn(Replacer { shared: shared.clone(), segments }.run()),
        }
    }

    /// Ends the tasks, and waits until none of them holds the store any more: only then the caller
    /// can release its lease.
    async fn end(mut self) {
        self.abort();
        let _ = ((&mut self.upload).await, (&mut self.sync).await, (&mut self.replace).await);
    }

    fn abort(&self) {
        self.upload.abort();
        self.sync.abort();
        self.replace.abort();
    }
}

impl Drop for BackgroundTasks {
    fn drop(&mut self) {
        self.abort();
    }
}

fn upload_task_ended(ended: Result<Result<()>>) -> Error {
    match ended {
        Ok(Err(failure)) => failure,
        Ok(Ok(())) => Error::failed("cannot archive: the upload task has ended"),
        Err(error) => Error::failed(format!("cannot archive: the upload task has ended: {error}")),
    }
}
