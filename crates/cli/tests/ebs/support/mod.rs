//! Helpers of the tests with EBS.

#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../hardship/support/program.rs"]
pub mod program;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../hardship/support/recovered_server.rs"]
pub mod recovered_server;
