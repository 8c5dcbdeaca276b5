//! Opens the instances of a shard for a backup, on their own host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use backstop_config::settings::SnapshotSettings;
use backstop_engine::ports::{BackupInstance, BackupInstances, MysqldControl, SnapshotProvider};
use backstop_types::error::{Result, ResultExt};
use backstop_types::finding::Finding;
use backstop_types::topology::SourceChoice;

use crate::snapshot_target::InstanceAccess;
use crate::snapshots::btrfs::BtrfsProvider;
use crate::snapshots::clone::CloneProvider;
use crate::snapshots::{LocalPlace, SnapshotSource, cleanup, select_provider};

/// Instances whose data directories are on this host.
pub struct LocalBackupInstances {
    /// Access to the instances.
    pub access: InstanceAccess,
    /// Snapshot provider, and the directory of its artefacts.
    pub snapshot: SnapshotSettings,
    /// Work directory of older versions; files that dead runs left there are removed too.
    pub old_work_dir: Option<PathBuf>,
    /// Starts and stops copies of an instance.
    pub servers: Arc<dyn MysqldControl>,
}

#[async_trait]
impl BackupInstances for LocalBackupInstances {
    async fn open(&self, choice: &SourceChoice) -> Result<BackupInstance> {
        let source = self.source(choice)?;
        cleanup::clear_dead_runs(&source).await?;
        if let Some(old) = &self.old_work_dir {
            let place = LocalPlace { work_dir: absolute(old)?, ..source.place.clone() };
            cleanup::clear_dead_runs(&self.access.target(choice, place)).await?;
        }
        let (settings, findings) = self.access.open(choice).await?;
        Ok(BackupInstance {
            settings,
            findings,
            snapshots: select_provider::open_provider(self.snapshot.provider, source).await?,
        })
    }

    async fn survey(&self, choice: &SourceChoice, provider: &'static str) -> Result<Vec<Finding>> {
        let source = self.source(choice)?;
        match provider {
            "clone" => CloneProvider::new(source).survey().await,
            // Only the instance's own host can see whether the data directory is on btrfs.
            _ => {
                let mut findings = BtrfsProvider::new(source).check().await?;
                findings.retain(|finding| finding.code != "btrfs");
                Ok(findings)
            }
        }
    }
}

impl LocalBackupInstances {
    fn source(&self, choice: &SourceChoice) -> Result<SnapshotSource> {
        let work_dir = absolute(&self.snapshot.work_dir)?;
        Ok(self.access.target(choice, LocalPlace { work_dir, servers: Arc::clone(&self.servers) }))
    }
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).failed("cannot resolve snapshot.work_dir")
}
