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
mod serve;
mod support;
