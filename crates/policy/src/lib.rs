//! Decisions of Backstop: pure functions that return their reasons. No I/O, no async, no clock.
//!
//! One decision per file. Everything here can be tested with values alone; the caller passes facts
//! about the world (the time, the state of a server, the contents of a store).

pub mod archive_expiry;
pub mod backup_age;
pub mod backup_availability;
pub mod blocking_queries;
pub mod carried_settings;
pub mod config_draft;
pub mod coverage;
pub mod first_day;
pub mod freeze_mode;
pub mod parse_time;
pub mod plan;
pub mod plugins;
pub mod recovery_target;
pub mod recovery_window;
pub mod retention;
pub mod scheduled_events;
pub mod schema_diff;
pub mod shard_identity;
pub mod stream_or_fork;
pub mod table_check;
pub mod tested_versions;
pub mod topology;
