//! Writing to one shard, under its claim.

use std::time::Duration;

use backstop_model::backup::{BackupFacts, Lineage};
use backstop_model::fault::{Fault, Result};
use backstop_model::ids::BackupId;
use chrono::{DateTime, Utc};

use crate::{CatalogEntry, Manifest, OnProgress, Reader, SweepPlan, Swept, Tree};

/// Holds the claim of one shard. Dropped without [`Writer::release`] it just stops its heartbeat.
pub struct Writer {
    reader: Reader,
}

/// A tree that was stored and waits to be committed.
pub struct Stored {}

impl Writer {
    /// Reads the same shard.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The manifest of the newest backup of the same server and volume: the parent of an increment.
    ///
    /// # Errors
    /// As [`Reader::manifest`].
    pub async fn newest_of(&self, _lineage: &Lineage) -> Result<Option<Manifest>> {
        Err(Fault::failed("not written yet"))
    }

    /// Stores a tree: all of it, or what differs from the parent. Nothing is visible before the commit.
    ///
    /// # Errors
    /// `Failed` when a file cannot be read as it was announced; `Damaged` when the parent's index is.
    pub async fn store(
        &mut self,
        _tree: &Tree,
        _parent: Option<&Manifest>,
        _progress: OnProgress<'_>,
    ) -> Result<Stored> {
        Err(Fault::failed("not written yet"))
    }

    /// Makes a stored tree a backup, after checking that every object of it has arrived.
    ///
    /// # Errors
    /// `Held` when another has claimed the shard since; `Store` when an object is missing. Nothing was
    /// committed then.
    pub async fn commit(&mut self, _facts: BackupFacts, _stored: Stored) -> Result<CatalogEntry> {
        Err(Fault::failed("not written yet"))
    }

    /// Deletes backups: from now on they are not listed, and a later sweep removes their objects.
    ///
    /// # Errors
    /// `NotRecoverable` when one of them does not exist; none is deleted then.
    pub async fn condemn(&mut self, _ids: &[BackupId], _now: DateTime<Utc>) -> Result<()> {
        Err(Fault::failed("not written yet"))
    }

    /// What could be removed: objects that neither a backup nor one condemned less than `grace` ago needs.
    ///
    /// # Errors
    /// `Damaged` when a manifest or its extents cannot be read: what is needed is then not known.
    pub async fn sweep_plan(&self, _now: DateTime<Utc>, _grace: Duration) -> Result<SweepPlan> {
        Err(Fault::failed("not written yet"))
    }

    /// Removes what the plan names.
    ///
    /// # Errors
    /// `Held` when another has claimed the shard since.
    pub async fn sweep(&mut self, _plan: SweepPlan) -> Result<Swept> {
        Err(Fault::failed("not written yet"))
    }

    /// Gives the shard back.
    ///
    /// # Errors
    /// `Held` when another has claimed it since.
    pub async fn release(self) -> Result<()> {
        Err(Fault::failed("not written yet"))
    }
}
