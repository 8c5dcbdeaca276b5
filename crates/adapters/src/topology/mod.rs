//! Members of a shard: from orchestrator, from the configuration, or by discovery.

mod discover;
mod orchestrator;
mod static_members;

pub use discover::{Discovered, discover};
pub use orchestrator::{CANDIDATE_EXPIRED, Orchestrator, OrchestratorTarget};
pub use static_members::StaticMembers;
