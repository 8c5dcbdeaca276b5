//! Tests of the real `bootstrap` behind a double of Lambda's Runtime API: real servers, a served
//! orchestrator, a real S3 server, a strict double of EC2.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the machine's own clock")]

mod completions;
mod failures;
mod invocations;
mod orchestrator_fallbacks;
mod refusals;
mod rotation;
mod schedule;
mod schedule_to_recovery;
mod support;
