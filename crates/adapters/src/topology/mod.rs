//! Who is in a shard.

mod members;
mod orchestrator;

pub use members::Members;
pub use orchestrator::{Asked, Orchestrator};
