//! The log of a shard: numbered entries that are created and never overwritten.
//!
//! Each entry holds the whole state, so the newest one is all a reader needs. Whoever appends creates the
//! number after the newest it knows; of two who do, one fails, reads again, and stops if the shard has been
//! claimed since.

#![allow(
    clippy::disallowed_methods,
    reason = "entries are stamped and told apart below the port of the stories"
)]

use backstop_model::error::{Error, ErrorKind, Result};
use backstop_model::ids::{BackupId, ShardName};
use backstop_model::shard_identity::Adopted;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::{CatalogEntry, Condemned, Holder};
use crate::encrypted_store::{Created, EncryptedStore};
use crate::keys::{self, ShardKeys};
use crate::local_store::LocalStore;
use crate::object::{ExpectedObject, ObjectError, ObjectKind};

/// How many of the newest entries are kept.
pub(crate) const ENTRIES_KEPT: u64 = 64;
/// How often an entry is tried again when others append at the same time.
const MAX_APPEND_ATTEMPTS: usize = 10;

/// What an entry of the log says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    /// Its number, which is also its name.
    pub(crate) number: u64,
    /// Tells entries of the same number apart, so that an answer that got lost is recognised.
    pub(crate) nonce: Uuid,
    /// When it was written, by the writer's clock.
    pub(crate) at: DateTime<Utc>,
    /// What happened.
    pub(crate) event: LogEvent,
    /// What holds from then on.
    pub(crate) state: ShardState,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogEvent {
    /// Someone claimed the shard.
    #[serde(rename = "claim")]
    Lease,
    /// A backup became one.
    Commit { backup: BackupId },
    /// Backups were deleted.
    Condemn { backups: Vec<BackupId> },
    /// A deletion was taken back, while everything was there.
    Undo { backups: Vec<BackupId> },
    /// Deleted backups were forgotten: their objects are removed from here on.
    Swept { backups: Vec<BackupId> },
    /// Another history was given the shard's name on purpose.
    Adopt,
    /// The holder gave the shard back.
    Release,
    /// The entries before it were lost or damaged: `backups` are those that only their manifests told of.
    Repair { backups: Vec<BackupId> },
}

/// The state of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardState {
    pub(crate) shard: ShardName,
    #[serde(rename = "claim")]
    pub(crate) lease: Option<Lease>,
    /// Oldest first.
    pub(crate) backups: Vec<CatalogEntry>,
    pub(crate) condemned: Vec<Condemned>,
    /// The history that was given the shard's name last, if one ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<Adopted>,
}

/// The claim on a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The number of the entry that made it. Everything the holder writes is named after it.
    pub(crate) number: u64,
    pub(crate) holder: Holder,
}

/// The log of one shard.
#[derive(Clone)]
pub(crate) struct ShardLog {
    pub(crate) store: EncryptedStore,
    pub(crate) keys: ShardKeys,
    pub(crate) shard: ShardName,
    /// The repository's directory, if it is in one.
    pub(crate) local_store: Option<LocalStore>,
}

/// The newest entry, and what was passed over to find it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewestEntry {
    /// `None` for a log without entries.
    pub(crate) entry: Option<LogEntry>,
    /// Newer entries that cannot be read.
    pub(crate) damaged: Vec<ObjectError>,
}

