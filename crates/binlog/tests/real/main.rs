//! The stream, its segments and the binlog server, with real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod archive;
mod serve;
mod support;
