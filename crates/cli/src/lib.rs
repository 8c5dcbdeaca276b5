//! The backstop command: the only part that reads arguments, prints and exits.

pub mod args;
mod cloud;
pub mod commands;
pub mod compose;
pub mod demo;
mod escape;
pub mod faults;
#[cfg(test)]
mod frozen;
mod help;
mod human;
pub mod logs;
pub mod output;
mod page;
pub mod panics;
pub mod progress;
pub mod render;
pub mod runbooks;
mod secrets;
pub mod stop;
mod systemd;
pub mod terminal;
pub mod usage;
