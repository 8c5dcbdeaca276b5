//! Helpers of the tests of the archiver.

#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../hardship/support/program.rs"]
pub mod program;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../hardship/support/random.rs"]
pub mod random;
pub mod recoverable_rows;
pub mod stored_archive;
