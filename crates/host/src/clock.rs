//! Wall clock and monotonic clock.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// Wall clock and monotonic clock.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Returns the time of day. Recorded, never compared across hosts.
    fn now(&self) -> DateTime<Utc>;
    /// Returns the time since a fixed moment of this process; never decreases.
    fn monotonic(&self) -> Duration;
    /// Waits for a duration.
    async fn sleep(&self, duration: Duration);
}

/// The clocks of this machine.
#[derive(Debug, Clone)]
pub struct SystemClock {
    begun: Instant,
}

impl SystemClock {
    /// Creates a clock whose monotonic time begins now.
    #[allow(clippy::disallowed_methods, reason = "this is the port's one implementation")]
    pub fn new() -> Self {
        Self { begun: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the port's one implementation")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Duration {
        self.begun.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the port's one implementation")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
