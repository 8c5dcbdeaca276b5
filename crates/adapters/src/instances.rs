//! Opens the instances of a shard for a backup, on their own host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use backstop_engine::ports::{Instance, Instances, ServerPrograms, Snapshots};
use backstop_engine::world::World;
use backstop_model::fault::{Context, Result};
use backstop_model::finding::Finding;
use backstop_model::freeze::FreezeRules;
use backstop_model::settings::SnapshotSettings;
use backstop_model::topology::Choice;

use crate::mysql::connect::Connector;
use crate::mysql::findings::findings;
use crate::mysql::settings::recorded_settings;
use crate::snapshots::btrfs::Btrfs;
use crate::snapshots::clone::Clone;
use crate::snapshots::{Site, auto, dead};

/// Instances whose data directories are on this host.
pub struct LocalInstances {
    /// Logs in.
    pub connector: Connector,
    /// How writes may be held.
    pub freeze: FreezeRules,
    /// Which provider, and where its artefacts go.
    pub snapshot: SnapshotSettings,
    /// Where older versions put them: what dead runs left there is cleared too.
    pub old_work_dir: Option<PathBuf>,
    /// Starts copies.
    pub servers: Arc<dyn ServerPrograms>,
    /// Time, reporter, stop.
    pub world: World,
}

#[async_trait]
impl Instances for LocalInstances {
    async fn open(&self, choice: &Choice) -> Result<Instance> {
        let site = self.site(choice)?;
        dead::clear_dead_runs(&site).await?;
        if let Some(old) = &self.old_work_dir {
            dead::clear_dead_runs(&Site { work_dir: absolute(old)?, ..site.clone() }).await?;
        }
        let mut session = self.connector.connect(&choice.endpoint).await?;
        let settings = recorded_settings(&mut session).await?;
        let findings = findings(&mut session).await?;
        session.close().await;
        Ok(Instance { settings, findings, snapshots: auto::open(self.snapshot.provider, site).await? })
    }

    async fn survey(&self, choice: &Choice, provider: &'static str) -> Result<Vec<Finding>> {
        let site = self.site(choice)?;
        match provider {
            "clone" => Clone::new(site).survey().await,
            // Whether it is on btrfs is seen on its own host only.
            _ => {
                let mut findings = Btrfs::new(site).check().await?;
                findings.retain(|finding| finding.code != "btrfs");
                Ok(findings)
            }
        }
    }
}

impl LocalInstances {
    fn site(&self, choice: &Choice) -> Result<Site> {
        Ok(Site {
            connector: self.connector.clone(),
            endpoint: choice.endpoint.clone(),
            role: choice.role,
            freeze: self.freeze.clone(),
            work_dir: absolute(&self.snapshot.work_dir)?,
            servers: Arc::clone(&self.servers),
            world: self.world.clone(),
        })
    }
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).failed("find snapshot.work_dir")
}
