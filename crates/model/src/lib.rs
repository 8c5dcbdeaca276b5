//! Values and decisions of Backstop: no I/O, no async, no clock.
//!
//! One noun or one decision per file. Everything here can be tested with values alone; what has to be
//! known about the world (the time, a server's state, what is stored) is handed in.

pub mod activity;
pub mod archive;
pub mod archiving;
pub mod attention;
pub mod backup;
pub mod broken;
pub mod coverage;
pub mod credentials;
pub mod duration;
pub mod entry;
pub mod events;
pub mod fault;
pub mod finding;
pub mod forget;
pub mod freeze;
pub mod freshness;
pub mod gtid;
pub mod identity;
pub mod ids;
pub mod invocation;
pub mod listen;
pub mod option_file;
pub mod orchestrator;
pub mod own_options;
pub mod plan;
pub mod plugins;
pub mod progress;
pub mod proven;
pub mod recovered;
pub mod refusal;
pub mod report;
pub mod retention;
pub mod runs;
pub mod schedule;
pub mod schema;
pub mod server;
pub mod session;
pub mod settings;
pub mod shell;
pub mod standing;
pub mod suspect;
pub mod target;
pub mod time;
pub mod topology;
