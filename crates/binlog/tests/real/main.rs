//! The stream, its segments and the binlog server, with real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr
)]

mod archive;
#[allow(dead_code, reason = "shared with the tests of the program")]
#[path = "../../../cli/tests/hardship/dice.rs"]
mod dice;
mod fuzzed;
mod serve;
mod support;
