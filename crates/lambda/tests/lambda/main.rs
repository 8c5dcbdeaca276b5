//! Tests of the real `bootstrap` behind a double of Lambda's Runtime API: real servers, a served
//! orchestrator, a real S3 server, a strict double of EC2.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the machine's own clock")]

mod environment;
mod failures;
mod http_server;
mod invocations;
mod orchestrator;
#[path = "../../../cli/tests/hardship/support/program.rs"]
#[allow(dead_code, reason = "shared with the tests of the program")]
mod program;
mod refusals;
mod runtime_api;
mod schedule;
mod schedule_to_recovery;
