//! Sealed segment as an object: `frames of the segment | frames of the JSON | one frame: number of
//! the segment's frames (u32)`.
//!
//! The JSON describes the segment as the entry or index that names it does: a lost index is rebuilt
//! from these descriptions. Segments of older versions consist of the frames of the segment alone.

use backstop_types::archive::{ArchivedSegment, Segment, SegmentState, Timeline};
use backstop_types::error::{Error, ErrorKind, Result, ResultExt};
use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::entry::SegmentFacts;
use super::index::ArchiveContents;
use super::journal::ArchiveJournal;
use super::trailer;
use crate::object::{Encoder, ExpectedObject, MAX_FRAME_BYTES, ObjectError, ObjectKind, ObjectResult};
use crate::{ObjectRef, keys};

/// Bytes of a segment per part of an upload.
const PART_BYTES: usize = 4 << 20;
/// Number of newest segments whose trailers are read: the archiver stores only a few at a time, and
/// their entries are the newest.
const TRAILERS_READ: usize = 8;

/// Description of a segment in its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentTrailer {
    /// Key of its object, to detect an object under another's name.
    pub(crate) object: String,
    /// Its number in the archive.
    pub(crate) number: u64,
    /// Entries that it replaces. If empty, its number is that of the entry that names it.
    pub(crate) replaces: Vec<u64>,
    #[serde(rename = "piece")]
    pub(crate) segment: SegmentFacts,
    /// Every timeline begun before it was stored.
    #[serde(rename = "lines")]
    pub(crate) timelines: Vec<Timeline>,
}

impl SegmentTrailer {
    /// Returns the least number of the entry that names it.
    pub(crate) fn reaches(&self) -> u64 {
        self.replaces.iter().max().map_or(self.number, |last| last + 1)
    }
}

/// Segment found in the store, and its object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FoundSegment {
    pub(crate) facts: SegmentTrailer,
    pub(crate) object: ObjectRef,
}

impl FoundSegment {
    pub(crate) fn stored(&self) -> ArchivedSegment {
        self.facts.segment.clone().stored(self.facts.number, SegmentState::Sealed, &self.object)
    }
}

/// Reads the description of a segment. `None`: an older version stored it, without a description.
pub(crate) async fn find(journal: &ArchiveJournal, key: &str) -> ObjectResult<Option<FoundSegment>> {
    let expected = ExpectedObject { kind: ObjectKind::Segment, key, reference: None };
    let Some(trailer) = trailer::read(&journal.store, expected).await? else { return Ok(None) };
    // The end of a binlog can look like a count; the bytes before it are then no JSON.
    let Ok(facts) = serde_json::from_slice::<SegmentTrailer>(&trailer.json) else { return Ok(None) };
    if facts.object != key {
        return Err(ObjectError::damaged(key, "it is another object, stored under this name"));
    }
    let segment = &facts.segment.segment;
    let size = segment.end.checked_sub(segment.start);
    if size.map(frames) != Some(trailer.frames) {
        return Err(ObjectError::damaged(key, "its number of frames does not fit its segment"));
    }
    Ok(Some(FoundSegment { facts, object: trailer.object }))
}

/// Returns the number of frames of a segment of this size in bytes.
pub(super) fn frames(size: u64) -> usize {
    size.div_ceil(MAX_FRAME_BYTES as u64) as usize
}

/// Stores the bytes of a segment as a separate object, after checking them, followed by its
/// description.
pub(super) async fn store(
    journal: &ArchiveJournal,
    facts: &SegmentTrailer,
    bytes: Vec<Box<dyn AsyncRead + Send + Unpin>>,
) -> Result<ObjectRef> {
    let key = &facts.object;
    let (parts, uploaded) = mpsc::channel(2);
    let encoded = async {
        let mut encoder = Encoder::new(ObjectKind::Segment, key, &journal.store.cipher)?;
        encode(&mut encoder, &facts.segment.segment, bytes, &parts).await?;
        trailer::write(&mut encoder, &serde_json::to_vec(facts).failed(format!("cannot write {key}"))?)?;
        let (end, object) = encoder.finish();
        send(&parts, end).await?;
        drop(parts);
        Ok(object)
    };
    let (object, ()) = futures::try_join!(encoded, journal.store.put_stream(key, uploaded))?;
    // The tail that it replaces is removed next. This check detects a store that reported success
    // and lost the segment.
    let found = journal.store.size(key).await?;
    if found != Some(object.size) {
        let found = found.map_or("nothing".to_owned(), |size| format!("{size} bytes"));
        let wrote = object.size;
        let message = format!("cannot write {key}: the store has {found}, but {wrote} bytes were written");
        return Err(Error::new(ErrorKind::Store, message)
            .hint("check the store: it lost data that it reported as written"));
    }
    Ok(object)
}

/// Encodes the frames of a segment, and hands on their bytes as they become ready.
async fn encode(
    encoder: &mut Encoder,
    segment: &Segment,
    bytes: Vec<Box<dyn AsyncRead + Send + Unpin>>,
    parts: &mpsc::Sender<Bytes>,
) -> Result<()> {
    let (mut frame, mut hasher, mut size) = (Vec::with_capacity(MAX_FRAME_BYTES), blake3::Hasher::new(), 0);
    for mut input in bytes {
        loop {
            let room = (MAX_FRAME_BYTES - frame.len()) as u64;
            let read = (&mut input).take(room).read_to_end(&mut frame).await;
            let read = read.failed(format!("cannot read {} to store it", segment.file))?;
            size += read as u64;
            hasher.update(&frame[frame.len() - read..]);
            if frame.len() < MAX_FRAME_BYTES {
                break;
            }
            encoder.frame(&frame)?;
            frame.clear();
            if let Some(part) = encoder.take(PART_BYTES) {
                send(parts, part).await?;
            }
        }
    }
    if !frame.is_empty() {
        encoder.frame(&frame)?;
    }
    if size != segment.size() || *hasher.finalize().as_bytes() != segment.hash.0 {
        return Err(Error::failed(format!(
            "cannot store {} at {}: the bytes are not those of the segment",
            segment.file, segment.start
        )));
    }
    Ok(())
}

async fn send(parts: &mpsc::Sender<Bytes>, part: Bytes) -> Result<()> {
    parts.send(part).await.map_err(|_| Error::failed("cannot store a segment: the upload has ended"))
}

/// Returns the newest entry number that segments of the newest lease record, if more entries than
/// the one in progress are missing; 0 otherwise.
pub(super) async fn newest_told(journal: &ArchiveJournal, contents: &ArchiveContents) -> Result<u64> {
    let lease = contents.newest_lease().map_or(0, |(_, lease)| lease);
    let directory = journal.keys.segments();
    let mut listed = journal.store.list_after(&directory, &journal.keys.segment(lease, 0)).await?;
    listed.sort();
    let newest =
        listed.iter().rev().filter(|key| keys::number_in(&directory, key).is_some()).take(TRAILERS_READ);
    let mut told = 0;
    for found in join_all(newest.map(|key| find(journal, key))).await {
        match found {
            Ok(found) => told = told.max(found.map_or(0, |found| found.facts.reaches())),
            Err(ObjectError::Store(error)) => return Err(error),
            // An unreadable segment gives no number.
            Err(_) => {}
        }
    }
    // The entry of the segment that was stored last may never have been written.
    Ok(if told > contents.newest + 1 { told } else { 0 })
}
