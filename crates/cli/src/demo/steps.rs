//! Steps of the demo: reported when they begin, recorded with their results.

use std::sync::Arc;
use std::time::Duration;

use backstop_engine::context::RunContext;
use backstop_engine::ports::Reporter;
use backstop_engine::report::DemoStep;
use backstop_types::progress::Progress;

/// Steps up to now.
pub(super) struct DemoSteps<'a> {
    pub(super) ctx: &'a RunContext,
    done: Vec<DemoStep>,
    current: (&'static str, Duration),
}

impl<'a> DemoSteps<'a> {
    pub(super) fn new(ctx: &'a RunContext) -> Self {
        Self { ctx, done: Vec::new(), current: ("", Duration::ZERO) }
    }

    /// Begins a step.
    pub(super) fn begin(&mut self, name: &'static str) {
        self.ctx.reporter.step(name);
        self.current = (name, self.ctx.host.clock.monotonic());
    }

    /// Ends the step and records its result.
    pub(super) fn end(&mut self, what: String) {
        let (name, begun) = self.current;
        let seconds = (self.ctx.host.clock.monotonic() - begun).as_secs_f64();
        self.done.push(DemoStep { name: name.to_owned(), what, seconds });
    }

    /// Returns all steps.
    pub(super) fn done(self) -> Vec<DemoStep> {
        self.done
    }
}

/// Passes on the progress of a step; other messages of an operation inside a step only appear with
/// `-v`.
pub(super) struct NestedReporter(pub(super) Arc<dyn Reporter>);

impl Reporter for NestedReporter {
    fn step(&self, name: &'static str) {
        tracing::info!("{name}");
    }

    fn progress(&self, progress: Progress) {
        self.0.progress(progress);
    }

    fn notice(&self, text: &str) {
        tracing::info!("{text}");
    }
}
