//! Adapters to the outside: topology, secrets, MySQL, snapshots. They decide nothing; the engine
//! does.

pub mod ansible;
pub mod backup_instances;
pub mod command;
pub mod mysql;
pub mod secrets;
pub mod snapshot_target;
pub mod snapshots;
mod subprocess;
pub mod terraform;
pub mod topology;
