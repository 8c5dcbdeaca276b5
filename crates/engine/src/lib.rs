//! The stories (backup, recover, prune), and the ports they need. Knows no AWS, no SQL and no terminal.

pub mod backup;
pub mod contents;
pub mod journal;
pub mod plan;
pub mod ports;
pub mod recover;
pub mod scan;
pub mod world;
