//! Tasks beside the caller, and work that blocks its thread.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use backstop_types::error::{Error, Result};
use futures::future::BoxFuture;
use tokio::sync::oneshot;

/// Runs tasks.
pub trait Tasks: Send + Sync {
    /// Starts a task.
    fn spawn(&self, work: BoxFuture<'static, ()>) -> Box<dyn Stop>;
    /// Runs work on a thread that it may block.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>);
}

/// Ends a task.
pub trait Stop: Send + Sync {
    /// Drops the task's future at its current await point. A task that has ended is unaffected.
    fn stop(&self);
}

/// A task that was started. As a future it returns the task's result, and fails if the task was
/// aborted or panicked. Dropping it leaves the task running.
pub struct Task<T> {
    result: oneshot::Receiver<T>,
    stop: Box<dyn Stop>,
}

impl<T> Task<T> {
    pub(crate) fn new(result: oneshot::Receiver<T>, stop: Box<dyn Stop>) -> Self {
        Self { result, stop }
    }

    /// Ends the task at its current await point.
    pub fn abort(&self) {
        self.stop.stop();
    }

    /// Returns a guard that aborts the task when dropped.
    pub fn abort_on_drop(self) -> AbortOnDrop<T> {
        AbortOnDrop(self)
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result)
            .poll(cx)
            .map(|result| result.map_err(|_| Error::failed("a task ended unexpectedly")))
    }
}

/// A task that ends when this is dropped. As a future it returns the task's result.
pub struct AbortOnDrop<T>(Task<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tasks of tokio's runtime.
#[derive(Debug, Clone, Copy)]
pub struct SystemTasks;

impl Tasks for SystemTasks {
    fn spawn(&self, work: BoxFuture<'static, ()>) -> Box<dyn Stop> {
        Box::new(tokio::spawn(work).abort_handle())
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(work));
    }
}

impl Stop for tokio::task::AbortHandle {
    fn stop(&self) {
        self.abort();
    }
}
