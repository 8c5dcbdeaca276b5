//! A bar with rate and time left, redrawn in place: for terminals.

use std::sync::Mutex;
use std::time::Duration;

use backstop_engine::ports::Reporter;
use backstop_model::progress::{Progress, Unit};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Narrator, to_stderr, words};
use crate::human;
use crate::terminal::Paint;

/// Width of a step's name.
const NAME: usize = 20;

pub(super) struct Bars {
    paint: Paint,
    current: Mutex<Option<Step>>,
}

struct Step {
    name: &'static str,
    bar: ProgressBar,
    counting: Option<Unit>,
}

impl Bars {
    pub(super) fn new(paint: Paint) -> Self {
        Self { paint, current: Mutex::new(None) }
    }

    /// Replaces what is drawn for the running step by a line that stays.
    fn finish(&self, step: &Step) {
        let took = human::seconds(step.bar.elapsed().as_secs_f64());
        step.bar.finish_and_clear();
        let done = format!("  {:NAME$} {}\n", words(step.name), self.paint.faint(&took));
        to_stderr(done.as_bytes());
    }
}

impl Reporter for Bars {
    fn step(&self, name: &'static str) {
        let Ok(mut current) = self.current.lock() else { return };
        if let Some(step) = current.take() {
            self.finish(&step);
        }
        let bar = ProgressBar::new_spinner().with_style(style("{spinner} {prefix:20} {elapsed}"));
        bar.set_prefix(words(name));
        bar.enable_steady_tick(Duration::from_millis(120));
        *current = Some(Step { name, bar, counting: None });
    }

    fn progress(&self, progress: Progress) {
        let Ok(mut current) = self.current.lock() else { return };
        let Some(step) = current.as_mut() else { return };
        if step.counting != Some(progress.unit) {
            step.counting = Some(progress.unit);
            step.bar.set_style(style(template(progress)));
        }
        if let Some(total) = progress.total {
            step.bar.set_length(total);
        }
        step.bar.set_position(progress.done);
    }

    fn notice(&self, text: &str) {
        self.write(format!("{} {text}\n", self.paint.warn("note:")).as_bytes());
    }
}

impl Narrator for Bars {
    fn end(&self) {
        let Ok(mut current) = self.current.lock() else { return };
        if let Some(step) = current.take() {
            self.finish(&step);
        }
    }

    fn write(&self, text: &[u8]) {
        let bar = self.current.lock().ok().and_then(|current| current.as_ref().map(|step| step.bar.clone()));
        match bar {
            Some(bar) => bar.suspend(|| to_stderr(text)),
            None => to_stderr(text),
        }
    }
}

fn template(progress: Progress) -> &'static str {
    match (progress.unit, progress.total) {
        (Unit::Bytes, Some(_)) => {
            "{spinner} {prefix:20} {bar:24} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
        }
        (Unit::Bytes, None) => "{spinner} {prefix:20} {binary_bytes}, {binary_bytes_per_sec}",
        (_, Some(_)) => "{spinner} {prefix:20} {bar:24} {human_pos} of {human_len}, {per_sec}, {eta} left",
        (_, None) => "{spinner} {prefix:20} {human_pos}, {per_sec}",
    }
}

fn style(template: &str) -> ProgressStyle {
    let drawn = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    drawn.progress_chars("=> ").tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn templates_are_valid() {
        for unit in [Unit::Bytes, Unit::Items, Unit::Transactions] {
            for total in [None, Some(1)] {
                ProgressStyle::with_template(template(Progress { done: 0, total, unit })).unwrap();
            }
        }
    }
}
