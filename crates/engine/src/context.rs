//! Context of every operation: host, progress reporter, failpoints, cancellation.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backstop_host::Host;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::BackupId;
use tokio::sync::watch;

use crate::ports::{Failpoints, Reporter};

/// Context of a story.
#[derive(Clone)]
pub struct RunContext {
    /// Clock, randomness, tasks.
    pub host: Host,
    /// Receives the progress of the story.
    pub reporter: Arc<dyn Reporter>,
    /// Stops a story at a named point, in tests.
    pub failpoints: Arc<dyn Failpoints>,
    /// Becomes true when the user cancels (Ctrl-C, SIGTERM).
    pub stop: watch::Receiver<bool>,
}

impl RunContext {
    /// Runs `work` unless the user cancels first. Then `work` is dropped at its current await
    /// point, and the caller cleans up as after any other fault.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            // A stop that was requested comes first: nothing begins after it.
            biased;
            () = stop_requested(self.stop.clone()) => Err(Error::new(ErrorKind::Interrupted, "stopped on request")),
            done = work => done,
        }
    }

    /// Fails with [`ErrorKind::Failed`] if `work` takes longer than `deadline`. `what` begins the
    /// error: `cannot read the repository`.
    pub async fn within<T>(
        &self,
        deadline: Duration,
        what: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let timed_out = || Error::failed(format!("{what}: timed out after {deadline:?}"));
        self.host.within(deadline, work).await.unwrap_or_else(|| Err(timed_out()))
    }

    /// Runs one named step: reports it, and reaches a failpoint before and after its effect.
    pub async fn step<T>(&self, name: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.reporter.step(name);
        self.failpoints.reach(&format!("before:{name}"));
        let done = work.await?;
        self.failpoints.reach(&format!("after:{name}"));
        Ok(done)
    }
}

/// Returns the id of a run that begins now.
///
/// # Errors
/// Fails if the host has no random numbers.
pub fn new_run_id(host: &Host) -> Result<BackupId> {
    Ok(BackupId::new(host.clock.now(), host.random.number()? as u32))
}

/// Returns when the user cancels; never if the sender is gone.
async fn stop_requested(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
