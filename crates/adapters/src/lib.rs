//! The outside: topology, secrets, MySQL, snapshots. Adapters decide nothing; the stories do.

pub mod ansible;
mod child;
pub mod clock;
pub mod command;
pub mod instances;
pub mod mysql;
pub mod secrets;
pub mod snapshots;
pub mod terraform;
pub mod topology;
