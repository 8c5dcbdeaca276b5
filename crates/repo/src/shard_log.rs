//! Log of a shard: numbered entries that are created and never overwritten.
//!
//! Each entry holds the whole state, so a reader needs only the newest one. A writer creates the
//! number after the newest entry it knows. If two writers do so, one of them fails, reads again,
//! and stops if another run has acquired the shard's lease since.

use backstop_types::adopted::Adopted;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::{CatalogEntry, Condemned, Holder};
use crate::encrypted_store::{Created, EncryptedStore};
use crate::keys::{self, ShardKeys};
use crate::local_store::LocalStore;
use crate::object::{ExpectedObject, ObjectError, ObjectKind};

/// Number of newest entries that are kept.
pub(crate) const ENTRIES_KEPT: u64 = 64;
/// Number of attempts to append an entry when other writers append at the same time.
const MAX_APPEND_ATTEMPTS: usize = 10;

/// Content of a log entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    /// Its number, which is also its name.
    pub(crate) number: u64,
    /// Distinguishes entries of the same number, so that a writer recognises its own entry after a
    /// lost answer.
    pub(crate) nonce: Uuid,
    /// Time of writing, by the writer's clock.
    pub(crate) at: DateTime<Utc>,
    /// The event.
    pub(crate) event: LogEvent,
    /// State of the shard from this entry on.
    pub(crate) state: ShardState,
}

/// Event of a log entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogEvent {
    /// A run acquired the shard's lease.
    #[serde(rename = "claim")]
    Lease,
    /// A backup was committed.
    Commit { backup: BackupId },
    /// Backups were deleted.
    Condemn { backups: Vec<BackupId> },
    /// A deletion was undone while all objects still existed.
    Undo { backups: Vec<BackupId> },
    /// Deleted backups were removed from the log: their objects are removed from here on.
    Swept { backups: Vec<BackupId> },
    /// The user bound the shard's name to another history.
    Adopt,
    /// The holder released the shard.
    Release,
    /// The entries before it were lost or damaged: `backups` are those that only their manifests
    /// name.
    Repair { backups: Vec<BackupId> },
}

/// State of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardState {
    pub(crate) shard: ShardName,
    #[serde(rename = "claim")]
    pub(crate) lease: Option<Lease>,
    /// Oldest first.
    pub(crate) backups: Vec<CatalogEntry>,
    pub(crate) condemned: Vec<Condemned>,
    /// History that the shard's name was last bound to by `Adopt`; `None` if there was no such
    /// event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<Adopted>,
}

/// Lease of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// Number of the entry that created it. Names of all objects that the holder writes begin with
    /// it.
    pub(crate) number: u64,
    pub(crate) holder: Holder,
}

/// Log of one shard.
#[derive(Clone)]
pub(crate) struct ShardLog {
    pub(crate) store: EncryptedStore,
    pub(crate) keys: ShardKeys,
    pub(crate) shard: ShardName,
    /// Directory of the repository; `None` for an object store.
    pub(crate) local_store: Option<LocalStore>,
}

/// The newest entry, and the entries that were skipped to find it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewestEntry {
    /// `None` for a log without entries.
    pub(crate) entry: Option<LogEntry>,
    /// Newer entries that cannot be read.
    pub(crate) damaged: Vec<ObjectError>,
}

impl ShardLog {
    /// Returns the stored numbers, ascending.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>> {
        let listed = self.store.list(&self.keys.logs()).await?;
        Ok(listed.iter().filter_map(|(key, _)| keys::log_number(&self.keys, key)).collect())
    }

    /// Returns the newest readable entry, skipping damaged newer ones: for readers only.
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

    /// Returns the newest entry; a damaged one is an error: for writers.
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

    /// Creates the entry after `last`. `None`: another writer has created it, and its entry is
    /// valid.
    pub(crate) async fn append(
        &self,
        last: u64,
        event: LogEvent,
        state: ShardState,
    ) -> Result<Option<LogEntry>> {
        let (nonce, at) = (self.store.random_id()?, self.store.host.clock.now());
        let entry = LogEntry { number: last + 1, nonce, at, event, state };
        let key = self.keys.log(entry.number);
        let created = self.store.create(ObjectKind::Log, &key, &entry).await?;
        // Read it back whatever the store said: the store may have reported a success it did not
        // have, or a conflict with our own first attempt.
        let stored = self.entry(entry.number).await.map_err(Error::from);
        match (created, stored) {
            // The nonce identifies the entry; its numbers need not survive JSON to the last bit.
            (_, Ok(stored)) if stored.nonce == entry.nonce => self.still_newest(entry).await,
            (Created::Exists, Ok(_)) => Ok(None),
            (Created::Exists, Err(error)) => Err(error),
            (Created::Yes(_), _) => {
                Err(Error::new(ErrorKind::Store, format!("cannot write {key}: the store did not keep it"))
                    .hint("use another store: this one loses data that it reported as written"))
            }
        }
    }

    /// Returns the entry if it is still the newest. A writer that slept while a cleanup removed its
    /// number could create it again; but then it is not the newest, and no reader uses it.
    async fn still_newest(&self, entry: LogEntry) -> Result<Option<LogEntry>> {
        let newest = self.numbers().await?.into_iter().next_back();
        Ok((newest == Some(entry.number)).then_some(entry))
    }

    /// Appends under a lease: `change` makes the next state from the newest one.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Held`] if another run has acquired the shard's lease since.
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
        Err(Error::failed(format!("cannot append to {}: other runs keep appending", self.keys.logs())))
    }

    /// Checks that the lease is still valid.
    ///
    /// # Errors
    /// Returns the errors of [`ShardLog::append_under`].
    pub(crate) async fn still_held(&self, lease: u64) -> Result<()> {
        let newest = self.newest().await?.ok_or_else(|| lost(self))?;
        self.held(lease, &newest).map(drop)
    }

    /// Returns the state if the lease is still valid in it.
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
        .hint("repeat this run: it was considered dead because its heartbeat stopped; nothing was committed")
}

fn lost(log: &ShardLog) -> Error {
    Error::new(ErrorKind::Damaged, format!("cannot read {}: the log has disappeared", log.keys.logs()))
        .hint(format!("run `backstop repair {}` to rebuild it from the stored objects", log.shard))
}

/// Returns the shard whose log is in a directory; `None` if there is no log.
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
