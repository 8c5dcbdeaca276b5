//! Opens a shard's instances for a backup of their EBS volumes, from any host.

use async_trait::async_trait;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_engine::ports::{BackupInstance, BackupInstances};
use backstop_types::error::Result;
use backstop_types::finding::Finding;
use backstop_types::topology::SourceChoice;

use crate::ebs::{EbsPlace, EbsProvider};

/// Instances on EC2.
pub struct Ec2BackupInstances {
    /// Access to the instances.
    pub access: InstanceAccess,
    /// Place of their snapshots in AWS.
    pub place: EbsPlace,
}

#[async_trait]
impl BackupInstances for Ec2BackupInstances {
    async fn open(&self, choice: &SourceChoice) -> Result<BackupInstance> {
        let (settings, findings) = self.access.open(choice).await?;
        let target = self.access.target(choice, self.place.clone());
        Ok(BackupInstance { settings, findings, snapshots: Box::new(EbsProvider::new(target)) })
    }

    async fn survey(&self, choice: &SourceChoice, _: &'static str) -> Result<Vec<Finding>> {
        self.open(choice).await?.snapshots.check().await
    }
}
