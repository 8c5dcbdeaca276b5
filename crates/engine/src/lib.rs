//! The stories (backup, recover, prune), and the ports they need. Knows no AWS, no SQL and no terminal.

pub mod contents;
pub mod journal;
pub mod ports;
pub mod recover;
pub mod world;
