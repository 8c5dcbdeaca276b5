//! Hardships that Backstop must survive: the real program, killed, stopped, starved and misled, on
//! real servers.
//!
//! `BACKSTOP_TEST_KILLS=200` sets more random kills, `BACKSTOP_TEST_SEED` repeats a round. The
//! program must be built with the feature `faults`, which lets a test stop it at a named step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod failures;
mod healthy_status;
mod kill_backup;
mod kill_random;
mod kill_recover;
mod private_files;
mod secrets;
mod settings;
mod shard_identity;
mod support;
mod two_at_once;
mod unusual;
mod wrong_input;
