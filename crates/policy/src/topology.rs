//! Members of a shard, and the choice of the one to back up.

mod choose_source;
mod last_known;
mod primary;
mod replication_filters;

pub use choose_source::{NoSource, choose_source, second_choices};
pub use last_known::last_known;
pub use primary::{current_primary, errant};
pub use replication_filters::{doubt, fidelity_findings};

#[cfg(test)]
mod tests;
