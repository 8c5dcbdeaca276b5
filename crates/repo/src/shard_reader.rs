//! Reads one shard.

use std::path::Path;

use backstop_types::adopted::Adopted;
use backstop_types::completion::Completion;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::BackupId;
use chrono::{DateTime, Utc};

use crate::object::{ExpectedObject, ObjectError, ObjectKind};
use crate::restore::Restore;
use crate::shard_log::{ShardLog, ShardState};
use crate::{
    CatalogEntry, Condemned, DamageRecord, Holder, Manifest, OnProgress, RestoreOptions, RestoreResult,
    VerifyDepth, VerifyResult, completion, known_damage, lease,
};

/// Reader of one shard. It cannot write, and needs read access only.
#[derive(Clone)]
pub struct ShardReader {
    pub(crate) log: ShardLog,
}

impl ShardReader {
    /// Returns the committed backups, oldest first. Empty if there are none.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`] if no entry of the shard's log can be read.
    pub async fn catalog(&self) -> Result<Vec<CatalogEntry>> {
        Ok(self.state().await?.map(|state| state.backups).unwrap_or_default())
    }

    /// Returns the deleted backups whose objects still exist, oldest first.
    ///
    /// # Errors
    /// Returns the errors of [`ShardReader::catalog`].
    pub async fn condemned(&self) -> Result<Vec<Condemned>> {
        Ok(self.state().await?.map(|state| state.condemned).unwrap_or_default())
    }

    /// Returns the history that the user bound the shard's name to, if there is one.
    ///
    /// # Errors
    /// Returns the errors of [`ShardReader::catalog`].
    pub async fn adopted(&self) -> Result<Option<Adopted>> {
        Ok(self.state().await?.and_then(|state| state.adopted))
    }

    /// Returns the holder of the shard's lease, if it was not released. The holder may be dead.
    ///
    /// # Errors
    /// Returns the errors of [`ShardReader::catalog`].
    pub async fn holder(&self) -> Result<Option<Holder>> {
        Ok(self.state().await?.and_then(|state| state.lease).map(|lease| lease.holder))
    }

    /// Returns the manifest of a committed backup.
    ///
    /// # Errors
    /// Returns [`ErrorKind::NotRecoverable`] if there is no such backup; [`ErrorKind::Damaged`] if
    /// its manifest is damaged.
    pub async fn manifest(&self, id: &BackupId) -> Result<Manifest> {
        let catalog = self.catalog().await?;
        let entry = catalog.iter().find(|entry| entry.facts.backup_id == *id).ok_or_else(|| {
            Error::new(ErrorKind::NotRecoverable, format!("shard {} has no backup {id}", self.log.shard))
                .hint(format!("run `backstop backups {}` to list them", self.log.shard))
        })?;
        Ok(self.manifest_of(entry).await?)
    }

    /// Returns the storage of a listed or deleted backup.
    ///
    /// # Errors
    /// Returns the errors of [`ShardReader::manifest`].
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

    /// Writes a backup's files into a directory, and creates the directory if it is missing.
    /// Repeating an interrupted restore of the same backup into the same directory completes it.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`], naming the object, if stored data is damaged or missing;
    /// [`ErrorKind::Refused`] if the restore checkpoint belongs to another backup, or if the backup
    /// is a snapshot of volumes.
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
            .map_err(|error| error.during(format_args!("cannot restore backup {backup}")))
    }

    /// Returns the damage that verifications have recorded and that no later one found whole.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn found(&self) -> Result<DamageRecord> {
        known_damage::read_damage(&self.log.store, &self.log.keys.found()).await
    }

    /// Records the findings of a verification for all readers. Damage that a verification without
    /// content could not see stays recorded. Needs write access, but no lease.
    ///
    /// # Errors
    /// Returns the store's error; [`ErrorKind::Denied`] if the account may only read.
    pub async fn note(
        &self,
        report: &VerifyResult,
        depth: VerifyDepth,
        at: DateTime<Utc>,
    ) -> Result<DamageRecord> {
        known_damage::record_damage(&self.log.store, &self.log.keys.found(), &report.damaged, depth, at).await
    }

    /// Returns the recorded end of a backup in EBS snapshots; `None` while none is recorded.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn completion(&self, id: &BackupId) -> Result<Option<Completion>> {
        completion::read_completion(&self.log, id).await
    }

    /// Records the end of a backup in EBS snapshots, once: an earlier record stays and is returned.
    /// Needs write access, but no lease, since the end comes while another run may hold it, and
    /// may come before the backup is committed.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn note_completion(&self, completion: Completion) -> Result<Completion> {
        completion::record_completion(&self.log, completion).await
    }

    /// Checks that the newest entry of the log exists and can be read, so that the newest backup is
    /// known.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Damaged`] if the entry cannot be read, or if the log once was longer.
    pub async fn ends_well(&self) -> Result<()> {
        let newest = self.log.newest().await?;
        lease::require_complete_log(&self.log, newest.map_or(0, |entry| entry.number)).await
    }

    async fn state(&self) -> Result<Option<ShardState>> {
        let newest = self.log.newest_readable().await?;
        for error in newest.damaged {
            let error = Error::from(error);
            tracing::warn!("{error}; using the entry before it, so the newest backups may be missing");
        }
        if newest.entry.is_none() {
            self.nothing_stored().await?;
        }
        Ok(newest.entry.map(|entry| entry.state))
    }

    /// Checks that a shard without a log has no backups either.
    async fn nothing_stored(&self) -> Result<()> {
        if self.log.store.has_any(&self.log.keys.backups()).await? {
            let message =
                format!("cannot read {}: the log is missing, but backups exist", self.log.keys.logs());
            return Err(Error::new(ErrorKind::Damaged, message).hint(format!(
                "run `backstop repair {}` to rebuild it from the backups' manifests, or restore its objects from a copy",
                self.log.shard
            )));
        }
        Ok(())
    }
}
