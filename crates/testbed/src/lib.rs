//! A real shard on loopback, and a writer that remembers every commit a server acknowledged: what the demonstration
//! shows and the tests stand on.

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
use backstop_model::progress::Progress;

/// Hears everything and says nothing.
#[derive(Debug, Clone, Copy)]
pub struct QuietReporter;

impl Reporter for QuietReporter {
    fn step(&self, _: &'static str) {}

    fn progress(&self, _: Progress) {}

    fn notice(&self, _: &str) {}
}

/// A number that differs between calls, processes and runs.
pub fn unique_number() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
