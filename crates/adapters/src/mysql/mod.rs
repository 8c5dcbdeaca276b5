//! Everything that is said to a MySQL server, and done with its programs.

pub mod connect;
pub mod error;
pub mod log;
pub mod packages;
pub mod process;
pub mod program;
pub mod server;
