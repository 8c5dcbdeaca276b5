//! Who is in a shard.

mod discover;
mod members;
mod orchestrator;

pub use discover::{Discovered, discover};
pub use members::Members;
pub use orchestrator::{Asked, Orchestrator};
