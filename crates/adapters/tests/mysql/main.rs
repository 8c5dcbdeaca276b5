//! The MySQL adapters against real servers.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
mod compare;
mod connect;
mod facts;
mod fidelity;
mod grants;
mod gtid_arithmetic;
mod members;
mod recovered;
mod refused;
mod settings;
