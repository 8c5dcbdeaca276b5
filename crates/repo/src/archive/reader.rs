//! Reading the archive of one shard.

use backstop_model::archive::{Alive, Archive, ArchivedSegment, SegmentState};
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::ids::ShardName;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::bytes;
use super::contents::{self, Memory};
use super::journal::Journal;
use super::source::LineSource;
use crate::keys::ArchiveKeys;
use crate::object::ObjectFault;
use crate::shelf::Shelf;

/// Reads the archive of one shard. Cannot write, and needs read access only.
#[derive(Clone)]
pub struct ArchiveReader {
    pub(crate) journal: Journal,
    pub(crate) memory: Memory,
}

impl ArchiveReader {
    pub(crate) fn new(shelf: Shelf, keys: ArchiveKeys, shard: ShardName) -> Self {
        Self { journal: Journal { shelf, keys, shard }, memory: Memory::default() }
    }

    /// What the archive holds now: few requests, most of them at once. What was read before is not read again. Damage is told in it.
    ///
    /// # Errors
    /// The store's.
    pub async fn contents(&self) -> Result<Archive> {
        Ok(contents::read(&self.journal, &self.memory).await?.archive)
    }

    /// What the archiver last told of itself.
    ///
    /// # Errors
    /// The store's.
    pub async fn alive(&self) -> Result<Option<Alive>> {
        contents::alive(&self.journal).await
    }

    /// The bytes of a piece. They are checked while they are read: the read that would end with a wrong byte fails. A piece of the tail
    /// that was replaced meanwhile is read out of the sealed segment that replaced it.
    ///
    /// # Errors
    /// [`Kind::Damaged`] naming the object.
    pub async fn open(&self, segment: &ArchivedSegment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        match bytes::open(&self.journal.shelf, segment).await {
            Ok(bytes) => Ok(Box::new(bytes)),
            Err(ObjectFault::Missing { .. }) if segment.state == SegmentState::Tail => {
                self.within_sealed(segment).await
            }
            Err(fault) => Err(damage(segment, fault)),
        }
    }

    async fn within_sealed(&self, tail: &ArchivedSegment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let archive = self.contents().await?;
        let sealed = archive
            .segments
            .iter()
            .find(|segment| segment.state == SegmentState::Sealed && contents::contains(segment, tail));
        let missing = || ObjectFault::Missing { key: tail.object.clone() };
        let sealed = sealed.ok_or_else(|| damage(tail, missing()))?;
        let mut bytes =
            bytes::open(&self.journal.shelf, sealed).await.map_err(|fault| damage(sealed, fault))?;
        let skip = tail.start - sealed.start;
        tokio::io::copy(&mut (&mut bytes).take(skip), &mut tokio::io::sink())
            .await
            .map_err(|error| Fault::new(Kind::Damaged, format!("read {}: {error}", sealed.object)))?;
        Ok(Box::new(bytes.take(tail.size())))
    }

    /// The history of a line, for a binlog server.
    pub fn line(&self, number: u32) -> LineSource {
        LineSource::new(self.clone(), number)
    }
}

/// A damage with what is affected.
fn damage(segment: &ArchivedSegment, fault: ObjectFault) -> Fault {
    let fault = Fault::from(fault);
    if fault.kind != Kind::Damaged {
        return fault;
    }
    let moments = segment.committed.map_or(String::new(), |(from, to)| {
        format!(", committed from {} to {}", from.to_rfc3339(), to.to_rfc3339())
    });
    let lost = format!("{}: it holds {} ({}){moments}", fault.message, segment.gtids, segment.name());
    Fault { message: lost, ..fault }
}
