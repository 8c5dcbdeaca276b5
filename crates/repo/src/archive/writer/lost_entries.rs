//! Detects entries that a store accepted and lost while the archiver runs, and stores them again.

use std::collections::BTreeSet;

use backstop_types::archive::{Segment, SegmentHash};
use backstop_types::error::{Error, Result};
use object_store::PutMode;

use super::ArchiveWriter;
use crate::archive::entry::{self, EntryKind, StoredEntry};
use crate::store_error::store_error;

/// Entry of the journal that the store no longer has.
#[derive(Debug, Clone)]
pub struct LostEntry {
    stored: StoredEntry,
}

impl LostEntry {
    /// Returns its number.
    pub fn number(&self) -> u64 {
        self.stored.entry.number
    }

    /// Returns its key.
    pub fn object(&self) -> &str {
        &self.stored.object.key
    }

    /// Returns the segment whose bytes were in the entry, if it had one.
    pub fn segment(&self) -> Option<&Segment> {
        match &self.stored.entry.what {
            EntryKind::Tail(facts) => Some(&facts.segment),
            EntryKind::Lease | EntryKind::Timeline(_) | EntryKind::Sealed { .. } => None,
        }
    }
}

impl ArchiveWriter {
    /// Returns the number of the newest entry.
    pub async fn newest(&self) -> u64 {
        self.state.lock().await.contents.newest
    }

    /// Returns the missing entries behind the newest index, with one list request.
    ///
    /// # Errors
    /// Returns the store's error; [`Kind::Held`](backstop_types::error::ErrorKind::Held) if another
    /// archiver has appended since: it may have replaced and removed entries of this one.
    pub async fn lost(&self) -> Result<Vec<LostEntry>> {
        let journal = &self.reader.journal;
        let (rolled, before) = {
            let state = self.state.lock().await;
            let rolled = state.contents.spans.iter().map(|(_, last)| *last).max().unwrap_or(0);
            let entries = state.contents.entries.range(rolled + 1..);
            (rolled, entries.map(|(number, _)| *number).collect::<Vec<u64>>())
        };
        if before.is_empty() {
            return Ok(Vec::new());
        }
        let there = journal.numbers_after(rolled).await?;
        let newest = self.newest().await;
        if let Some(next) = there.range(newest + 1..).next() {
            // The answer to an own append may have been lost.
            let stored = journal.entry(*next).await.map_err(Error::from)?;
            return if stored.entry.lease == self.lease.number {
                Ok(Vec::new())
            } else {
                Err(journal.superseded())
            };
        }
        // Entries that were replaced in between are no longer among them, or, if their removal failed
        // half way, are named by the entry that replaced them.
        let state = self.state.lock().await;
        let replaced: BTreeSet<u64> =
            state.contents.entries.values().flat_map(|stored| stored.entry.replaces()).copied().collect();
        let lost = before.iter().filter(|number| !there.contains(number) && !replaced.contains(number));
        let lost = lost.filter_map(|number| state.contents.entries.get(number));
        Ok(lost.map(|stored| LostEntry { stored: stored.clone() }).collect())
    }

    /// Stores an entry again as it was, with the bytes of its segment.
    ///
    /// # Errors
    /// Returns the store's error; [`Kind::Held`](backstop_types::error::ErrorKind::Held) if another
    /// archiver has this number; fails if the bytes are not those of the segment.
    pub async fn put_again(&self, lost: &LostEntry, bytes: &[u8]) -> Result<()> {
        let journal = &self.reader.journal;
        let hash = lost.segment().map(|facts| facts.hash);
        if hash.is_some_and(|hash| SegmentHash(*blake3::hash(bytes).as_bytes()) != hash) {
            return Err(Error::failed(format!(
                "cannot store {} again: the bytes are not those of the segment",
                lost.object()
            )));
        }
        let mut state = self.state.lock().await;
        if !state.contents.entries.contains_key(&lost.number()) {
            return Ok(()); // it was replaced
        }
        let (encoded, object) =
            entry::encode_entry(&journal.store, lost.object(), &lost.stored.entry, bytes)?;
        match journal.store.put_bytes_with_timeout(lost.object(), encoded, PutMode::Create).await {
            Ok(()) => {}
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let there = journal.entry(lost.number()).await.map_err(Error::from)?;
                let own = there.entry.nonce == lost.stored.entry.nonce;
                return if own { Ok(()) } else { Err(journal.superseded()) };
            }
            Err(error) => return Err(store_error("write", lost.object(), &error)),
        }
        if let Some(stored) = state.contents.entries.get_mut(&lost.number()) {
            stored.object = object.clone();
        }
        let tails = state.contents.archive.segments.iter_mut();
        for tail in tails.filter(|tail| tail.object == object.key) {
            (tail.stored_bytes, tail.digest) = (object.size, object.digest.clone());
        }
        Ok(())
    }
}
