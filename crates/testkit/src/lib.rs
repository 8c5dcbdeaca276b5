//! Real mysqld shards for the tests.
//!
//! Panics instead of returning errors: a shard that cannot be made is a failed test.

#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod accounts;
pub mod aws_stack;
pub mod datadir_template;
pub mod ec2;
pub mod frozen;
pub mod instances_conformance;
pub mod member;
pub mod netns;
mod network;
pub mod network_namespace;
pub mod server_program;
pub mod server_slots;
pub mod server_wrapper;
pub mod shard;
pub mod skewed_clock_store;
pub mod snapshot_conformance;
pub mod tables;
pub mod temp_dir;
pub mod volume;
pub mod workload;

pub use aws_stack::AwsStack;
pub use member::TestMember;
pub use network::TestNetwork;
pub use network_namespace::NetworkNamespace;
pub use shard::{ShardLayout, TestShard};
pub use volume::TestVolume;
pub use workload::TestWorkload;
