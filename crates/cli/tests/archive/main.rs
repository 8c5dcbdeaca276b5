//! The archiver, as its users run it: against real servers, under load, killed, after promotions,
//! and refused by its store.
//!
//! `BACKSTOP_TEST_ROUNDS=100` sets more rounds of kills, `BACKSTOP_TEST_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod byte_identical;
mod check_and_status;
mod escape;
mod failover;
mod gtid_purged;
mod kill_random;
mod lost_segments;
mod redaction;
mod refusals;
mod reset_binlogs;
mod rotated_passwords;
mod slow_store;
mod spool;
mod spool_host;
mod store_outage;
mod support;
mod unmounted_volume;
