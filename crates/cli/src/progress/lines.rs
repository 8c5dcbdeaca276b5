//! Plain lines with the elapsed time, for logs and terminals that cannot redraw.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstop_engine::ports::{Clock, Reporter};
use backstop_types::progress::Progress;

use super::{ProgressOutput, Throttle, amount, note, step_words, to_stderr};
use crate::terminal::Colors;

/// Interval between two progress lines of a long step.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Interval between two progress lines of a step without an end, if it progressed in between.
const ENDLESS_STEP_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Lines {
    clock: Arc<dyn Clock>,
    begun: Duration,
    colors: Colors,
    throttle: Throttle,
    /// Progress at the time of the last line.
    told: AtomicU64,
}

impl Lines {
    pub(super) fn new(clock: Arc<dyn Clock>, colors: Colors) -> Self {
        let throttle = Throttle::new(clock.clone());
        Self { begun: clock.monotonic(), clock, colors, throttle, told: AtomicU64::new(0) }
    }

    fn line(&self, text: &str) {
        let elapsed = (self.clock.monotonic() - self.begun).as_secs_f64();
        let stamp = self.colors.faint(&format!("[{elapsed:6.1} s]"));
        to_stderr(&format!("{stamp} {text}"));
    }
}

impl Reporter for Lines {
    fn step(&self, name: &'static str) {
        self.throttle.restart();
        self.told.store(0, Ordering::Relaxed);
        self.line(&step_words(name));
    }

    fn progress(&self, progress: Progress) {
        let every = if progress.total.is_some() { PROGRESS_INTERVAL } else { ENDLESS_STEP_INTERVAL };
        let idle = self.told.load(Ordering::Relaxed) == progress.done;
        if !idle && self.throttle.due(every) {
            self.told.store(progress.done, Ordering::Relaxed);
            self.line(&format!("  {}", amount(progress)));
        }
    }

    fn notice(&self, text: &str) {
        self.line(&note(self.colors, text));
    }
}

impl ProgressOutput for Lines {
    fn end(&self) {}

    fn write(&self, line: &str) {
        to_stderr(line);
    }
}
