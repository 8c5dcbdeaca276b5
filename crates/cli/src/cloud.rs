//! What only a build with the cargo feature `aws` can do. Another one says how to get it.

use async_trait::async_trait;
use backstop_engine::ports::{CloudHosts, Instances, Loading, VolumeSnapshots};
use backstop_engine::world::World;
use backstop_model::fault::Result;
#[cfg(not(feature = "aws"))]
use backstop_model::fault::{Fault, Kind};
use backstop_model::ids::{Endpoint, ShardName};
use backstop_model::report::{TaggedBackup, VolumeState};
use backstop_model::settings::{ShardSettings, SnapshotSettings};

use crate::compose::App;

/// Opens instances for a backup of their EBS volumes.
///
/// # Errors
/// [`Kind::Usage`](backstop_model::fault::Kind::Usage) in a build without AWS, or when no region is known; when the
/// credentials cannot be read.
#[cfg(feature = "aws")]
pub async fn instances(app: &App, name: &ShardName, shard: &ShardSettings) -> Result<Box<dyn Instances>> {
    use backstop_adapters::mysql::connect::Connector;
    use backstop_model::settings::TopologySettings;

    let cluster = match &shard.topology {
        TopologySettings::Orchestrator { cluster, .. } => cluster.clone(),
        TopologySettings::Members { .. } => name.to_string(),
    };
    Ok(Box::new(backstop_aws::instances::Ec2Instances {
        aws: access(shard.snapshot.region.as_deref()).await?,
        connector: Connector::new(&app.credentials(shard)?),
        freeze: shard.freeze.clone(),
        shard: name.clone(),
        cluster,
        volume: shard.snapshot.volume.clone(),
        waits: waits(&shard.snapshot),
        world: app.world.clone(),
    }))
}

/// The EBS snapshots of the account. AWS is reached when something is asked of it.
pub struct Cloud {
    #[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "nothing can be reached without it"))]
    snapshot: SnapshotSettings,
    #[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "nothing can be reached without it"))]
    world: World,
}

impl Cloud {
    /// As a shard's settings reach it.
    pub fn new(snapshot: SnapshotSettings, world: World) -> Self {
        Self { snapshot, world }
    }

    /// True if this build can reach it.
    pub fn is_reachable() -> bool {
        cfg!(feature = "aws")
    }
}

#[cfg(feature = "aws")]
impl Cloud {
    async fn shelf(&self, region: Option<&str>) -> Result<backstop_aws::ebs::EbsShelf> {
        let aws = access(region.or(self.snapshot.region.as_deref())).await?;
        Ok(backstop_aws::ebs::EbsShelf::new(aws, waits(&self.snapshot), self.world.clone()))
    }
}

#[cfg(feature = "aws")]
#[async_trait]
impl VolumeSnapshots for Cloud {
    async fn state(&self, snapshot_ids: &[String], region: &str) -> Result<VolumeState> {
        self.shelf(Some(region)).await?.state(snapshot_ids, region).await
    }

    async fn states(&self, sets: &[Vec<String>], region: &str) -> Result<Vec<VolumeState>> {
        self.shelf(Some(region)).await?.states(sets, region).await
    }

    async fn delete(&self, snapshot_ids: &[String], region: &str) -> Result<()> {
        self.shelf(Some(region)).await?.delete(snapshot_ids, region).await
    }

    async fn clear_dead_runs(&self, shard: &ShardName) -> Result<Vec<String>> {
        self.shelf(None).await?.clear_dead_runs(shard).await
    }

    async fn tagged(&self, shard: &ShardName) -> Result<Vec<TaggedBackup>> {
        self.shelf(None).await?.tagged(shard).await
    }
}

#[cfg(feature = "aws")]
#[async_trait]
impl CloudHosts for Cloud {
    async fn zone(&self, server: &Endpoint) -> Result<String> {
        backstop_aws::ebs::Ec2Hosts::new(&access(self.snapshot.region.as_deref()).await?).zone(server).await
    }

    async fn loading(&self, volume_ids: &[String]) -> Result<Loading> {
        backstop_aws::ebs::Ec2Hosts::new(&access(self.snapshot.region.as_deref()).await?)
            .loading(volume_ids)
            .await
    }
}

#[cfg(feature = "aws")]
async fn access(region: Option<&str>) -> Result<backstop_aws::connect::Aws> {
    backstop_aws::connect::Aws::connect(region).await
}

#[cfg(feature = "aws")]
fn waits(snapshot: &SnapshotSettings) -> backstop_aws::ebs::Waits {
    backstop_aws::ebs::Waits { complete: snapshot.complete_wait, ..Default::default() }
}

/// Opens instances for a backup of their EBS volumes.
///
/// # Errors
/// [`Kind::Usage`]: this build cannot.
#[cfg(not(feature = "aws"))]
pub async fn instances(_: &App, _: &ShardName, _: &ShardSettings) -> Result<Box<dyn Instances>> {
    Err(without("snapshot.provider = \"ebs\""))
}

#[cfg(not(feature = "aws"))]
#[async_trait]
impl VolumeSnapshots for Cloud {
    async fn state(&self, _: &[String], _: &str) -> Result<VolumeState> {
        Err(without("looking at EBS snapshots"))
    }

    async fn delete(&self, _: &[String], _: &str) -> Result<()> {
        Err(without("deleting EBS snapshots"))
    }

    async fn clear_dead_runs(&self, _: &ShardName) -> Result<Vec<String>> {
        Err(without("deleting EBS snapshots"))
    }

    async fn tagged(&self, _: &ShardName) -> Result<Vec<TaggedBackup>> {
        Err(without("looking at EBS snapshots"))
    }
}

#[cfg(not(feature = "aws"))]
#[async_trait]
impl CloudHosts for Cloud {
    async fn zone(&self, _: &Endpoint) -> Result<String> {
        Err(without("recovering from EBS snapshots"))
    }

    async fn loading(&self, _: &[String]) -> Result<Loading> {
        Err(without("looking at EBS volumes"))
    }
}

#[cfg(not(feature = "aws"))]
fn without(what: &str) -> Fault {
    Fault::new(Kind::Usage, format!("{what} needs a backstop that was built with AWS")).hint(
        "build it: `cargo build --release -p backstop-cli --features aws` (docs/aws.md says what that costs)",
    )
}
