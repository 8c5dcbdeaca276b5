//! Helpers of the tests of the function.

pub mod ebs_event;
pub mod environment;
pub mod http_server;
pub mod orchestrator;
#[path = "../../../../cli/tests/hardship/support/program.rs"]
#[allow(dead_code, reason = "shared with the tests of the program")]
pub mod program;
pub mod runtime_api;
