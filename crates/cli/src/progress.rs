//! How long work is told while it goes on: on standard error.

mod bars;
mod lines;
mod ndjson;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use backstop_engine::ports::{Clock, Reporter};
use backstop_model::progress::{Progress, Unit};

use crate::human;
use crate::terminal::{Form, Level, Terminal};

/// A reporter that must be told when the work is over.
pub trait Narrator: Reporter {
    /// The last step is over. Nothing of it stays on the screen that would be in the way of a result.
    fn end(&self);
    /// Writes to standard error without disturbing what is drawn there.
    fn write(&self, text: &[u8]);
}

/// Tells progress in the form that fits the terminal.
pub fn narrator(terminal: &Terminal, clock: Arc<dyn Clock>) -> Arc<dyn Narrator> {
    match (terminal.form, terminal.level) {
        (Form::Json, level) => Arc::new(ndjson::Ndjson::new(clock, level)),
        (Form::Text, Level::Quiet) => Arc::new(Quiet { terminal: *terminal }),
        (Form::Text, _) if terminal.live => Arc::new(bars::Bars::new(terminal.stderr)),
        (Form::Text, _) => Arc::new(lines::Lines::new(clock, terminal.stderr)),
    }
}

/// Says only what matters.
struct Quiet {
    terminal: Terminal,
}

impl Reporter for Quiet {
    fn step(&self, _: &'static str) {}

    fn progress(&self, _: Progress) {}

    fn notice(&self, text: &str) {
        to_stderr(format!("{} {text}\n", self.terminal.stderr.warn("note:")).as_bytes());
    }
}

impl Narrator for Quiet {
    fn end(&self) {}

    fn write(&self, text: &[u8]) {
        to_stderr(text);
    }
}

/// Writes, and lets a closed standard error be.
fn to_stderr(text: &[u8]) {
    let _ = std::io::stderr().lock().write_all(text);
}

/// A step as people read it.
fn words(step: &str) -> String {
    step.replace('_', " ")
}

/// `1.2 GiB of 3.0 GiB`, `17 of 20`.
fn amount(progress: Progress) -> String {
    let one = |count: u64| match progress.unit {
        Unit::Bytes => human::bytes(count),
        Unit::Transactions | Unit::Items => human::thousands(count),
    };
    match progress.total {
        Some(total) => format!("{} of {}", one(progress.done), one(total)),
        None => one(progress.done),
    }
}

/// Lets through one event per interval.
struct Throttle {
    clock: Arc<dyn Clock>,
    interval: Duration,
    next: std::sync::Mutex<Duration>,
}

impl Throttle {
    fn new(clock: Arc<dyn Clock>, interval: Duration) -> Self {
        let next = std::sync::Mutex::new(clock.monotonic() + interval);
        Self { clock, interval, next }
    }

    /// True once per interval.
    fn due(&self) -> bool {
        let now = self.clock.monotonic();
        let Ok(mut next) = self.next.lock() else { return false };
        let due = now >= *next;
        if due {
            *next = now + self.interval;
        }
        due
    }

    /// The next event waits a whole interval.
    fn restart(&self) {
        if let Ok(mut next) = self.next.lock() {
            *next = self.clock.monotonic() + self.interval;
        }
    }
}
