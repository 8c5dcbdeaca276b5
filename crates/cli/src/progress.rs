//! How long work is told while it goes on: on standard error.

mod bars;
mod lines;
mod ndjson;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use backstop_engine::ports::{Clock, Reporter};
use backstop_model::finding::ALARM;
use backstop_model::progress::{Progress, Unit};

use crate::escape;
use crate::human;
use crate::terminal::{Form, Level, Paint, Terminal};

/// A reporter that must be told when the work is over.
pub trait Narrator: Reporter {
    /// The last step is over. Nothing of it stays on the screen that would be in the way of a result.
    fn end(&self);
    /// Writes a line, which is escaped, to standard error without disturbing what is drawn there.
    fn write(&self, line: &str);
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

/// Says only what asks something of the operator.
struct Quiet {
    terminal: Terminal,
}

impl Reporter for Quiet {
    fn step(&self, _: &'static str) {}

    fn progress(&self, _: Progress) {}

    fn notice(&self, text: &str) {
        to_stderr(&note(self.terminal.stderr, text));
    }

    fn remark(&self, _: &str) {}
}

impl Narrator for Quiet {
    fn end(&self) {}

    fn write(&self, line: &str) {
        to_stderr(line);
    }
}

/// Writes a line, and lets a closed standard error be.
fn to_stderr(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// A notice as people see it.
fn note(paint: Paint, text: &str) -> String {
    match text.strip_prefix(ALARM) {
        Some(what) => format!("{}{}", paint.bad(ALARM), escape::lines(what)),
        None => format!("{} {}", paint.warn("note:"), escape::lines(text)),
    }
}

/// A step as people read it.
fn words(step: &str) -> String {
    step.replace('_', " ")
}

/// `1.2 GiB of 3.0 GiB`, `17 of 20 tables`, `1 transaction`.
fn amount(progress: Progress) -> String {
    let Progress { done, total, unit } = progress;
    match (unit, total) {
        (Unit::Percent, _) => format!("{done} %"),
        (Unit::Bytes, Some(total)) => format!("{} of {}", human::bytes(done), human::bytes(total)),
        (Unit::Bytes, None) => human::bytes(done),
        (_, Some(total)) => format!("{} of {}", human::thousands(done), human::count(total, noun(unit))),
        (_, None) => human::count(done, noun(unit)),
    }
}

fn noun(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "byte",
        Unit::Transactions => "transaction",
        Unit::Tables => "table",
        Unit::Percent => "percent",
    }
}

/// `1.2 GiB/s`, `110/s`.
fn rate(per_second: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => format!("{}/s", human::bytes(per_second as u64)),
        _ if per_second < 9.95 => format!("{per_second:.1}/s"),
        _ => format!("{}/s", human::thousands(per_second.round() as u64)),
    }
}

/// Lets through one event per interval.
struct Throttle {
    clock: Arc<dyn Clock>,
    last: std::sync::Mutex<Duration>,
}

impl Throttle {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let last = std::sync::Mutex::new(clock.monotonic());
        Self { clock, last }
    }

    /// True once per interval.
    fn due(&self, interval: Duration) -> bool {
        let now = self.clock.monotonic();
        let Ok(mut last) = self.last.lock() else { return false };
        let due = now >= *last + interval;
        if due {
            *last = now;
        }
        due
    }

    /// The next event waits a whole interval.
    fn restart(&self) {
        if let Ok(mut last) = self.last.lock() {
            *last = self.clock.monotonic();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        let of = |done, total, unit| amount(Progress { done, total, unit });
        assert_eq!(of(142, Some(3080), Unit::Transactions), "142 of 3,080 transactions");
        assert_eq!(of(23, None, Unit::Transactions), "23 transactions");
        assert_eq!(of(1, Some(1), Unit::Tables), "1 of 1 table");
        assert_eq!(of(2048, Some(4096), Unit::Bytes), "2.0 KiB of 4.0 KiB");
        assert_eq!(of(17, Some(100), Unit::Percent), "17 %");
    }

    #[test]
    fn rates_have_sensible_decimals() {
        let told = [(110.397, Unit::Transactions), (2.25, Unit::Tables), (1536.7, Unit::Bytes)];
        assert_eq!(told.map(|(rate_, unit)| rate(rate_, unit)), ["110/s", "2.2/s", "1.5 KiB/s"]);
    }
}
