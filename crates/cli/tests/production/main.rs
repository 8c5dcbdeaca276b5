//! A shard as it is in production, through everything that happens to one: hosts with names and addresses of their own, TLS that everyone
//! verifies, accounts that may do what `docs/grants.md` says and no more, directories and a user of its own, an encrypted bucket.
//!
//! Needs root, for the hosts' networks, and the tests' S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod application;
mod certificates;
mod cycle;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../hardship/program.rs"]
mod program;
mod servers;
mod settings;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../archive/stored_archive.rs"]
mod stored_archive;
