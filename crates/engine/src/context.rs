//! What every story is handed: time, who to tell, where tests stop it, and whether the user has.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backstop_model::error::{Error, ErrorKind, Result};
use tokio::sync::watch;

use crate::ports::{Clock, Failpoints, Reporter};

/// The surroundings of a story.
#[derive(Clone)]
pub struct RunContext {
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// Told how far the story is.
    pub reporter: Arc<dyn Reporter>,
    /// Stops a story at a named point, in tests.
    pub failpoints: Arc<dyn Failpoints>,
    /// Becomes true when the user asks to stop (Ctrl-C, SIGTERM).
    pub stop: watch::Receiver<bool>,
}

impl RunContext {
    /// Runs `work` unless the user asks to stop first. Then `work` is dropped where it stands, and the
    /// caller cleans up as after any other fault.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = stop_requested(self.stop.clone()) => Err(Error::new(ErrorKind::Interrupted, "stopped on request")),
        }
    }

    /// Fails with [`ErrorKind::Failed`] naming `what` if `work` takes longer than `deadline`.
    pub async fn within<T>(
        &self,
        deadline: Duration,
        what: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.clock.sleep(deadline) => Err(Error::failed(format!("{what}: not done within {deadline:?}"))),
        }
    }

    /// Runs one named step: told to the reporter, and a place where tests can stop the story before and
    /// after the effect.
    pub async fn step<T>(&self, name: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.reporter.step(name);
        self.failpoints.reach(&format!("before:{name}"));
        let done = work.await?;
        self.failpoints.reach(&format!("after:{name}"));
        Ok(done)
    }
}

/// Ends when the user asks to stop; never if nobody can ask any more.
async fn stop_requested(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
