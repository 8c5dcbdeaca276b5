//! Reads the archive of one shard.

use std::collections::BTreeMap;

use backstop_types::archive::{Archive, ArchiveDamage, ArchivedSegment, ArchiverHeartbeat, SegmentState};
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::ShardName;
use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::index::{self, ArchiveCache};
use super::journal::ArchiveJournal;
use super::segment_reader;
use crate::encrypted_store::EncryptedStore;
use crate::keys::ArchiveKeys;
use crate::object::ObjectError;
use crate::{DamageRecord, known_damage};

/// Number of concurrent requests.
const PARALLEL_HEADS: usize = 64;

/// Reader of the archive of one shard. It cannot write, and needs read access only.
#[derive(Clone)]
pub struct ArchiveReader {
    pub(crate) journal: ArchiveJournal,
    pub(crate) cache: ArchiveCache,
}

impl ArchiveReader {
    pub(crate) fn new(store: EncryptedStore, keys: ArchiveKeys, shard: ShardName) -> Self {
        Self { journal: ArchiveJournal { store, keys, shard }, cache: ArchiveCache::default() }
    }

    /// Returns the current contents of the archive, with few requests, most of them concurrent. It
    /// never reads the same object twice. The result lists damage.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn contents(&self) -> Result<Archive> {
        Ok(index::read_archive(&self.journal, &self.cache).await?.archive)
    }

    /// Returns the contents as [`ArchiveReader::contents`] does, but lists a segment as damage, and
    /// not among the segments, if its object is missing, has another size, or was found damaged by
    /// a verification.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn checked(&self) -> Result<Archive> {
        let (mut archive, found) = futures::try_join!(self.sized(), self.found())?;
        // The others were checked just now.
        let known: BTreeMap<&str, &str> = found
            .damaged
            .iter()
            .filter(|damage| damage.in_content)
            .map(|damage| (damage.object.as_str(), damage.wrong.as_str()))
            .collect();
        let (sound, damaged): (Vec<_>, Vec<_>) =
            archive.segments.into_iter().partition(|segment| !known.contains_key(segment.object.as_str()));
        archive.segments = sound;
        for segment in damaged {
            let wrong = known.get(segment.object.as_str()).map_or(String::new(), |wrong| (*wrong).to_owned());
            archive.damaged.push(lost_segment(segment, wrong));
        }
        Ok(archive)
    }

    /// Returns the damage that verifications have recorded and that no later one found whole.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn found(&self) -> Result<DamageRecord> {
        known_damage::read_damage(&self.journal.store, &self.journal.keys.found()).await
    }

    /// Returns the contents, checked by names and sizes.
    pub(super) async fn sized(&self) -> Result<Archive> {
        let store = &self.journal.store;
        let directory = self.journal.keys.segments();
        let (mut contents, stored) = futures::try_join!(self.contents(), store.list(&directory))?;
        let sizes: BTreeMap<String, u64> = stored.into_iter().collect();
        let (sound, doubtful): (Vec<_>, Vec<_>) = contents
            .segments
            .into_iter()
            .partition(|segment| wrong_size(segment, sizes.get(&segment.object)).is_none());
        contents.segments = sound;
        // It may have been stored since the list was made.
        let looks = doubtful.into_iter().map(|segment| async move {
            let size = store.size(&segment.object).await?;
            Ok::<_, Error>((segment, size))
        });
        let looked: Vec<_> = futures::stream::iter(looks).buffered(PARALLEL_HEADS).try_collect().await?;
        for (segment, size) in looked {
            match wrong_size(&segment, size.as_ref()) {
                None => contents.segments.push(segment),
                Some(wrong) => contents.damaged.push(lost_segment(segment, wrong)),
            }
        }
        contents.segments.sort_by_key(|segment| segment.number);
        Ok(contents)
    }

    /// Returns the archiver's last heartbeat.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn alive(&self) -> Result<Option<ArchiverHeartbeat>> {
        index::archiver_heartbeat(&self.journal).await
    }

    /// Opens the bytes of a segment. They are checked while they are read: the read that would end
    /// with a wrong byte fails. A tail segment that was replaced in between is read from the sealed
    /// segment that replaced it.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`], naming the object.
    pub async fn open(&self, segment: &ArchivedSegment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        match segment_reader::open_segment(&self.journal.store, segment).await {
            Ok(bytes) => Ok(Box::new(bytes)),
            Err(ObjectError::Missing { .. }) if segment.state == SegmentState::Tail => {
                self.within_sealed(segment).await
            }
            Err(error) => Err(damaged_object(segment, error)),
        }
    }

    async fn within_sealed(&self, tail: &ArchivedSegment) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let archive = self.contents().await?;
        let sealed = archive
            .segments
            .iter()
            .find(|segment| segment.state == SegmentState::Sealed && index::contains_tail(segment, tail));
        let missing = || ObjectError::Missing { key: tail.object.clone() };
        let sealed = sealed.ok_or_else(|| damaged_object(tail, missing()))?;
        let mut bytes = segment_reader::open_segment(&self.journal.store, sealed)
            .await
            .map_err(|failure| damaged_object(sealed, failure))?;
        let skip = tail.start - sealed.start;
        tokio::io::copy(&mut (&mut bytes).take(skip), &mut tokio::io::sink()).await.map_err(|error| {
            Error::new(ErrorKind::Damaged, format!("cannot read {}: {error}", sealed.object))
        })?;
        Ok(Box::new(bytes.take(tail.size())))
    }
}

/// Describes the fault of a segment's object by its size in the store.
fn wrong_size(segment: &ArchivedSegment, size: Option<&u64>) -> Option<String> {
    match (segment.state, size) {
        // Its entry was read, and the segment is in the same object.
        (SegmentState::Tail, _) => None,
        (SegmentState::Sealed, None) => Some("it is missing".to_owned()),
        (SegmentState::Sealed, Some(size)) if *size != segment.stored_bytes => {
            Some(format!("it has {size} bytes, not the {} it was stored with", segment.stored_bytes))
        }
        (SegmentState::Sealed, Some(_)) => None,
    }
}

/// Describes the loss of a segment.
pub(super) fn lost_segment(segment: ArchivedSegment, wrong: String) -> ArchiveDamage {
    ArchiveDamage {
        object: segment.object,
        wrong,
        timeline: Some(segment.timeline),
        committed: segment.segment.committed,
        gtids: segment.segment.gtids,
    }
}

/// Describes damage with the affected transactions and times.
fn damaged_object(segment: &ArchivedSegment, error: ObjectError) -> Error {
    let error = Error::from(error);
    if error.kind != ErrorKind::Damaged {
        return error;
    }
    let moments = segment.committed.map_or(String::new(), |(from, to)| {
        format!(", committed from {} to {}", from.to_rfc3339(), to.to_rfc3339())
    });
    let lost = format!("{}: it holds {} ({}){moments}", error.message, segment.gtids, segment.name());
    Error { message: lost, ..error }
}
