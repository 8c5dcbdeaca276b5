//! The log of a shard: numbered entries that are created and never overwritten.
//!
//! Each entry holds the whole state, so the newest one is all a reader needs. Whoever appends creates the
//! number after the newest it knows; of two who do, one fails, reads again, and stops if the shard has been
//! claimed since.

#![allow(
    clippy::disallowed_methods,
    reason = "entries are stamped and told apart below the port of the stories"
)]

use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::identity::Adopted;
use backstop_model::ids::{BackupId, ShardName};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::{CatalogEntry, Condemned, Holder};
use crate::held::Held;
use crate::keys::{self, ShardKeys};
use crate::object::{Expected, ObjectFault, ObjectKind};
use crate::shelf::{Created, Shelf};

/// How many of the newest entries are kept.
pub(crate) const KEPT: u64 = 64;
/// How often an entry is tried again when others append at the same time.
const ATTEMPTS: usize = 10;

/// What an entry of the log says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its number, which is also its name.
    pub(crate) number: u64,
    /// Tells entries of the same number apart, so that an answer that got lost is recognised.
    pub(crate) nonce: Uuid,
    /// When it was written, by the writer's clock.
    pub(crate) at: DateTime<Utc>,
    /// What happened.
    pub(crate) event: Event,
    /// What holds from then on.
    pub(crate) state: State,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// Someone claimed the shard.
    Claim,
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
pub(crate) struct State {
    pub(crate) shard: ShardName,
    pub(crate) claim: Option<Claim>,
    /// Oldest first.
    pub(crate) backups: Vec<CatalogEntry>,
    pub(crate) condemned: Vec<Condemned>,
    /// The history that was given the shard's name last, if one ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adopted: Option<Adopted>,
}

/// The claim on a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The number of the entry that made it. Everything the holder writes is named after it.
    pub(crate) number: u64,
    pub(crate) holder: Holder,
}

/// The log of one shard.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) shelf: Shelf,
    pub(crate) keys: ShardKeys,
    pub(crate) shard: ShardName,
    /// The repository's directory, if it is in one.
    pub(crate) held: Option<Held>,
}

/// The newest entry, and what was passed over to find it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Newest {
    /// `None` for a log without entries.
    pub(crate) entry: Option<Entry>,
    /// Newer entries that cannot be read.
    pub(crate) damaged: Vec<ObjectFault>,
}

impl Log {
    /// The numbers that are stored, ascending.
    pub(crate) async fn numbers(&self) -> Result<Vec<u64>> {
        let listed = self.shelf.list(&self.keys.logs()).await?;
        Ok(listed.iter().filter_map(|(key, _)| keys::log_number(&self.keys, key)).collect())
    }

    /// The newest entry that can be read: for reading only, because a damaged newer one is passed over.
    pub(crate) async fn newest_readable(&self) -> Result<Newest> {
        let mut damaged = Vec::new();
        for number in self.numbers().await?.into_iter().rev() {
            match self.entry(number).await {
                Ok(entry) => return Ok(Newest { entry: Some(entry), damaged }),
                Err(ObjectFault::Store(fault)) => return Err(fault),
                Err(fault) => damaged.push(fault),
            }
        }
        match damaged.into_iter().next() {
            Some(fault) => Err(fault.into()),
            None => Ok(Newest { entry: None, damaged: Vec::new() }),
        }
    }

    /// The newest entry: for writing, so a damaged one is a fault.
    pub(crate) async fn newest(&self) -> Result<Option<Entry>> {
        match self.numbers().await?.last() {
            None => Ok(None),
            Some(number) => Ok(Some(self.entry(*number).await?)),
        }
    }

    pub(crate) async fn entry(&self, number: u64) -> Result<Entry, ObjectFault> {
        let key = self.keys.log(number);
        let expected = Expected { kind: ObjectKind::Log, key: &key, reference: None };
        let entry: Entry = self.shelf.get(expected).await?;
        if entry.number != number || entry.state.shard != self.shard {
            return Err(ObjectFault::damaged(&key, "it is the entry of another number or shard"));
        }
        Ok(entry)
    }

