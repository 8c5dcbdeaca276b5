//! Opens the instances of a shard for a backup of their EBS volumes, from any host.

use async_trait::async_trait;
use backstop_adapters::mysql::connect::Connector;
use backstop_adapters::mysql::findings::findings;
use backstop_adapters::mysql::settings::recorded_settings;
use backstop_engine::ports::{Instance, Instances};
use backstop_engine::world::World;
use backstop_model::fault::{Fault, Result};
use backstop_model::finding::Finding;
use backstop_model::freeze::FreezeRules;
use backstop_model::ids::ShardName;
use backstop_model::settings::VolumeHint;
use backstop_model::topology::Choice;

use crate::connect::Aws;
use crate::ebs::{Ebs, EbsSite, Waits};

/// Instances on EC2.
pub struct Ec2Instances {
    /// Reaches AWS in their region.
    pub aws: Aws,
    /// Logs in.
    pub connector: Connector,
    /// How writes may be held.
    pub freeze: FreezeRules,
    /// The shard.
    pub shard: ShardName,
    /// The value of the tag `Cluster-name`: orchestrator's name of the cluster, else the shard's.
    pub cluster: String,
    /// Which of their volumes are MySQL's.
    pub volume: Option<VolumeHint>,
    /// How long AWS is waited for.
    pub waits: Waits,
    /// Time, reporter, stop.
    pub world: World,
}

#[async_trait]
impl Instances for Ec2Instances {
    async fn open(&self, choice: &Choice) -> Result<Instance> {
        let mut session = self.connector.connect(&choice.endpoint).await?;
        let uuid: String = session.one("SELECT @@server_uuid").await?;
        if uuid != choice.state.server_uuid.to_string() {
            return Err(Fault::failed(format!("open {}: another server answers there now", choice.endpoint))
                .hint("try again: a failover may be going on"));
        }
        let settings = recorded_settings(&mut session).await?;
        let findings = findings(&mut session).await?;
        session.close().await;
        let site = EbsSite {
            aws: self.aws.clone(),
            connector: self.connector.clone(),
            endpoint: choice.endpoint.clone(),
            role: choice.role,
            freeze: self.freeze.clone(),
            shard: self.shard.clone(),
            cluster: self.cluster.clone(),
            volume: self.volume.clone(),
            waits: self.waits.clone(),
            world: self.world.clone(),
        };
        Ok(Instance { settings, findings, snapshots: Box::new(Ebs::new(site)) })
    }

    async fn survey(&self, choice: &Choice, _: &'static str) -> Result<Vec<Finding>> {
        self.open(choice).await?.snapshots.check().await
    }
}
