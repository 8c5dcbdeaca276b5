//! Measures the steps of a recovery.

use std::time::Duration;

use crate::context::RunContext;

/// A stopwatch on the story's clock.
pub(crate) struct Stopwatch<'a> {
    ctx: &'a RunContext,
    begun: Duration,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn start(ctx: &'a RunContext) -> Self {
        Self { ctx, begun: ctx.host.clock.monotonic() }
    }

    pub(crate) fn seconds(&self) -> f64 {
        (self.ctx.host.clock.monotonic() - self.begun).as_secs_f64()
    }
}
