//! Failpoints at which tests stop an operation. A release build has none: the feature `faults` is
//! for tests only.

use backstop_engine::ports::Failpoints;

/// Failpoints that never trigger.
#[cfg(not(feature = "faults"))]
pub struct EnvFailpoints;

#[cfg(not(feature = "faults"))]
impl EnvFailpoints {
    /// Reads nothing.
    #[allow(clippy::new_without_default, reason = "the other build has something to read")]
    pub fn new() -> Self {
        Self
    }
}

#[cfg(not(feature = "faults"))]
impl Failpoints for EnvFailpoints {
    fn reach(&self, _point: &str) {}
}

/// Failpoints that send this process the signal in `BACKSTOP_TEST_FAULT`: `kill@before:commit`,
/// `stop@after:snapshot`.
#[cfg(feature = "faults")]
pub struct EnvFailpoints {
    signal: Option<rustix::process::Signal>,
    point: String,
}

#[cfg(feature = "faults")]
impl EnvFailpoints {
    /// Reads `BACKSTOP_TEST_FAULT`.
    #[allow(clippy::new_without_default, reason = "it reads the environment")]
    pub fn new() -> Self {
        let wish = std::env::var("BACKSTOP_TEST_FAULT").unwrap_or_default();
        let (signal, point) = wish.split_once('@').unwrap_or_default();
        let signal = match signal {
            "kill" => Some(rustix::process::Signal::KILL),
            "stop" => Some(rustix::process::Signal::STOP),
            _ => None,
        };
        Self { signal, point: point.to_owned() }
    }
}

#[cfg(feature = "faults")]
impl Failpoints for EnvFailpoints {
    fn reach(&self, point: &str) {
        if let Some(signal) = self.signal
            && self.point == point
        {
            // A failure needs no handling: the test sees that the process still lives.
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
        }
    }
}
