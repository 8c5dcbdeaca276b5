//! Point-in-time recovery, as its users run it: to the states of a random history, ended in every way, killed, and refused.
//!
//! `BACKSTOP_TEST_TARGETS=1000` asks for more recoveries, `BACKSTOP_TEST_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../archive/archived.rs"]
mod archived;
mod beyond;
mod clock;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../hardship/dice.rs"]
mod dice;
mod encrypted;
mod endings;
mod events;
mod handover;
mod hostile;
mod killed;
mod oracle;
mod plugins;
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../hardship/program.rs"]
mod program;
mod pruned;
mod rebuilt;
mod reset;
mod reused;
mod workload;
