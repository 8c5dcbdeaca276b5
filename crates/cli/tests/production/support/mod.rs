//! Helpers of the test of a production shard.

pub mod application;
pub mod certificates;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../hardship/support/program.rs"]
pub mod program;
pub mod servers;
pub mod settings;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../archive/support/stored_archive.rs"]
pub mod stored_archive;
