//! Helpers of the test of the runbooks.

pub mod pasted_page;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../hardship/support/program.rs"]
pub mod program;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../pitr/support/recovered_server.rs"]
pub mod recovered_server;
pub mod shell_session;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../../archive/support/stored_archive.rs"]
pub mod stored_archive;
