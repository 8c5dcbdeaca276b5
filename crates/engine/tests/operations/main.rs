//! The operations on fakes, without a server, a network or a wait: what they did, in which order,
//! and what they left after a fault at each step.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[path = "../../../repo/tests/support/mod.rs"]
#[allow(unused_imports, unreachable_pub)]
mod support;

mod adopt;
mod backup;
mod check;
mod fakes;
mod find;
mod prune;
mod rebuild;
mod recover;
