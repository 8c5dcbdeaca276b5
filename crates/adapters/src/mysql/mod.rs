//! Everything that is said to a MySQL server, and done with its programs.

pub mod connect;
mod copy_login;
pub mod dialect;
pub mod error;
pub mod events;
pub mod facts;
mod fidelity;
pub mod findings;
pub mod freeze;
pub mod log;
pub mod packages;
pub mod plugins;
mod private;
pub mod process;
pub mod program;
pub mod recovered;
mod replay;
pub mod replication;
pub mod server;
pub mod server_tls;
pub mod settings;
pub mod source;
pub mod state;
pub mod tables;
pub mod tablespaces;
mod tls;
