//! The backstop command: the only crate that reads arguments, prints and exits.

pub mod app;
pub mod args;
pub mod commands;
pub mod demo;
mod escape;
mod exit_code;
pub mod failpoints;
mod format;
#[cfg(test)]
mod frozen;
mod help;
pub mod logging;
pub mod output;
pub mod panic_hook;
pub mod parse_args;
pub mod private_process;
pub mod progress;
pub mod render;
pub mod runbooks;
mod secrets;
pub mod signals;
mod systemd;
pub mod terminal;
mod text;
