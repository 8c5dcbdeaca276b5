//! The journal: numbered entries that are created and never overwritten.

#![allow(
    clippy::disallowed_methods,
    reason = "entries are stamped and told apart below the port of the stories"
)]

use std::collections::BTreeSet;

use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::ids::ShardName;
use chrono::Utc;
use object_store::{Error, PutMode};
use uuid::Uuid;

use super::entry::{self, Entry, StoredEntry, What};
use crate::keys::{self, ArchiveKeys};
use crate::log::random;
use crate::object::ObjectResult;
use crate::shelf::Shelf;
use crate::store::fault;

/// The journal of one shard's archive.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) shelf: Shelf,
    pub(crate) keys: ArchiveKeys,
    pub(crate) shard: ShardName,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Appended {
    /// It is the entry of this number.
    Yes(StoredEntry),
    /// Another is.
    Taken(StoredEntry),
}

impl Journal {
    /// The numbers that are stored, ascending.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>> {
        let directory = self.keys.journal();
        let listed = self.shelf.list(&directory).await?;
        Ok(listed.iter().filter_map(|(key, _)| keys::number_in(&directory, key)).collect())
    }

    /// The numbers after one that are stored: one list.
    pub(crate) async fn numbers_after(&self, number: u64) -> Result<BTreeSet<u64>> {
        let directory = self.keys.journal();
        let listed = self.shelf.list_after(&directory, &self.keys.entry(number)).await?;
        Ok(listed.iter().filter_map(|key| keys::number_in(&directory, key)).collect())
    }

    pub(crate) async fn entry(&self, number: u64) -> ObjectResult<StoredEntry> {
        entry::read(&self.shelf, &self.keys.entry(number), number, &self.shard).await
    }

    /// Creates the entry of a number, with the bytes of its piece: one request.
    ///
    /// # Errors
    /// The store's. The entry may have been stored then: whoever repeats finds it.
    pub(crate) async fn append(&self, number: u64, claim: u64, what: What, piece: &[u8]) -> Result<Appended> {
        self.create(number, claim, what, piece, false).await
    }

    /// Creates the entry that says that the archive was claimed. `fences`: the archiver before may still sleep.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(crate) async fn fence(&self, number: u64, claim: u64, fences: bool) -> Result<Appended> {
        self.create(number, claim, What::Claim, &[], fences).await
    }

    async fn create(
        &self,
        number: u64,
        claim: u64,
        what: What,
        piece: &[u8],
        fences: bool,
    ) -> Result<Appended> {
        let nonce = Uuid::from_bytes(random()?);
        let entry = Entry { number, claim, nonce, at: Utc::now(), shard: self.shard.clone(), what, fences };
        let key = self.keys.entry(number);
        let (bytes, object) = entry::encode(&self.shelf, &key, &entry, piece)?;
        match self.shelf.bytes_soon(&key, bytes, PutMode::Create).await {
            Ok(()) => Ok(Appended::Yes(StoredEntry { entry, object })),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let stored = self.entry(number).await.map_err(Fault::from)?;
                // The answer to our own put got lost, and it was repeated below.
                let own = stored.entry.nonce == entry.nonce;
                Ok(if own { Appended::Yes(stored) } else { Appended::Taken(stored) })
            }
            Err(error) => Err(fault("write", &key, &error)),
        }
    }

    pub(crate) fn superseded(&self) -> Fault {
        Fault::new(Kind::Held, format!("the claim on the archive of shard {} was superseded by another archiver", self.shard))
            .hint("nothing was stored since; this archiver was taken for dead because it did not show life: start it again")
    }
}
