//! Progress output on standard error.

mod bars;
mod lines;
mod ndjson;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use backstop_engine::ports::{Clock, Reporter};
use backstop_types::finding::ALARM;
use backstop_types::progress::{Progress, ProgressUnit};

use crate::terminal::{Colors, OutputFormat, Terminal, Verbosity};
use crate::{escape, format};

/// A reporter with an end, after which results can be printed.
pub trait ProgressOutput: Reporter {
    /// Ends the last step and removes everything from the screen that would disturb a result.
    fn end(&self);
    /// Escapes a line and writes it to standard error, without disturbing a progress bar.
    fn write(&self, line: &str);
}

/// Returns the progress output that suits the terminal.
pub fn progress_output(terminal: &Terminal, clock: Arc<dyn Clock>) -> Arc<dyn ProgressOutput> {
    match (terminal.format, terminal.level) {
        (OutputFormat::Json, level) => Arc::new(ndjson::Ndjson::new(clock, level)),
        (OutputFormat::Text, Verbosity::Quiet) => Arc::new(QuietProgress { terminal: *terminal }),
        (OutputFormat::Text, _) if terminal.live => Arc::new(bars::Bars::new(terminal.stderr)),
        (OutputFormat::Text, _) => Arc::new(lines::Lines::new(clock, terminal.stderr)),
    }
}

/// Prints only messages that require action by the operator.
struct QuietProgress {
    terminal: Terminal,
}

impl Reporter for QuietProgress {
    fn step(&self, _: &'static str) {}

    fn progress(&self, _: Progress) {}

    fn notice(&self, text: &str) {
        to_stderr(&note(self.terminal.stderr, text));
    }

    fn remark(&self, _: &str) {}
}

impl ProgressOutput for QuietProgress {
    fn end(&self) {}

    fn write(&self, line: &str) {
        to_stderr(line);
    }
}

/// Writes a line, and ignores a closed standard error.
fn to_stderr(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Formats a notice for people.
fn note(colors: Colors, text: &str) -> String {
    match text.strip_prefix(ALARM) {
        Some(what) => format!("{}{}", colors.bad(ALARM), escape::lines(what)),
        None => format!("{} {}", colors.warn("note:"), escape::lines(text)),
    }
}

/// Formats a step's name for people.
fn step_words(step: &str) -> String {
    step.replace('_', " ")
}

/// Formats an amount: `1.2 GiB of 3.0 GiB`, `17 of 20 tables`, `1 transaction`.
fn amount(progress: Progress) -> String {
    let Progress { done, total, unit } = progress;
    match (unit, total) {
        (ProgressUnit::Percent, _) => format!("{done} %"),
        (ProgressUnit::Bytes, Some(total)) => format!("{} of {}", format::bytes(done), format::bytes(total)),
        (ProgressUnit::Bytes, None) => format::bytes(done),
        (_, Some(total)) => format!("{} of {}", format::thousands(done), format::count(total, noun(unit))),
        (_, None) => format::count(done, noun(unit)),
    }
}

fn noun(unit: ProgressUnit) -> &'static str {
    match unit {
        ProgressUnit::Bytes => "byte",
        ProgressUnit::Transactions => "transaction",
        ProgressUnit::Tables => "table",
        ProgressUnit::Percent => "percent",
    }
}

/// Formats a rate: `1.2 GiB/s`, `110/s`.
fn rate(per_second: f64, unit: ProgressUnit) -> String {
    match unit {
        ProgressUnit::Bytes => format!("{}/s", format::bytes(per_second as u64)),
        _ if per_second < 9.95 => format!("{per_second:.1}/s"),
        _ => format!("{}/s", format::thousands(per_second.round() as u64)),
    }
}

/// Limits events to one per interval.
struct Throttle {
    clock: Arc<dyn Clock>,
    last: std::sync::Mutex<Duration>,
}

impl Throttle {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let last = std::sync::Mutex::new(clock.monotonic());
        Self { clock, last }
    }

    /// Returns true once per interval.
    fn due(&self, interval: Duration) -> bool {
        let now = self.clock.monotonic();
        let Ok(mut last) = self.last.lock() else { return false };
        let due = now >= *last + interval;
        if due {
            *last = now;
        }
        due
    }

    /// Delays the next event by a whole interval.
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
        assert_eq!(of(142, Some(3080), ProgressUnit::Transactions), "142 of 3,080 transactions");
        assert_eq!(of(23, None, ProgressUnit::Transactions), "23 transactions");
        assert_eq!(of(1, Some(1), ProgressUnit::Tables), "1 of 1 table");
        assert_eq!(of(2048, Some(4096), ProgressUnit::Bytes), "2.0 KiB of 4.0 KiB");
        assert_eq!(of(17, Some(100), ProgressUnit::Percent), "17 %");
    }

    #[test]
    fn rates_have_sensible_decimals() {
        let told = [
            (110.397, ProgressUnit::Transactions),
            (2.25, ProgressUnit::Tables),
            (1536.7, ProgressUnit::Bytes),
        ];
        assert_eq!(told.map(|(rate_, unit)| rate(rate_, unit)), ["110/s", "2.2/s", "1.5 KiB/s"]);
    }
}
