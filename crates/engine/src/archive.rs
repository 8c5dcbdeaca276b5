//! Archiver: streams the binlog of a shard and stores it, until it is stopped.
//!
//! A loop looks at the shard and at the archive, decides from which server and position to stream
//! ([`backstop_policy::stream_or_fork`]), streams until that ends, and looks again. Background tasks
//! upload the streamed transactions and, if configured, acknowledge them.

mod alerts;
mod archiver;
mod binlog_source;
mod config;
#[cfg(test)]
mod frozen;
mod fsync;
mod gtid_divergence;
mod heartbeat;
mod monitor;
mod preflight;
mod queue;
mod refetch;
mod run;
#[cfg(test)]
mod sample_binlog;
mod semi_sync_ack;
mod spool;
mod spool_bytes;
mod spool_journal;
mod spool_recovery;
mod status;
mod store_check;
mod stream_loop;
mod stream_position;
mod stream_reader;
mod stream_state;
mod synced_chunks;
#[cfg(test)]
mod tests;
mod upload;

pub use binlog_source::ReplicaIdentity;
pub use config::{ArchiveUntil, ArchiverConfig, Encryption, ServerAccess};
pub use preflight::preflight;
pub use run::archive;
pub use status::{ArchiveStatus, ShardArchive, archive_status, check_archive};
