//! Everything that is said to a MySQL server, and done with its programs.

pub mod connect;
pub mod error;
