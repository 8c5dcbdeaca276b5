//! Real mysqld shards for the tests.
//!
//! Panics where a test would: a shard that cannot be made is a failed test.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod accounts;
pub mod cloud;
pub mod ec2;
pub mod folder;
pub mod frozen;
pub mod ledger;
pub mod machine;
pub mod member;
pub mod namespaces;
mod network;
pub mod program;
pub mod shard;
pub mod shifted;
pub mod slots;
pub mod snapshots;
pub mod tables;
pub mod template;
pub mod volume;
pub mod wrapped;

pub use cloud::Cloud;
pub use ledger::Ledger;
pub use machine::Machine;
pub use member::Member;
pub use network::Network;
pub use shard::{Layout, Shard};
pub use volume::Volume;
