//! Index of an archive: one object in place of many entries of the journal.

use backstop_types::archive::{ArchivedSegment, Timeline};
use backstop_types::ids::ShardName;
use serde::{Deserialize, Serialize};

use crate::object::{ObjectError, ObjectResult};

/// Content of the journal entries from `first` to `last`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ArchiveIndex {
    pub(crate) shard: ShardName,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Every timeline begun up to entry `last`.
    #[serde(rename = "lines")]
    pub(crate) timelines: Vec<Timeline>,
    /// The sealed segments.
    pub(crate) segments: Vec<ArchivedSegment>,
    /// Tail segments that no segment has replaced yet. They stay in the journal.
    pub(crate) tails: Vec<u64>,
    /// Tail segments from before `first` that these segments replace.
    pub(crate) replaced: Vec<u64>,
    /// In a rebuilt index: objects of segments that may belong to it but have no readable trailer.
    /// They are kept until the index is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unread: Vec<String>,
}

impl ArchiveIndex {
    /// Returns the index if its content matches its name.
    pub(crate) fn checked(self, span: (u64, u64), shard: &ShardName, key: &str) -> ObjectResult<Self> {
        if (self.first, self.last) == span && self.shard == *shard {
            return Ok(self);
        }
        Err(ObjectError::damaged(key, "it is the index of other entries or of another shard"))
    }

    /// Returns true for an entry that the index covers and does not leave in the journal.
    pub(crate) fn replaces_within(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number) && !self.tails.contains(&number)
    }
}
