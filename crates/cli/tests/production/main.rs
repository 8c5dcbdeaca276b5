//! A shard as in production, through its whole life: hosts with separate names and addresses, TLS
//! that every client verifies, accounts with only the grants in `docs/grants.md`, separate
//! directories and a separate user, an encrypted bucket.
//!
//! Needs root, for the hosts' networks, and the tests' S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod cycle;
mod support;
