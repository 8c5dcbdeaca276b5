//! Real shard on loopback, and a writer that records every commit that a server acknowledged: the
//! basis of the demonstration and of the tests.

pub mod accounts;
pub mod member;
pub mod processes;
pub mod shard;
pub mod tables;
pub mod workload;

pub use member::LocalServer;
pub use shard::Shard;
pub use workload::{Load, Workload, WrittenRows};

use backstop_engine::ports::Reporter;
use backstop_types::progress::Progress;

/// Discards all progress.
#[derive(Debug, Clone, Copy)]
pub struct QuietReporter;

impl Reporter for QuietReporter {
    fn step(&self, _: &'static str) {}

    fn progress(&self, _: Progress) {}

    fn notice(&self, _: &str) {}
}

/// Returns a number that differs between calls, processes and runs.
pub fn unique_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
