//! The MySQL adapters against real servers.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin_session;
mod compare_schemas;
mod connection;
mod grants;
mod gtid_arithmetic;
mod recorded_settings;
mod refused_logins;
mod replication_filters;
mod server_facts;
mod static_members;
mod support;
