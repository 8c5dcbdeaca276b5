//! The stories (backup, recover, prune), and the ports they need. Knows no AWS, no SQL and no terminal.

pub mod access;
pub mod adopt;
pub mod archive;
pub mod backup;
pub mod check;
pub mod choose;
pub mod compare;
pub mod contents;
pub mod find;
#[cfg(test)]
#[path = "../../testkit/src/frozen.rs"]
mod fixtures;
pub mod freeze;
#[cfg(test)]
mod frozen;
pub mod host;
pub mod journal;
mod piece;
pub mod plan;
pub mod ports;
pub mod prune;
pub mod rebuild;
mod recorded;
pub mod recover;
pub mod runs;
pub mod scan;
pub mod sound;
pub mod standing;
pub mod status;
pub mod survey;
pub mod world;
