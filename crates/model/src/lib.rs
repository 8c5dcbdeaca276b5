//! Values and decisions of Backstop: no I/O, no async, no clock.
//!
//! One noun or one decision per file. Everything here can be tested with values alone; the caller
//! passes facts about the world (the time, a server's state, the contents of a store).

pub mod archive;
pub mod archive_expiry;
pub mod backup;
pub mod backup_age;
pub mod backup_availability;
pub mod blocking_queries;
pub mod carried_settings;
pub mod credentials;
pub mod duration;
pub mod error;
pub mod extra_options;
pub mod finding;
pub mod freeze;
pub mod gtid;
pub mod ids;
pub mod lambda_event;
pub mod listen_address;
pub mod login_error;
pub mod option_file;
pub mod orchestrator;
pub mod parse_time;
pub mod plan;
pub mod plugins;
pub mod progress;
pub mod recovery_target;
pub mod recovery_window;
pub mod report;
pub mod retention;
pub mod run_history;
pub mod schedule;
pub mod scheduled_events;
pub mod schema_diff;
pub mod secret_entry;
pub mod server;
pub mod session_setup;
pub mod settings;
pub mod shard_identity;
pub mod shard_status;
pub mod shell_quote;
pub mod stream_or_fork;
pub mod suspect_transactions;
pub mod table_check;
pub mod tested_versions;
pub mod topology;
