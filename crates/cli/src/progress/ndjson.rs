//! One JSON object a line: for programs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_engine::ports::{Clock, Reporter};
use backstop_model::progress::{Progress, Unit};
use backstop_model::report::VERSION;
use serde_json::{Value, json};

use super::{Narrator, Throttle, to_stderr};
use crate::escape;
use crate::terminal::Level;

/// How often a long step says how far it is.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Ndjson {
    clock: Arc<dyn Clock>,
    begun: Duration,
    level: Level,
    throttle: Throttle,
    step: Mutex<&'static str>,
}

impl Ndjson {
    pub(super) fn new(clock: Arc<dyn Clock>, level: Level) -> Self {
        let throttle = Throttle::new(clock.clone());
        Self { begun: clock.monotonic(), clock, level, throttle, step: Mutex::new("") }
    }

    /// One event: `version`, `seconds` since the beginning, and its own fields.
    fn event(&self, mut event: Value) {
        if let Value::Object(fields) = &mut event {
            fields.insert("version".to_owned(), VERSION.into());
            let elapsed = (self.clock.monotonic() - self.begun).as_secs_f64();
            fields.insert("seconds".to_owned(), elapsed.into());
        }
        to_stderr(&escape::json(&event.to_string()));
    }
}

impl Reporter for Ndjson {
    fn step(&self, name: &'static str) {
        self.throttle.restart();
        if let Ok(mut step) = self.step.lock() {
            *step = name;
        }
        if self.level > Level::Quiet {
            self.event(json!({"event": "step", "step": name}));
        }
    }

    fn progress(&self, progress: Progress) {
        if self.level == Level::Quiet || !self.throttle.due(INTERVAL) {
            return;
        }
        let unit = match progress.unit {
            Unit::Bytes => "bytes",
            Unit::Transactions => "transactions",
            Unit::Tables | Unit::Percent => "items",
        };
        let step = self.step.lock().map_or("", |step| *step);
        let (done, total) = (progress.done, progress.total);
        self.event(json!({"event": "progress", "step": step, "done": done, "total": total, "unit": unit}));
    }

    fn notice(&self, text: &str) {
        self.event(json!({"event": "notice", "text": text}));
    }

    fn remark(&self, text: &str) {
        if self.level > Level::Quiet {
            self.notice(text);
        }
    }
}

impl Narrator for Ndjson {
    fn end(&self) {}

    fn write(&self, line: &str) {
        to_stderr(line);
    }
}
