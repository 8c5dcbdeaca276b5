//! One entry of the journal, as an object: `frames of the piece | frames of the JSON | one frame: how many frames the piece has (u32)`.
//!
//! What an entry says is at its end, so that it can be read without the piece, in one request.

use backstop_model::archive::{ArchivedSegment, SegmentHash, SegmentState, Timeline};
use backstop_model::error::{Result, ResultExt};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{ServerUuid, ShardName};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::trailer::{self, Trailer};
use crate::ObjectRef;
use crate::encrypted_store::EncryptedStore;
use crate::object::{Encoder, ExpectedObject, ObjectError, ObjectKind, ObjectResult};

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    /// Its number, which is also its name.
    pub(crate) number: u64,
    /// The claim under which it was written.
    #[serde(rename = "claim")]
    pub(crate) lease: u64,
    /// Tells entries of the same number apart.
    pub(crate) nonce: Uuid,
    /// When it was written, by the writer's clock.
    pub(crate) at: DateTime<Utc>,
    pub(crate) shard: ShardName,
    pub(crate) what: EntryKind,
    /// Of a claim: the archiver before it may still sleep, so that this number must stay taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fences: bool,
}

impl JournalEntry {
    /// The segment that it names.
    pub(crate) fn sealed(&self) -> Option<ArchivedSegment> {
        let EntryKind::Sealed { facts, object, replaces } = &self.what else { return None };
        let number = replaces.first().copied().unwrap_or(self.number);
        Some(facts.stored(number, SegmentState::Sealed, object))
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntryKind {
    /// The archive was claimed: what an earlier claim's holder stores from here on is void, because it cannot.
    #[serde(rename = "claim")]
    Lease,
    /// A line begins.
    #[serde(rename = "line")]
    Timeline(Timeline),
    /// A piece of the tail; its bytes are in this object.
    Tail(SegmentFacts),
    /// A sealed segment, and the entries that are not needed any more.
    Sealed {
        #[serde(rename = "piece")]
        facts: SegmentFacts,
        object: ObjectRef,
        replaces: Vec<u64>,
    },
}

/// The facts of a piece of a binlog file.
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

/// An entry that was read, and the object it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredEntry {
    pub(crate) entry: JournalEntry,
    pub(crate) object: ObjectRef,
}

/// The object of an entry, with the bytes of its piece.
pub(crate) fn encode_entry(
    store: &EncryptedStore,
    key: &str,
    entry: &JournalEntry,
    bytes: &[u8],
) -> Result<(Bytes, ObjectRef)> {
    let json = serde_json::to_vec(entry).failed(format!("write {key}"))?;
    let mut encoder = Encoder::new(ObjectKind::Entry, key, &store.cipher)?;
    encoder.frames(bytes)?;
    trailer::write(&mut encoder, &json)?;
    Ok(encoder.finish())
}

/// Reads an entry without its piece.
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
