//! Configuration file, secrets and schedules, parsed from text: no I/O. Every error in a text is
//! reported at once, with its line.

pub mod credentials;
pub mod duration;
pub mod extra_options;
pub mod option_file;
pub mod retention;
pub mod schedule;
pub mod secret_entry;
pub mod settings;
