//! Values of Backstop that several crates share: no I/O, no async, no clock. One noun per file.

pub mod adopted;
pub mod archive;
pub mod backup;
pub mod completion;
pub mod create_repository;
pub mod ebs_volume;
pub mod error;
pub mod finding;
pub mod freeze;
pub mod gtid;
pub mod ids;
pub mod listen_address;
pub mod login;
pub mod plugins;
pub mod progress;
pub mod run_history;
pub mod scheduled_events;
pub mod server;
pub mod topology;
