//! Logs the progress of a run as JSON lines, and creates the run's context.

use std::sync::Arc;

use backstop_engine::context::RunContext;
use backstop_engine::ports::{Clock, Failpoints, Reporter};
use backstop_host::{Host, SystemClock};
use backstop_types::progress::Progress;
use tokio::sync::watch;

struct LogReporter;

impl Reporter for LogReporter {
    fn step(&self, name: &'static str) {
        tracing::info!(event = "step", step = name);
    }

    fn progress(&self, _: Progress) {}

    fn notice(&self, text: &str) {
        tracing::info!(event = "notice", "{text}");
    }
}

struct NoOpFailpoints;

impl Failpoints for NoOpFailpoints {
    fn reach(&self, _: &str) {}
}

/// Returns a context that reports to the log and is cancelled through `stop`.
pub fn run_context(stop: watch::Receiver<bool>) -> RunContext {
    RunContext {
        host: Host::system(),
        reporter: Arc::new(LogReporter),
        failpoints: Arc::new(NoOpFailpoints),
        stop,
    }
}

/// Returns the machine's clock.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}
