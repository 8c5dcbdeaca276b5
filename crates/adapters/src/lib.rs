//! The outside: topology, secrets, MySQL, snapshots. Adapters decide nothing; the stories do.

pub mod clock;
pub mod command;
pub mod mysql;
pub mod snapshots;
pub mod secrets;
pub mod topology;
