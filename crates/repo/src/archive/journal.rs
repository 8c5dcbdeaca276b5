//! Journal of an archive: numbered entries that are created and never overwritten.

use std::collections::BTreeSet;

use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::ShardName;
use object_store::PutMode;

use super::entry::{self, EntryKind, JournalEntry, StoredEntry};
use crate::encrypted_store::EncryptedStore;
use crate::keys::{self, ArchiveKeys};
use crate::object::ObjectResult;
use crate::store_error::store_error;

/// Journal of one shard's archive.
#[derive(Clone)]
pub(crate) struct ArchiveJournal {
    pub(crate) store: EncryptedStore,
    pub(crate) keys: ArchiveKeys,
    pub(crate) shard: ShardName,
}

/// Outcome of an append.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Appended {
    /// The entry has this number.
    Yes(StoredEntry),
    /// Another entry has this number.
    Taken(StoredEntry),
}

impl ArchiveJournal {
    /// Returns the stored numbers, ascending.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>> {
        let directory = self.keys.journal();
        let listed = self.store.list(&directory).await?;
        Ok(listed.iter().filter_map(|(key, _)| keys::number_in(&directory, key)).collect())
    }

    /// Returns the stored numbers after a given one, with one list request.
    pub(crate) async fn numbers_after(&self, number: u64) -> Result<BTreeSet<u64>> {
        let directory = self.keys.journal();
        let listed = self.store.list_after(&directory, &self.keys.entry(number)).await?;
        Ok(listed.iter().filter_map(|key| keys::number_in(&directory, key)).collect())
    }

    pub(crate) async fn entry(&self, number: u64) -> ObjectResult<StoredEntry> {
        entry::read_entry(&self.store, &self.keys.entry(number), number, &self.shard).await
    }

    /// Creates the entry of a number, with the bytes of its segment: one request.
    ///
    /// # Errors
    /// Returns the store's error. The entry may have been stored all the same: a repeated call
    /// finds it.
    pub(crate) async fn append(
        &self,
        number: u64,
        lease: u64,
        what: EntryKind,
        bytes: &[u8],
    ) -> Result<Appended> {
        self.create(number, lease, what, bytes, false).await
    }

    /// Creates the entry of an acquired archive lease. `fences`: the previous archiver may still be
    /// asleep.
    ///
    /// # Errors
    /// Returns the errors of [`ArchiveJournal::append`].
    pub(crate) async fn fence(&self, number: u64, lease: u64, fences: bool) -> Result<Appended> {
        self.create(number, lease, EntryKind::Lease, &[], fences).await
    }

    async fn create(
        &self,
        number: u64,
        lease: u64,
        what: EntryKind,
        bytes: &[u8],
        fences: bool,
    ) -> Result<Appended> {
        let (nonce, at) = (self.store.random_id()?, self.store.host.clock.now());
        let entry = JournalEntry { number, lease, nonce, at, shard: self.shard.clone(), what, fences };
        let key = self.keys.entry(number);
        let (bytes, object) = entry::encode_entry(&self.store, &key, &entry, bytes)?;
        match self.store.put_bytes_with_timeout(&key, bytes, PutMode::Create).await {
            Ok(()) => Ok(Appended::Yes(StoredEntry { entry, object })),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let stored = self.entry(number).await.map_err(Error::from)?;
                // The answer to our own put was lost, and the client repeated the put.
                let own = stored.entry.nonce == entry.nonce;
                Ok(if own { Appended::Yes(stored) } else { Appended::Taken(stored) })
            }
            Err(error) => Err(store_error("write", &key, &error)),
        }
    }

    pub(crate) fn superseded(&self) -> Error {
        Error::new(ErrorKind::Held, format!("the claim on the archive of shard {} was superseded by another archiver", self.shard))
            .hint("restart this archiver: it was considered dead because its heartbeat stopped; nothing was stored since")
    }
}
