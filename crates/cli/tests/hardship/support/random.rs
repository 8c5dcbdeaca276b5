//! Repeatable random numbers: the seed comes from `BACKSTOP_TEST_SEED`, or is printed so that a
//! round can be repeated.

use std::time::Duration;

/// A stream of numbers that a seed determines (SplitMix64).
pub struct Random(u64);

impl Random {
    /// Creates a stream with the given seed or a new one, and prints it.
    pub fn new() -> Self {
        let given = std::env::var("BACKSTOP_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
        let seed = given.unwrap_or_else(backstop_testkit::accounts::unique_number);
        eprintln!("BACKSTOP_TEST_SEED={seed}");
        Self(seed)
    }

    /// Returns the next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a time below this one.
    pub fn time(&mut self, below: Duration) -> Duration {
        Duration::from_micros(self.roll() % (below.as_micros() as u64).max(1))
    }
}

/// Returns the number of random kills: `BACKSTOP_TEST_KILLS`, else 20.
pub fn kills() -> usize {
    std::env::var("BACKSTOP_TEST_KILLS").map_or(20, |kills| kills.parse().expect("a number"))
}
