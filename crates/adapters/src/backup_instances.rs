//! Opens the instances of a shard for a backup, on their own host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use backstop_config::settings::SnapshotSettings;
use backstop_engine::context::RunContext;
use backstop_engine::ports::{BackupInstance, BackupInstances, MysqldControl, SnapshotProvider};
use backstop_types::error::{Result, ResultExt};
use backstop_types::finding::Finding;
use backstop_types::freeze::FreezeRules;
use backstop_types::topology::SourceChoice;

use crate::mysql::connection::Connector;
use crate::mysql::recorded_settings::recorded_settings;
use crate::mysql::recovery_findings::recovery_findings;
use crate::snapshots::btrfs::BtrfsProvider;
use crate::snapshots::clone::CloneProvider;
use crate::snapshots::{SnapshotSource, cleanup, select_provider};

/// Instances whose data directories are on this host.
pub struct LocalBackupInstances {
    /// Opens sessions on the instances.
    pub connector: Connector,
    /// Rules for holding writes.
    pub freeze: FreezeRules,
    /// Snapshot provider, and the directory of its artefacts.
    pub snapshot: SnapshotSettings,
    /// Work directory of older versions; files that dead runs left there are removed too.
    pub old_work_dir: Option<PathBuf>,
    /// Starts and stops copies of an instance.
    pub servers: Arc<dyn MysqldControl>,
    /// Clock, reporter and request to stop.
    pub ctx: RunContext,
}

#[async_trait]
impl BackupInstances for LocalBackupInstances {
    async fn open(&self, choice: &SourceChoice) -> Result<BackupInstance> {
        let source = self.source(choice)?;
        cleanup::clear_dead_runs(&source).await?;
        if let Some(old) = &self.old_work_dir {
            cleanup::clear_dead_runs(&SnapshotSource { work_dir: absolute(old)?, ..source.clone() }).await?;
        }
        let mut session = self.connector.connect(&choice.endpoint).await?;
        let settings = recorded_settings(&mut session).await?;
        let findings = recovery_findings(&mut session).await?;
        session.close().await;
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
        Ok(SnapshotSource {
            connector: self.connector.clone(),
            endpoint: choice.endpoint.clone(),
            role: choice.role,
            freeze: self.freeze.clone(),
            work_dir: absolute(&self.snapshot.work_dir)?,
            servers: Arc::clone(&self.servers),
            ctx: self.ctx.clone(),
        })
    }
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).failed("cannot resolve snapshot.work_dir")
}
