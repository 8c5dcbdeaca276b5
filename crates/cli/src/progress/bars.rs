//! Progress bar with rate and time left, redrawn in place, for terminals.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use backstop_engine::ports::Reporter;
use backstop_types::progress::{Progress, ProgressUnit};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::{ProgressOutput, amount, note, rate, step_words, to_stderr};
use crate::format;
use crate::terminal::Colors;

/// Width of a step's name, in columns.
const STEP_NAME_COLUMNS: usize = 20;

pub(super) struct Bars {
    colors: Colors,
    current: Mutex<Option<BarStep>>,
}

struct BarStep {
    name: &'static str,
    bar: ProgressBar,
    counting: Option<ProgressUnit>,
}

impl Bars {
    pub(super) fn new(colors: Colors) -> Self {
        Self { colors, current: Mutex::new(None) }
    }

    /// Replaces the bar of the running step by a permanent line.
    fn finish(&self, step: &BarStep) {
        let took = format::seconds(step.bar.elapsed().as_secs_f64());
        step.bar.finish_and_clear();
        to_stderr(&format!("  {:STEP_NAME_COLUMNS$} {}", step_words(step.name), self.colors.faint(&took)));
    }
}

impl Reporter for Bars {
    fn step(&self, name: &'static str) {
        let Ok(mut current) = self.current.lock() else { return };
        if let Some(step) = current.take() {
            self.finish(&step);
        }
        let bar = ProgressBar::new_spinner().with_style(style("{spinner} {prefix:20} {took}"));
        bar.set_prefix(step_words(name));
        bar.enable_steady_tick(Duration::from_millis(120));
        *current = Some(BarStep { name, bar, counting: None });
    }

    fn progress(&self, progress: Progress) {
        let Ok(mut current) = self.current.lock() else { return };
        let Some(step) = current.as_mut() else { return };
        if step.counting != Some(progress.unit) {
            step.counting = Some(progress.unit);
            step.bar.set_style(counting(progress));
        }
        if let Some(total) = progress.total {
            step.bar.set_length(total);
        }
        step.bar.set_position(progress.done);
    }

    fn notice(&self, text: &str) {
        self.write(&note(self.colors, text));
    }
}

impl ProgressOutput for Bars {
    fn end(&self) {
        let Ok(mut current) = self.current.lock() else { return };
        if let Some(step) = current.take() {
            self.finish(&step);
        }
    }

    fn write(&self, line: &str) {
        let bar = self.current.lock().ok().and_then(|current| current.as_ref().map(|step| step.bar.clone()));
        match bar {
            Some(bar) => bar.suspend(|| to_stderr(line)),
            None => to_stderr(line),
        }
    }
}

/// Returns the style of a bar with the count, its rate, and the time left.
fn counting(progress: Progress) -> ProgressStyle {
    let Progress { unit, total, .. } = progress;
    let counted =
        move |state: &ProgressState| Progress { done: state.pos(), total: total.and(state.len()), unit };
    style(template(progress))
        .with_key("amount", move |state: &ProgressState, out: &mut dyn Write| {
            put(out, &amount(counted(state)))
        })
        .with_key("rate", move |state: &ProgressState, out: &mut dyn Write| {
            put(out, &rate(state.per_sec(), unit))
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn Write| put(out, &whole(state.eta())))
}

fn template(progress: Progress) -> &'static str {
    match (progress.unit, progress.total) {
        (ProgressUnit::Percent, _) => "{spinner} {prefix:20} {bar:24} {amount}, {left} left",
        (_, Some(_)) => "{spinner} {prefix:20} {bar:24} {amount}, {rate}, {left} left",
        (_, None) => "{spinner} {prefix:20} {amount}, {rate}",
    }
}

fn style(template: &str) -> ProgressStyle {
    let drawn = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let drawn = drawn
        .with_key("took", |state: &ProgressState, out: &mut dyn Write| put(out, &whole(state.elapsed())));
    drawn.progress_chars("=> ").tick_chars("|/-\\ ")
}

fn put(out: &mut dyn Write, text: &str) {
    let _ = out.write_str(text);
}

/// Formats a time without fractions of seconds, which would flicker.
fn whole(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format::seconds(seconds as f64),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bar_templates_are_valid() {
        for unit in
            [ProgressUnit::Bytes, ProgressUnit::Tables, ProgressUnit::Transactions, ProgressUnit::Percent]
        {
            for total in [None, Some(1)] {
                ProgressStyle::with_template(template(Progress { done: 0, total, unit })).unwrap();
            }
        }
    }

    #[test]
    fn bar_times_have_no_fractions_of_seconds() {
        let told = [1200, 59_900, 200_000].map(|millis| whole(Duration::from_millis(millis)));
        assert_eq!(told, ["1 s", "59 s", "3 min 20 s"]);
    }
}
