//! Configuration of the archiver of a shard.

use std::path::PathBuf;
use std::sync::Arc;

use backstop_binlog::Dial;
use backstop_config::settings::ArchiveSettings;
use backstop_repo::ArchiveWriter;
use backstop_types::ids::ShardName;

use crate::context::RunContext;
use crate::disk::Disk;
use crate::ports::Topology;
use crate::shared_credentials::SharedCredentials;

/// Inputs of the archiver of a shard.
pub struct ArchiverConfig<'a> {
    /// The shard.
    pub shard: &'a ShardName,
    /// Archive settings of the shard.
    pub settings: &'a ArchiveSettings,
    /// Its members.
    pub topology: &'a dyn Topology,
    /// Access to the binlogs of its members.
    pub access: ServerAccess<'a>,
    /// Its archive.
    pub store: Arc<ArchiveWriter>,
    /// Encryption of the stored segments.
    pub encryption: Encryption,
    /// Names the shard and repository; the source takes archivers with the same name for one.
    pub name: &'a str,
    /// The disk of the spool.
    pub disk: Arc<dyn Disk>,
    /// Folder for transactions that are not archived yet. The caller holds its lock
    /// ([`crate::shard_dir`]).
    pub spool: PathBuf,
    /// Folder that older versions used; another repository may share it.
    pub old_spool: Option<PathBuf>,
    /// Condition that ends archiving.
    pub until: ArchiveUntil,
    /// Host, progress reporter, cancellation.
    pub ctx: &'a RunContext,
}

/// Access to the binlogs of servers.
#[derive(Clone, Copy)]
pub struct ServerAccess<'a> {
    /// Credentials of the servers.
    pub credentials: &'a SharedCredentials,
    /// Opens the sockets.
    pub dial: &'a dyn Dial,
}

/// Encryption of the stored segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Everything is encrypted.
    On,
    /// Nothing is encrypted.
    Off,
}

/// Condition that ends archiving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveUntil {
    /// The user stops it.
    Stopped,
    /// Everything that the source has at the start is archived.
    CaughtUp,
}
