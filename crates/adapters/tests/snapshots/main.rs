//! Snapshot providers on real servers.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod binlog;
mod btrfs;
mod changed_ranges;
mod clone;
mod freeze;
mod instances;
