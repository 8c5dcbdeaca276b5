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
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../hardship/program.rs"]
mod program;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../hardship/random.rs"]
mod random;
mod random_history;
mod recovered_server;
mod skewed_clock;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../archive/stored_archive.rs"]
mod stored_archive;
mod unusual_settings;
mod workload;
