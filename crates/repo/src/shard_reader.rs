//! Reading one shard.

use std::path::Path;

use backstop_model::error::{Error, ErrorKind, Result};
use backstop_model::ids::BackupId;
use backstop_model::shard_identity::Adopted;
use chrono::{DateTime, Utc};

use crate::object::{ExpectedObject, ObjectError, ObjectKind};
use crate::restore::Restore;
use crate::shard_log::{ShardLog, ShardState};
use crate::verify::Verification;
use crate::{
    CatalogEntry, Condemned, DamageRecord, Holder, Manifest, OnProgress, RestoreOptions, RestoreResult,
    VerifyDepth, VerifyResult, known_damage, lease,
};

/// Reads one shard. Cannot write, and needs read access only.
#[derive(Clone)]
pub struct ShardReader {
    pub(crate) log: ShardLog,
}

impl ShardReader {
    /// The committed backups, oldest first. Empty if there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when no entry of the shard's log can be read.
    pub async fn catalog(&self) -> Result<Vec<CatalogEntry>> {
        Ok(self.state().await?.map(|state| state.backups).unwrap_or_default())
    }

    /// The deleted backups whose objects are still there, oldest first.
    ///
    /// # Errors
    /// As [`ShardReader::catalog`].
    pub async fn condemned(&self) -> Result<Vec<Condemned>> {
        Ok(self.state().await?.map(|state| state.condemned).unwrap_or_default())
    }

    /// The history that was given the shard's name on purpose, if one ever was.
    ///
    /// # Errors
    /// As [`ShardReader::catalog`].
    pub async fn adopted(&self) -> Result<Option<Adopted>> {
        Ok(self.state().await?.and_then(|state| state.adopted))
    }

    /// Who has claimed the shard and not released it. It may be dead.
    ///
    /// # Errors
    /// As [`ShardReader::catalog`].
    pub async fn holder(&self) -> Result<Option<Holder>> {
        Ok(self.state().await?.and_then(|state| state.lease).map(|lease| lease.holder))
    }

    /// The manifest of a committed backup.
    ///
    /// # Errors
    /// [`ErrorKind::NotRecoverable`] when there is no such backup; [`ErrorKind::Damaged`] when its manifest is.
    pub async fn manifest(&self, id: &BackupId) -> Result<Manifest> {
        let catalog = self.catalog().await?;
        let entry = catalog.iter().find(|entry| entry.facts.backup_id == *id).ok_or_else(|| {
            Error::new(ErrorKind::NotRecoverable, format!("shard {} has no backup {id}", self.log.shard))
                .hint(format!("`backstop backups {}` lists them", self.log.shard))
        })?;
        Ok(self.manifest_of(entry).await?)
    }

    /// Where the data of a listed or condemned backup is.
    ///
    /// # Errors
    /// As [`ShardReader::manifest`].
    pub async fn storage_of(&self, entry: &CatalogEntry) -> Result<crate::Storage> {
        Ok(self.manifest_of(entry).await?.storage)
    }

    pub(crate) async fn manifest_of(&self, entry: &CatalogEntry) -> Result<Manifest, ObjectError> {
        let expected = ExpectedObject::referenced(ObjectKind::Manifest, &entry.manifest);
        let manifest: Manifest = self.log.store.get(expected).await?;
        if manifest.facts.backup_id != entry.facts.backup_id {
            return Err(ObjectError::damaged(&entry.manifest.key, "it is the manifest of another backup"));
        }
        Ok(manifest)
    }

    /// Writes a backup's files into a directory, which is made if it is missing. Repeating an interrupted
    /// restore of the same backup into the same directory completes it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] naming the object when stored data is damaged or missing; [`ErrorKind::Refused`] when the
    /// done list belongs to another backup, or the backup is a snapshot of volumes.
    pub async fn restore(
        &self,
        manifest: &Manifest,
        dir: &Path,
        options: &RestoreOptions,
        progress: OnProgress<'_>,
    ) -> Result<RestoreResult> {
        let restore = Restore { store: &self.log.store, keys: &self.log.keys, options };
        let backup = &manifest.facts.backup_id;
        restore
            .run(manifest, dir, progress)
            .await
            .map_err(|error| error.during(format_args!("restore backup {backup}")))
    }

    /// Checks everything that is stored for the shard. Damage is in the report, not an error.
    ///
    /// # Errors
    /// Only what kept it from looking.
    pub async fn verify(&self, depth: VerifyDepth, progress: OnProgress<'_>) -> Result<VerifyResult> {
        Verification::new(self, depth, progress).run().await
    }

    /// What verifications found damaged, as far as it was written down and no later one found it whole.
    ///
    /// # Errors
    /// The store's.
    pub async fn found(&self) -> Result<DamageRecord> {
        known_damage::read_damage(&self.log.store, &self.log.keys.found()).await
    }

    /// Writes down what a verification found, for everybody: damage that it could not see, since it read no content, stands. Needs write
    /// access, and no claim.
    ///
    /// # Errors
    /// The store's; [`ErrorKind::Denied`] for who may only read.
    pub async fn note(
        &self,
        report: &VerifyResult,
        depth: VerifyDepth,
        at: DateTime<Utc>,
    ) -> Result<DamageRecord> {
        known_damage::record_damage(&self.log.store, &self.log.keys.found(), &report.damaged, depth, at).await
    }

    /// Ok if the newest entry of the log is there and can be read: then the newest backup is known.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when it cannot be read, or when the log once was longer.
    pub async fn ends_well(&self) -> Result<()> {
        let newest = self.log.newest().await?;
        lease::require_complete_log(&self.log, newest.map_or(0, |entry| entry.number)).await
    }

    async fn state(&self) -> Result<Option<ShardState>> {
        let newest = self.log.newest_readable().await?;
        for error in newest.damaged {
            let error = Error::from(error);
            tracing::warn!("{error}: going by the entry before it, so backups committed last may be missing");
        }
        if newest.entry.is_none() {
            self.nothing_stored().await?;
        }
        Ok(newest.entry.map(|entry| entry.state))
    }

    /// A shard without a log must be one without backups.
    async fn nothing_stored(&self) -> Result<()> {
        if self.log.store.has_any(&self.log.keys.backups()).await? {
            let message = format!("read {}: the log is missing, but there are backups", self.log.keys.logs());
            return Err(Error::new(ErrorKind::Damaged, message).hint(format!(
                "`backstop repair {}` rebuilds it from the backups' manifests, or bring its objects back from a copy",
                self.log.shard
            )));
        }
        Ok(())
    }
}
