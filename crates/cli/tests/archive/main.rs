//! The archiver, as its users run it: against real servers, under load, killed, promoted away from, and refused by its store.
//!
//! `BACKSTOP_TEST_ROUNDS=100` asks for more rounds of kills, `BACKSTOP_TEST_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod archived;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../hardship/dice.rs"]
mod dice;
mod failover;
mod host;
mod identical;
mod kills;
mod known;
mod lost;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../hardship/program.rs"]
mod program;
mod refused;
mod reset;
mod restarted;
mod rotated;
mod rows;
mod shown;
mod slow;
mod spool;
mod statements;
mod store;
mod volume;
