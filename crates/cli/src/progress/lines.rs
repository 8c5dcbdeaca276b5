//! Plain lines with the time since the beginning: for logs and terminals that cannot redraw.

use std::sync::Arc;
use std::time::Duration;

use backstop_engine::ports::{Clock, Reporter};
use backstop_model::progress::Progress;

use super::{Narrator, Throttle, amount, to_stderr, words};
use crate::terminal::Paint;

/// How often a long step says how far it is.
const INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Lines {
    clock: Arc<dyn Clock>,
    begun: Duration,
    paint: Paint,
    throttle: Throttle,
}

impl Lines {
    pub(super) fn new(clock: Arc<dyn Clock>, paint: Paint) -> Self {
        let throttle = Throttle::new(clock.clone(), INTERVAL);
        Self { begun: clock.monotonic(), clock, paint, throttle }
    }

    fn line(&self, text: &str) {
        let elapsed = (self.clock.monotonic() - self.begun).as_secs_f64();
        let stamp = self.paint.faint(&format!("[{elapsed:6.1} s]"));
        to_stderr(format!("{stamp} {text}\n").as_bytes());
    }
}

impl Reporter for Lines {
    fn step(&self, name: &'static str) {
        self.throttle.restart();
        self.line(&words(name));
    }

    fn progress(&self, progress: Progress) {
        if self.throttle.due() {
            self.line(&format!("  {}", amount(progress)));
        }
    }

    fn notice(&self, text: &str) {
        self.line(&format!("{} {text}", self.paint.warn("note:")));
    }
}

impl Narrator for Lines {
    fn end(&self) {}

    fn write(&self, text: &[u8]) {
        to_stderr(text);
    }
}