impl ShardLog {
    /// The numbers that are stored, ascending.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>> {
        let listed = self.store.list(&self.keys.logs()).await?;
        Ok(listed.iter().filter_map(|(key, _)| keys::log_number(&self.keys, key)).collect())
    }

    /// The newest entry that can be read: for reading only, because a damaged newer one is passed over.
    pub(crate) async fn newest_readable(&self) -> Result<NewestEntry> {
        let mut damaged = Vec::new();
        for number in self.numbers().await?.into_iter().rev() {
            match self.entry(number).await {
                Ok(entry) => return Ok(NewestEntry { entry: Some(entry), damaged }),
                Err(ObjectError::Store(error)) => return Err(error),
                Err(error) => damaged.push(error),
            }
        }
        match damaged.into_iter().next() {
            Some(error) => Err(error.into()),
            None => Ok(NewestEntry { entry: None, damaged: Vec::new() }),
        }
    }

    /// The newest entry: for writing, so a damaged one is a fault.
    pub(crate) async fn newest(&self) -> Result<Option<LogEntry>> {
        match self.numbers().await?.last() {
            None => Ok(None),
            Some(number) => Ok(Some(self.entry(*number).await?)),
        }
    }

    pub(crate) async fn entry(&self, number: u64) -> Result<LogEntry, ObjectError> {
        let key = self.keys.log(number);
        let expected = ExpectedObject { kind: ObjectKind::Log, key: &key, reference: None };
        let entry: LogEntry = self.store.get(expected).await?;
        if entry.number != number || entry.state.shard != self.shard {
            return Err(ObjectError::damaged(&key, "it is the entry of another number or shard"));
        }
        Ok(entry)
    }

    /// Creates the entry after `last`. `None`: someone else has, and their entry stands.
    pub(crate) async fn append(
        &self,
        last: u64,
        event: LogEvent,
        state: ShardState,
    ) -> Result<Option<LogEntry>> {
        let entry =
            LogEntry { number: last + 1, nonce: Uuid::from_bytes(random()?), at: Utc::now(), event, state };
        let key = self.keys.log(entry.number);
        let created = self.store.create(ObjectKind::Log, &key, &entry).await?;
        // Read back whatever the store said: it may have reported a success it did not have, or a
        // conflict with our own first attempt.
        let stored = self.entry(entry.number).await.map_err(Error::from);
        match (created, stored) {
            // The nonce tells it; its numbers need not survive JSON to the last bit.
            (_, Ok(stored)) if stored.nonce == entry.nonce => self.still_newest(entry).await,
            (Created::Exists, Ok(_)) => Ok(None),
            (Created::Exists, Err(error)) => Err(error),
            (Created::Yes(_), _) => {
                Err(Error::new(ErrorKind::Store, format!("write {key}: the store did not keep it"))
                    .hint("this store reports success for what it loses: use another one"))
            }
        }
    }

    /// A writer that slept while its number was swept could create it again; but then it is not the newest,
    /// and nobody ever reads it.
    async fn still_newest(&self, entry: LogEntry) -> Result<Option<LogEntry>> {
        let newest = self.numbers().await?.into_iter().next_back();
        Ok((newest == Some(entry.number)).then_some(entry))
    }

    /// Appends under a claim: `change` makes the next state from the newest one.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] when the shard has been claimed by another since.
    pub(crate) async fn append_under(
        &self,
        lease: u64,
        event: &LogEvent,
        change: &(dyn Fn(&mut ShardState) -> Result<()> + Send + Sync),
    ) -> Result<LogEntry> {
        for _ in 0..MAX_APPEND_ATTEMPTS {
            let newest = self.newest().await?.ok_or_else(|| lost(self))?;
            let mut state = self.held(lease, &newest)?;
            change(&mut state)?;
            if let Some(entry) = self.append(newest.number, event.clone(), state).await? {
                return Ok(entry);
            }
        }
        Err(Error::failed(format!("append to {}: others keep appending", self.keys.logs())))
    }

    /// Ok if the claim still stands.
    ///
    /// # Errors
    /// As [`ShardLog::append_under`].
    pub(crate) async fn still_held(&self, lease: u64) -> Result<()> {
        let newest = self.newest().await?.ok_or_else(|| lost(self))?;
        self.held(lease, &newest).map(drop)
    }

    /// The state, if the claim still stands in it.
    fn held(&self, lease: u64, newest: &LogEntry) -> Result<ShardState> {
        match &newest.state.lease {
            Some(current) if current.number == lease => Ok(newest.state.clone()),
            Some(current) => Err(superseded(&self.shard, Some(&current.holder))),
            None => Err(superseded(&self.shard, None)),
        }
    }
}

fn superseded(shard: &ShardName, by: Option<&Holder>) -> Error {
    let who = by.map_or("another run, which has ended".to_owned(), ToString::to_string);
    Error::new(ErrorKind::Held, format!("the claim on shard {shard} was superseded by {who}"))
        .hint("nothing was committed; this run was taken for dead because it did not show life: repeat it")
}

fn lost(log: &ShardLog) -> Error {
    Error::new(ErrorKind::Damaged, format!("read {}: the log has disappeared", log.keys.logs()))
        .hint(format!("`backstop repair {}` rebuilds it from what is stored", log.shard))
}

/// The shard whose log is in a directory; `None` if there is no log.
pub(crate) async fn shard_of(store: &EncryptedStore, keys: &ShardKeys) -> Result<Option<ShardName>> {
    let mut listed = store.list(&keys.logs()).await?;
    let mut first = None;
    while let Some((key, _)) = listed.pop() {
        match store
            .get::<LogEntry>(ExpectedObject { kind: ObjectKind::Log, key: &key, reference: None })
            .await
        {
            Ok(entry) => return Ok(Some(entry.state.shard)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(None), |error| Err(error.into()))
}

/// Random bytes.
pub(crate) fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::failed(format!("get random bytes: {error}")))?;
    Ok(bytes)
}
