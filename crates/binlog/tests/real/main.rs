//! Tests of the stream, its segments and the binlog server with real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr
)]

mod archive;
mod fuzzed;
#[allow(dead_code, reason = "shared with the tests of the program")]
#[path = "../../../cli/tests/hardship/support/random.rs"]
mod random;
mod serve;
mod support;
