//! Functions that need the cargo feature `aws`. A build without it explains how to get it.

use async_trait::async_trait;
use backstop_config::settings::{ShardSettings, SnapshotSettings};
use backstop_engine::context::RunContext;
use backstop_engine::ports::{BackupInstances, CloudHosts, VolumeInitialization, VolumeSnapshots};
use backstop_engine::report::TaggedBackup;
use backstop_types::backup::VolumeState;
use backstop_types::error::Result;
#[cfg(not(feature = "aws"))]
use backstop_types::error::{Error, ErrorKind};
use backstop_types::ids::{Endpoint, ShardName};

use crate::app::App;

/// Opens instances for a backup of their EBS volumes.
///
/// # Errors
/// Returns [`ErrorKind::Usage`](backstop_types::error::ErrorKind::Usage) in a build without AWS or
/// if no region is known, and an error if the credentials cannot be read.
#[cfg(feature = "aws")]
pub async fn backup_instances(
    app: &App,
    name: &ShardName,
    shard: &ShardSettings,
) -> Result<Box<dyn BackupInstances>> {
    use backstop_adapters::mysql::connection::Connector;

    Ok(Box::new(backstop_aws::backup_instances::Ec2BackupInstances {
        aws: access(shard.snapshot.region.as_deref()).await?,
        connector: Connector::new(&app.credentials(shard)?),
        freeze: shard.freeze.clone(),
        shard: name.clone(),
        cluster: shard.topology.cluster_name(name),
        volume: shard.snapshot.volume.clone(),
        timeouts: timeouts(&shard.snapshot),
        ctx: app.ctx.clone(),
    }))
}

/// EBS snapshots of the account. The first request connects to AWS.
pub struct AwsVolumes {
    #[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "nothing can be reached without it"))]
    snapshot: SnapshotSettings,
    #[cfg_attr(not(feature = "aws"), allow(dead_code, reason = "nothing can be reached without it"))]
    ctx: RunContext,
}

impl AwsVolumes {
    /// Creates access to the EBS snapshots from a shard's settings.
    pub fn new(snapshot: SnapshotSettings, ctx: RunContext) -> Self {
        Self { snapshot, ctx }
    }

    /// Returns true if this build supports AWS.
    pub fn is_reachable() -> bool {
        cfg!(feature = "aws")
    }
}

#[cfg(feature = "aws")]
impl AwsVolumes {
    async fn catalog(&self, region: Option<&str>) -> Result<backstop_aws::ebs::EbsCatalog> {
        let aws = access(region.or(self.snapshot.region.as_deref())).await?;
        Ok(backstop_aws::ebs::EbsCatalog::new(aws, timeouts(&self.snapshot), self.ctx.clone()))
    }
}

#[cfg(feature = "aws")]
#[async_trait]
impl VolumeSnapshots for AwsVolumes {
    async fn state(&self, snapshot_ids: &[String], region: &str) -> Result<VolumeState> {
        self.catalog(Some(region)).await?.state(snapshot_ids, region).await
    }

    async fn states(&self, sets: &[Vec<String>], region: &str) -> Result<Vec<VolumeState>> {
        self.catalog(Some(region)).await?.states(sets, region).await
    }

    async fn delete(&self, snapshot_ids: &[String], region: &str) -> Result<()> {
        self.catalog(Some(region)).await?.delete(snapshot_ids, region).await
    }

    async fn clear_dead_runs(&self, shard: &ShardName) -> Result<Vec<String>> {
        self.catalog(None).await?.clear_dead_runs(shard).await
    }

    async fn tagged(&self, shard: &ShardName) -> Result<Vec<TaggedBackup>> {
        self.catalog(None).await?.tagged(shard).await
    }
}

#[cfg(feature = "aws")]
#[async_trait]
impl CloudHosts for AwsVolumes {
    async fn zone(&self, server: &Endpoint) -> Result<String> {
        backstop_aws::ebs::Ec2Hosts::new(&access(self.snapshot.region.as_deref()).await?).zone(server).await
    }

    async fn volume_initialization(&self, volume_ids: &[String]) -> Result<VolumeInitialization> {
        backstop_aws::ebs::Ec2Hosts::new(&access(self.snapshot.region.as_deref()).await?)
            .volume_initialization(volume_ids)
            .await
    }
}

#[cfg(feature = "aws")]
async fn access(region: Option<&str>) -> Result<backstop_aws::client::AwsClient> {
    backstop_aws::client::AwsClient::connect(region).await
}

#[cfg(feature = "aws")]
fn timeouts(snapshot: &SnapshotSettings) -> backstop_aws::ebs::Timeouts {
    backstop_aws::ebs::Timeouts { complete: snapshot.complete_wait, ..Default::default() }
}

/// Opens instances for a backup of their EBS volumes.
///
/// # Errors
/// Returns [`ErrorKind::Usage`]: this build does not support AWS.
#[cfg(not(feature = "aws"))]
pub async fn backup_instances(_: &App, _: &ShardName, _: &ShardSettings) -> Result<Box<dyn BackupInstances>> {
    Err(without("snapshot.provider = \"ebs\""))
}

#[cfg(not(feature = "aws"))]
#[async_trait]
impl VolumeSnapshots for AwsVolumes {
    async fn state(&self, _: &[String], _: &str) -> Result<VolumeState> {
        Err(without("reading EBS snapshots"))
    }

    async fn delete(&self, _: &[String], _: &str) -> Result<()> {
        Err(without("deleting EBS snapshots"))
    }

    async fn clear_dead_runs(&self, _: &ShardName) -> Result<Vec<String>> {
        Err(without("deleting EBS snapshots"))
    }

    async fn tagged(&self, _: &ShardName) -> Result<Vec<TaggedBackup>> {
        Err(without("reading EBS snapshots"))
    }
}

#[cfg(not(feature = "aws"))]
#[async_trait]
impl CloudHosts for AwsVolumes {
    async fn zone(&self, _: &Endpoint) -> Result<String> {
        Err(without("recovering from EBS snapshots"))
    }

    async fn volume_initialization(&self, _: &[String]) -> Result<VolumeInitialization> {
        Err(without("reading EBS volumes"))
    }
}

#[cfg(not(feature = "aws"))]
fn without(what: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{what} requires a backstop that was built with AWS"))
        .hint("build one with `cargo build --release -p backstop-cli --features aws` (docs/aws.md)")
}
