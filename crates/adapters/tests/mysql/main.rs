//! The MySQL adapters against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connect;
mod facts;
mod gtid_arithmetic;
mod members;
mod recovered;