    /// Creates the entry after `last`. `None`: someone else has, and their entry stands.
    pub(crate) async fn append(&self, last: u64, event: Event, state: State) -> Result<Option<Entry>> {
        let entry =
            Entry { number: last + 1, nonce: Uuid::from_bytes(random()?), at: Utc::now(), event, state };
        let key = self.keys.log(entry.number);
        let created = self.shelf.create(ObjectKind::Log, &key, &entry).await?;
        // Read back whatever the store said: it may have reported a success it did not have, or a
        // conflict with our own first attempt.
        let stored = self.entry(entry.number).await.map_err(Fault::from);
        match (created, stored) {
            // The nonce tells it; its numbers need not survive JSON to the last bit.
            (_, Ok(stored)) if stored.nonce == entry.nonce => self.still_newest(entry).await,
            (Created::Exists, Ok(_)) => Ok(None),
            (Created::Exists, Err(fault)) => Err(fault),
            (Created::Yes(_), _) => {
                Err(Fault::new(Kind::Store, format!("write {key}: the store did not keep it"))
                    .hint("this store reports success for what it loses: use another one"))
            }
        }
    }

    /// A writer that slept while its number was swept could create it again; but then it is not the newest,
    /// and nobody ever reads it.
    async fn still_newest(&self, entry: Entry) -> Result<Option<Entry>> {
        let newest = self.numbers().await?.into_iter().next_back();
        Ok((newest == Some(entry.number)).then_some(entry))
    }

    /// Appends under a claim: `change` makes the next state from the newest one.
    ///
    /// # Errors
    /// [`Kind::Held`] when the shard has been claimed by another since.
    pub(crate) async fn append_under(
        &self,
        claim: u64,
        event: &Event,
        change: &(dyn Fn(&mut State) -> Result<()> + Send + Sync),
    ) -> Result<Entry> {
        for _ in 0..ATTEMPTS {
            let newest = self.newest().await?.ok_or_else(|| lost(self))?;
            let mut state = self.held(claim, &newest)?;
            change(&mut state)?;
            if let Some(entry) = self.append(newest.number, event.clone(), state).await? {
                return Ok(entry);
            }
        }
        Err(Fault::failed(format!("append to {}: others keep appending", self.keys.logs())))
    }

    /// Ok if the claim still stands.
    ///
    /// # Errors
    /// As [`Log::append_under`].
    pub(crate) async fn still_held(&self, claim: u64) -> Result<()> {
        let newest = self.newest().await?.ok_or_else(|| lost(self))?;
        self.held(claim, &newest).map(drop)
    }

    /// The state, if the claim still stands in it.
    fn held(&self, claim: u64, newest: &Entry) -> Result<State> {
        match &newest.state.claim {
            Some(current) if current.number == claim => Ok(newest.state.clone()),
            Some(current) => Err(superseded(&self.shard, Some(&current.holder))),
            None => Err(superseded(&self.shard, None)),
        }
    }
}

fn superseded(shard: &ShardName, by: Option<&Holder>) -> Fault {
    let who = by.map_or("another run, which has ended".to_owned(), ToString::to_string);
    Fault::new(Kind::Held, format!("the claim on shard {shard} was superseded by {who}"))
        .hint("nothing was committed; this run was taken for dead because it did not show life: repeat it")
}

fn lost(log: &Log) -> Fault {
    Fault::new(Kind::Damaged, format!("read {}: the log has disappeared", log.keys.logs()))
        .hint(format!("`backstop repair {}` rebuilds it from what is stored", log.shard))
}

/// The shard whose log is in a directory; `None` if there is no log.
pub(crate) async fn shard_of(shelf: &Shelf, keys: &ShardKeys) -> Result<Option<ShardName>> {
    let mut listed = shelf.list(&keys.logs()).await?;
    let mut first = None;
    while let Some((key, _)) = listed.pop() {
        match shelf.get::<Entry>(Expected { kind: ObjectKind::Log, key: &key, reference: None }).await {
            Ok(entry) => return Ok(Some(entry.state.shard)),
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    first.map_or(Ok(None), |fault| Err(fault.into()))
}

/// Random bytes.
pub(crate) fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Fault::failed(format!("get random bytes: {error}")))?;
    Ok(bytes)
}
