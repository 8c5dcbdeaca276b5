//! Progress as one JSON object per line, for programs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_engine::ports::{Clock, Reporter};
use backstop_engine::report::REPORT_VERSION;
use backstop_types::progress::{Progress, ProgressUnit};
use serde_json::{Value, json};

use super::{ProgressOutput, Throttle, to_stderr};
use crate::escape;
use crate::terminal::Verbosity;

/// Interval between two progress events of a long step.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Ndjson {
    clock: Arc<dyn Clock>,
    begun: Duration,
    level: Verbosity,
    throttle: Throttle,
    step: Mutex<&'static str>,
}

impl Ndjson {
    pub(super) fn new(clock: Arc<dyn Clock>, level: Verbosity) -> Self {
        let throttle = Throttle::new(clock.clone());
        Self { begun: clock.monotonic(), clock, level, throttle, step: Mutex::new("") }
    }

    fn event(&self, event: Value) {
        to_stderr(&line(event, self.clock.monotonic() - self.begun));
    }
}

/// Formats one event: `version`, `seconds` since the beginning, and the event's own fields.
fn line(mut event: Value, elapsed: Duration) -> String {
    if let Value::Object(fields) = &mut event {
        fields.insert("version".to_owned(), REPORT_VERSION.into());
        fields.insert("seconds".to_owned(), elapsed.as_secs_f64().into());
    }
    escape::json(&event.to_string()).into_owned()
}

fn began(step: &str) -> Value {
    json!({"event": "step", "step": step})
}

fn moved(step: &str, progress: Progress) -> Value {
    let unit = match progress.unit {
        ProgressUnit::Bytes => "bytes",
        ProgressUnit::Transactions => "transactions",
        ProgressUnit::Tables | ProgressUnit::Percent => "items",
    };
    let (done, total) = (progress.done, progress.total);
    json!({"event": "progress", "step": step, "done": done, "total": total, "unit": unit})
}

fn noted(text: &str) -> Value {
    json!({"event": "notice", "text": text})
}

impl Reporter for Ndjson {
    fn step(&self, name: &'static str) {
        self.throttle.restart();
        if let Ok(mut step) = self.step.lock() {
            *step = name;
        }
        if self.level > Verbosity::Quiet {
            self.event(began(name));
        }
    }

    fn progress(&self, progress: Progress) {
        if self.level == Verbosity::Quiet || !self.throttle.due(PROGRESS_INTERVAL) {
            return;
        }
        let step = self.step.lock().map_or("", |step| *step);
        self.event(moved(step, progress));
    }

    fn notice(&self, text: &str) {
        self.event(noted(text));
    }

    fn remark(&self, text: &str) {
        if self.level > Verbosity::Quiet {
            self.notice(text);
        }
    }
}

impl ProgressOutput for Ndjson {
    fn end(&self) {}

    fn write(&self, line: &str) {
        to_stderr(line);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::panic)]
    use backstop_testkit::every;
    use backstop_testkit::frozen::frozen;

    use super::*;

    #[test]
    fn progress_events_stay_the_same() {
        let units = every!(ProgressUnit: ProgressUnit::Bytes, ProgressUnit::Transactions, ProgressUnit::Tables, ProgressUnit::Percent);
        let progress = units.into_iter().zip([Some(9), Some(9), Some(9), None]);
        let progress = progress.map(|(unit, total)| moved("store", Progress { done: 3, total, unit }));
        let events = [began("store"), noted("a note")].into_iter().chain(progress);
        let lines = events.map(|event| line(event, Duration::from_millis(1500)) + "\n");
        frozen("progress.ndjson", &lines.collect::<String>());
    }
}
