//! Simulation of a shard and its archive: archivers on a simulated clock, store, disk and server,
//! with faults drawn from a seed, and an oracle that sees every acknowledgement.
//!
//! `docs/simulation.md` says what the simulation reaches and what covers the rest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod archiver;
pub mod binlog_bytes;
pub mod bucket;
pub mod dice;
pub mod disk;
pub mod fork;
pub mod keeper;
pub mod oracle;
pub mod process;
pub mod schedule;
pub mod search;
pub mod server;
pub mod session;
pub mod store;
pub mod trace;
pub mod truth;
pub mod world;
