//! Entry of the journal as an object: `frames of the segment | frames of the JSON | one frame:
//! number of the segment's frames (u32)`.
//!
//! The content of an entry is at its end, so that one request can read it without the segment.

use backstop_types::archive::{ArchivedSegment, SegmentHash, SegmentState, Timeline};
use backstop_types::error::{Result, ResultExt};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{ServerUuid, ShardName};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::trailer::{self, Trailer};
use crate::ObjectRef;
use crate::encrypted_store::EncryptedStore;
use crate::object::{Encoder, ExpectedObject, ObjectError, ObjectKind, ObjectResult};

/// Content of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    /// Its number, which is also its name.
    pub(crate) number: u64,
    /// Lease under which it was written.
    #[serde(rename = "claim")]
    pub(crate) lease: u64,
    /// Distinguishes entries of the same number.
    pub(crate) nonce: Uuid,
    /// Time of writing, by the writer's clock.
    pub(crate) at: DateTime<Utc>,
    pub(crate) shard: ShardName,
    pub(crate) what: EntryKind,
    /// In a lease entry: the previous archiver may still be asleep, so this number must stay taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fences: bool,
}

impl JournalEntry {
    /// Returns the segment that the entry names.
    pub(crate) fn sealed(&self) -> Option<ArchivedSegment> {
        let EntryKind::Sealed { facts, object, replaces } = &self.what else { return None };
        let number = replaces.first().copied().unwrap_or(self.number);
        Some(facts.stored(number, SegmentState::Sealed, object))
    }
}

/// Event of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntryKind {
    /// A process acquired the archive lease: entries of an earlier holder from here on are void,
    /// because it can no longer append.
    #[serde(rename = "claim")]
    Lease,
    /// A timeline begins.
    #[serde(rename = "line")]
    Timeline(Timeline),
    /// A tail segment; its bytes are in this object.
    Tail(SegmentFacts),
    /// A sealed segment, and the entries that are no longer needed.
    Sealed {
        #[serde(rename = "piece")]
        facts: SegmentFacts,
        object: ObjectRef,
        replaces: Vec<u64>,
    },
}

/// Facts of a segment of a binlog file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentFacts {
    #[serde(rename = "line")]
    pub(crate) timeline: u32,
    pub(crate) source: ServerUuid,
    pub(crate) file: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) previous: GtidSet,
    pub(crate) gtids: GtidSet,
    pub(crate) committed: Option<(DateTime<Utc>, DateTime<Utc>)>,
    pub(crate) hash: SegmentHash,
}

impl SegmentFacts {
    pub(crate) fn new(timeline: u32, segment: &backstop_binlog::Segment) -> Self {
        Self {
            timeline,
            source: segment.source,
            file: segment.file.clone(),
            start: segment.start,
            end: segment.end,
            previous: segment.previous.clone(),
            gtids: segment.gtids.clone(),
            committed: segment.committed,
            hash: SegmentHash(segment.hash),
        }
    }

    pub(crate) fn stored(&self, number: u64, state: SegmentState, object: &ObjectRef) -> ArchivedSegment {
        ArchivedSegment {
            number,
            timeline: self.timeline,
            source: self.source,
            file: self.file.clone(),
            start: self.start,
            end: self.end,
            previous: self.previous.clone(),
            gtids: self.gtids.clone(),
            committed: self.committed,
            hash: self.hash,
            state,
            object: object.key.clone(),
            stored_bytes: object.size,
            digest: object.digest.clone(),
        }
    }
}

/// Entry that was read, and its object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredEntry {
    pub(crate) entry: JournalEntry,
    pub(crate) object: ObjectRef,
}

/// Encodes the object of an entry, with the bytes of its segment.
pub(crate) fn encode_entry(
    store: &EncryptedStore,
    key: &str,
    entry: &JournalEntry,
    bytes: &[u8],
) -> Result<(Bytes, ObjectRef)> {
    let json = serde_json::to_vec(entry).failed(format!("cannot write {key}"))?;
    let mut encoder = Encoder::new(ObjectKind::Entry, key, &store.cipher)?;
    encoder.frames(bytes)?;
    trailer::write(&mut encoder, &json)?;
    Ok(encoder.finish())
}

/// Reads an entry without its segment.
pub(crate) async fn read_entry(
    store: &EncryptedStore,
    key: &str,
    number: u64,
    shard: &ShardName,
) -> ObjectResult<StoredEntry> {
    let wrong = |what: &str| ObjectError::damaged(key, what);
    let expected = ExpectedObject { kind: ObjectKind::Entry, key, reference: None };
    let Some(Trailer { json, object, .. }) = trailer::read(store, expected).await? else {
        return Err(wrong("its last frame is not that of an entry"));
    };
    let entry: JournalEntry = serde_json::from_slice(&json)
        .map_err(|error| wrong(&format!("its content cannot be read: {error}")))?;
    if entry.number != number || entry.shard != *shard {
        return Err(wrong("it is the entry of another number or shard"));
    }
    Ok(StoredEntry { entry, object })
}
