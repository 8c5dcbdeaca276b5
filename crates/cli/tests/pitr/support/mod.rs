//! Helpers of the tests of point-in-time recovery.

#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../hardship/support/program.rs"]
pub mod program;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../hardship/support/random.rs"]
pub mod random;
pub mod recovered_server;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../archive/support/stored_archive.rs"]
pub mod stored_archive;
pub mod workload;
