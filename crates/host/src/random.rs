//! Random numbers of the operating system.

use backstop_types::error::{Result, ResultExt};

/// Random numbers, fit for keys.
pub trait Random: Send + Sync {
    /// Fills a buffer with random bytes.
    ///
    /// # Errors
    /// Fails if the system has none.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;
}

impl dyn Random + '_ {
    /// Returns random bytes.
    ///
    /// # Errors
    /// As [`Random::fill`].
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns a random number.
    ///
    /// # Errors
    /// As [`Random::fill`].
    pub fn number(&self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }
}

/// Random numbers of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[allow(clippy::disallowed_methods, reason = "this is the port's one implementation")]
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        getrandom::fill(bytes).failed("cannot read random bytes of the system")
    }
}
