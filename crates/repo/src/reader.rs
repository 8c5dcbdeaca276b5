//! Reading one shard.

use std::path::Path;

use backstop_model::fault::{Fault, Result};
use backstop_model::ids::BackupId;

use crate::{
    CatalogEntry, Condemned, Depth, Holder, Manifest, OnProgress, RestoreOptions, Restored, VerifyReport,
};

/// Reads one shard. Cannot write, and needs read access only.
#[derive(Clone)]
pub struct Reader {}

impl Reader {
    /// The committed backups, oldest first. Empty if there are none.
    ///
    /// # Errors
    /// `Damaged` when no entry of the shard's log can be read.
    pub async fn catalog(&self) -> Result<Vec<CatalogEntry>> {
        Err(Fault::failed("not written yet"))
    }

    /// The deleted backups whose objects are still there, oldest first.
    ///
    /// # Errors
    /// As `catalog`.
    pub async fn condemned(&self) -> Result<Vec<Condemned>> {
        Err(Fault::failed("not written yet"))
    }

    /// Who has claimed the shard and not released it. It may be dead.
    ///
    /// # Errors
    /// As `catalog`.
    pub async fn holder(&self) -> Result<Option<Holder>> {
        Err(Fault::failed("not written yet"))
    }

    /// The manifest of a committed backup.
    ///
    /// # Errors
    /// `NotRecoverable` when there is no such backup; `Damaged` when its manifest is.
    pub async fn manifest(&self, _id: &BackupId) -> Result<Manifest> {
        Err(Fault::failed("not written yet"))
    }

    /// Writes a backup's files into a directory, which is made if it is missing. Repeating an interrupted
    /// restore of the same backup into the same directory completes it.
    ///
    /// # Errors
    /// `Damaged` naming the object when stored data is damaged or missing.
    pub async fn restore(
        &self,
        _manifest: &Manifest,
        _dir: &Path,
        _options: &RestoreOptions,
        _progress: OnProgress<'_>,
    ) -> Result<Restored> {
        Err(Fault::failed("not written yet"))
    }

    /// Checks everything that is stored for the shard. Damage is in the report, not an error.
    ///
    /// # Errors
    /// Only what kept it from looking.
    pub async fn verify(&self, _depth: Depth, _progress: OnProgress<'_>) -> Result<VerifyReport> {
        Err(Fault::failed("not written yet"))
    }
}
