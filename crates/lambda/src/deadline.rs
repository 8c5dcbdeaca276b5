//! Deadline at which Lambda ends the function.

use std::sync::Arc;
use std::time::Duration;

use backstop_engine::ports::Clock;
use chrono::DateTime;

/// End of the invocation, on a clock that never goes back.
#[derive(Clone)]
pub struct Deadline {
    clock: Arc<dyn Clock>,
    /// Time on the monotonic clock.
    at: Duration,
}

impl Deadline {
    /// Converts Lambda's milliseconds since 1970.
    pub fn new(millis: u64, clock: Arc<dyn Clock>) -> Self {
        let end = i64::try_from(millis).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
        let left = (end - clock.now()).to_std().unwrap_or_default();
        let at = clock.monotonic() + left;
        Self { clock, at }
    }

    /// Returns the time that is left.
    pub fn left(&self) -> Duration {
        self.at.saturating_sub(self.clock.monotonic())
    }

    /// Waits until only this much time is left.
    pub async fn nears(&self, rest: Duration) {
        self.clock.sleep(self.left().saturating_sub(rest)).await;
    }
}
