//! Who is in a shard.

mod members;

pub use members::Members;
