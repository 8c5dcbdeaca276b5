//! Sessions and statements on MySQL servers, and the server's programs.

pub mod admin_session;
pub mod connection;
mod copy_account;
pub mod dialect;
pub mod error;
pub mod error_log;
pub mod events;
pub mod freeze_locks;
pub mod instance_state;
pub mod mysqld;
pub mod mysqld_process;
pub mod mysqld_version;
pub mod packages;
pub mod plugins;
pub mod recorded_settings;
pub mod recovery_findings;
mod replay_settings;
pub mod replication;
mod replication_filters;
mod secret_file;
pub mod server_facts;
pub mod server_tls;
pub mod server_user;
pub mod source_settings;
pub mod tables;
pub mod tablespaces;
mod tls;
