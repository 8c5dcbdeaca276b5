//! Opens a shard's instances for a backup of their EBS volumes, from any host.

use async_trait::async_trait;
use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::mysql::recorded_settings::recorded_settings;
use backstop_adapters::mysql::recovery_findings::recovery_findings;
use backstop_config::settings::VolumeHint;
use backstop_engine::context::RunContext;
use backstop_engine::ports::{BackupInstance, BackupInstances};
use backstop_types::error::{Error, Result};
use backstop_types::finding::Finding;
use backstop_types::freeze::FreezeRules;
use backstop_types::ids::ShardName;
use backstop_types::topology::SourceChoice;

use crate::client::AwsClient;
use crate::ebs::{EbsProvider, EbsSnapshotSource, Timeouts};

/// Instances on EC2.
pub struct Ec2BackupInstances {
    /// Access to AWS in the instances' region.
    pub aws: AwsClient,
    /// Logs in.
    pub connector: Connector,
    /// Rules of the freeze.
    pub freeze: FreezeRules,
    /// The shard.
    pub shard: ShardName,
    /// Value of the tag `Cluster-name`: orchestrator's name of the cluster, or the shard's name.
    pub cluster: String,
    /// Hint for the choice of MySQL's volumes.
    pub volume: Option<VolumeHint>,
    /// Timeouts for AWS.
    pub timeouts: Timeouts,
    /// Clock, progress reporter, cancellation.
    pub ctx: RunContext,
}

#[async_trait]
impl BackupInstances for Ec2BackupInstances {
    async fn open(&self, choice: &SourceChoice) -> Result<BackupInstance> {
        let mut session = self.connector.connect(&choice.endpoint).await?;
        let uuid: String = session.one("SELECT @@server_uuid").await?;
        if uuid != choice.state.server_uuid.to_string() {
            let message = format!("cannot open {}: another server answers there now", choice.endpoint);
            return Err(Error::failed(message).hint("try again: a failover may be in progress"));
        }
        let settings = recorded_settings(&mut session).await?;
        let findings = recovery_findings(&mut session).await?;
        session.close().await;
        let site = EbsSnapshotSource {
            aws: self.aws.clone(),
            connector: self.connector.clone(),
            endpoint: choice.endpoint.clone(),
            role: choice.role,
            freeze: self.freeze.clone(),
            shard: self.shard.clone(),
            cluster: self.cluster.clone(),
            volume: self.volume.clone(),
            timeouts: self.timeouts.clone(),
            ctx: self.ctx.clone(),
        };
        Ok(BackupInstance { settings, findings, snapshots: Box::new(EbsProvider::new(site)) })
    }

    async fn survey(&self, choice: &SourceChoice, _: &'static str) -> Result<Vec<Finding>> {
        self.open(choice).await?.snapshots.check().await
    }
}
