//! What a run tells, as lines of the log; and the run's surroundings.

use std::sync::Arc;

use backstop_adapters::clock::SystemClock;
use backstop_engine::ports::{Clock, Faults, Reporter};
use backstop_engine::world::World;
use backstop_model::progress::Progress;
use tokio::sync::watch;

struct Log;

impl Reporter for Log {
    fn step(&self, name: &'static str) {
        tracing::info!(event = "step", step = name);
    }

    fn progress(&self, _: Progress) {}

    fn notice(&self, text: &str) {
        tracing::info!(event = "notice", "{text}");
    }
}

struct Never;

impl Faults for Never {
    fn reach(&self, _: &str) {}
}

/// A world that tells the log, and is stopped through `stop`.
pub fn world(stop: watch::Receiver<bool>) -> World {
    World { clock: clock(), reporter: Arc::new(Log), faults: Arc::new(Never), stop }
}

/// The machine's clock.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}
