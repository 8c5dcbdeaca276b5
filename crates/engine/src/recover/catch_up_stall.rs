//! Notices that a server no longer catches up with its primary.

use std::time::Duration;

use backstop_types::error::{Error, Result};

use crate::context::RunContext;

/// Time without an applied transaction after which catching up fails.
const CATCH_UP_STALL_TIMEOUT: Duration = Duration::from_secs(600);

/// The least number of transactions that were left, and when it was reached.
pub(crate) struct CatchUpStall<'a> {
    ctx: &'a RunContext,
    left: u64,
    moved: Duration,
}

impl<'a> CatchUpStall<'a> {
    pub(crate) fn begin(ctx: &'a RunContext) -> Self {
        Self { ctx, left: u64::MAX, moved: ctx.host.clock.monotonic() }
    }

    /// Records the number of transactions that are left now.
    pub(crate) fn observe(&mut self, left: u64) {
        if left < self.left {
            (self.left, self.moved) = (left, self.ctx.host.clock.monotonic());
        }
    }

    /// Begins to count towards another set of transactions.
    pub(crate) fn expect_more(&mut self) {
        self.left = u64::MAX;
    }

    /// Fails if no transaction was applied for too long. `server` names it in the hint.
    pub(crate) fn check(&self, server: &str) -> Result<()> {
        if self.ctx.host.clock.monotonic() - self.moved <= CATCH_UP_STALL_TIMEOUT {
            return Ok(());
        }
        let left = self.left;
        let message = format!(
            "cannot catch up with the primary: {left} transactions left, none applied for {CATCH_UP_STALL_TIMEOUT:?}"
        );
        Err(Error::failed(message).hint(format!("check SHOW REPLICA STATUS of {server}")))
    }
}
