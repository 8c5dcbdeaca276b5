//! Where an archiver puts what it streamed.

use std::path::Path;

use async_trait::async_trait;
use backstop_binlog::Segment;
use backstop_model::fault::Result;
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ServerUuid;
use chrono::{DateTime, Utc};

/// One shard's archive, claimed by this archiver.
///
/// Pieces of a server's files are stored in order. What is stored when a call returns outlives every server and this host.
/// A call that failed may have stored its piece: it is repeated as it was.
#[async_trait]
pub trait Archive: Send + Sync {
    /// What the newest line holds.
    async fn held(&self) -> Result<Held>;
    /// Stores a small piece for the time until a segment that contains it is sealed.
    async fn put_tail(&self, piece: &Segment, bytes: Vec<u8>) -> Result<()>;
    /// Stores a segment whose bytes are the whole of this file. The tail's pieces that it contains are removed.
    async fn seal(&self, segment: &Segment, bytes: &Path) -> Result<()>;
    /// Makes one segment of the pieces of the tail, if there are any: those of an archiver that was killed.
    async fn seal_tail(&self) -> Result<()>;
    /// A new line begins: this server lacks these transactions of the newest one.
    async fn begin_line(&self, source: ServerUuid, common: &GtidSet, lacks: &GtidSet) -> Result<()>;
    /// Tells that the archiver lives, and up to where it has everything of its source.
    async fn heartbeat(&self, alive: &Alive) -> Result<()>;
}

/// What the newest line holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Every transaction of the line, with what came before it. `None`: nothing is archived yet.
    pub gtids: Option<GtidSet>,
    /// The last piece of each server's files, sealed or not.
    pub last: Vec<Segment>,
}

impl Held {
    /// The last piece of a server's files.
    pub fn last_of(&self, server: ServerUuid) -> Option<&Segment> {
        self.last.iter().find(|segment| segment.source == server)
    }
}

/// What an archiver tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alive {
    /// The source's history up to the end of what this archiver has archived.
    pub archived: GtidSet,
    /// When the archive last had everything of its source.
    pub caught_up: Option<DateTime<Utc>>,
    /// What is wrong, if something is.
    pub trouble: Option<String>,
}
