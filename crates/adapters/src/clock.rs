//! The machine's clocks and random numbers.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use backstop_engine::ports::Clock;
use chrono::{DateTime, Utc};

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

    #[allow(clippy::disallowed_methods, reason = "this is the port's one implementation")]
    fn random(&self) -> u64 {
        // A v4 UUID has 122 random bits from the system, 62 of them in a row in the low half.
        uuid::Uuid::new_v4().as_u64_pair().1.rotate_left(2) ^ uuid::Uuid::new_v4().as_u64_pair().0
    }
}
