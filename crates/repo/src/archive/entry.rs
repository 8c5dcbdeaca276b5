//! Entry of the journal as an object: `frames of the segment | frames of the JSON | one frame:
//! number of the segment's frames (u32)`.
//!
//! The content of an entry is at its end, so that one request can read it without the segment.

use backstop_types::archive::{ArchivedSegment, Segment, SegmentState, Timeline};
use backstop_types::error::{Result, ResultExt};
use backstop_types::ids::ShardName;
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
        Some(facts.clone().stored(number, SegmentState::Sealed, object))
    }

    /// Returns the numbers of the entries that it replaces.
    pub(crate) fn replaces(&self) -> &[u64] {
        match &self.what {
            EntryKind::Sealed { replaces, .. } => replaces,
            EntryKind::Lease | EntryKind::Timeline(_) | EntryKind::Tail(_) => &[],
        }
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

/// A segment, and the timeline that it is stored for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentFacts {
    #[serde(rename = "line")]
    pub(crate) timeline: u32,
    #[serde(flatten)]
    pub(crate) segment: Segment,
}

impl SegmentFacts {
    /// Returns the segment as the archive lists it once it is stored in an object.
    pub(crate) fn stored(self, number: u64, state: SegmentState, object: &ObjectRef) -> ArchivedSegment {
        let Self { timeline, segment } = self;
        let ObjectRef { key: object, size: stored_bytes, digest } = object.clone();
        ArchivedSegment { number, timeline, segment, state, object, stored_bytes, digest }
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
