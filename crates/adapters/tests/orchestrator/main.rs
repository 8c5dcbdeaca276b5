//! Topology through orchestrator: recorded answers of a real one, replayed over real HTTP, and real
//! servers that are queried by SQL.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod leader_and_login;
mod listing;
mod real_servers;
mod support;
mod traps;
