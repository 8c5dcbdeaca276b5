//! The host of a process: clocks, randomness, the identity of process and machine, and tasks.
//!
//! Repository and operations reach these only through [`Host`]. A simulation gives each of its
//! processes another one, whose time, faults and end it decides.

mod clock;
mod identity;
mod random;
mod tasks;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backstop_types::error::{Error, Result};
use tokio::sync::oneshot;

pub use clock::{Clock, SystemClock};
pub use identity::{Identity, ProcessIdentity, SystemIdentity, process_start_ticks};
pub use random::{Random, SystemRandom};
pub use tasks::{AbortOnDrop, Stop, SystemTasks, Task, Tasks};

/// Handle of the host. Clones refer to the same host.
#[derive(Clone)]
pub struct Host {
    /// Wall clock and monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub random: Arc<dyn Random>,
    /// Identity of this process and of other processes on the same machine.
    pub identity: Arc<dyn Identity>,
    /// Runs tasks.
    pub tasks: Arc<dyn Tasks>,
}

impl Host {
    /// Returns the host on which this process runs.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            identity: Arc::new(SystemIdentity),
            tasks: Arc::new(SystemTasks),
        }
    }

    /// Starts a task beside the caller. It runs until it ends or is aborted.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let (done, result) = oneshot::channel();
        let stop = self.tasks.spawn(Box::pin(async move {
            // A detached task has no receiver of its result.
            let _ = done.send(work.await);
        }));
        Task::new(result, stop)
    }

    /// Runs work that blocks its thread, and waits for its result. Dropping the future does not end
    /// the work.
    ///
    /// # Errors
    /// Fails if the work panicked.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, result) = oneshot::channel();
        self.tasks.blocking(Box::new(move || {
            let _ = done.send(work());
        }));
        result.await.map_err(|_| Error::failed("a blocking task ended unexpectedly"))
    }

    /// Waits for `work`, at most for `limit`; `None`: the limit passed, and `work` was dropped.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.clock.sleep(limit) => None,
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn task_returns_its_result_and_stops_when_aborted() {
        let host = Host::system();
        assert_eq!(host.spawn(async { 3 }).await.unwrap(), 3);
        let endless = host.spawn(std::future::pending::<()>());
        endless.abort();
        assert!(endless.await.is_err());
    }

    #[tokio::test]
    async fn blocking_work_returns_its_result_and_a_panic_is_an_error() {
        let host = Host::system();
        assert_eq!(host.blocking(|| 3).await.unwrap(), 3);
        assert!(host.blocking(|| std::panic::resume_unwind(Box::new(()))).await.is_err());
    }

    #[tokio::test]
    async fn limit_ends_a_wait() {
        let host = Host::system();
        assert_eq!(host.within(Duration::from_millis(1), std::future::pending::<()>()).await, None);
        assert_eq!(host.within(Duration::from_secs(60), async { 3 }).await, Some(3));
    }
}
