//! Point-in-time recovery, as its users run it: to the states of a random history, with every
//! ending, killed, and refused.
//!
//! `BACKSTOP_TEST_TARGETS=1000` sets more recoveries, `BACKSTOP_TEST_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod after_prune;
mod binlog_over_4_gib;
mod encrypted;
mod endings;
mod events;
mod gtid_reset;
mod gtid_reuse;
mod handover;
mod kill_replay;
mod plugins;
mod random_history;
mod skewed_clock;
mod support;
mod unusual_settings;
