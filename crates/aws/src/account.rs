//! The AWS account of this host's environment. The first request connects to it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_config::settings::{SecretRef, ShardSettings, SnapshotSettings};
use backstop_engine::context::RunContext;
use backstop_engine::ports::{BackupInstances, VolumeInitialization, VolumeSnapshots};
use backstop_engine::report::TaggedBackup;
use backstop_policy::first_day::AccountAnswer;
use backstop_types::backup::VolumeState;
use backstop_types::completion::CompletionOutcome;
use backstop_types::error::Result;
use backstop_types::ids::{Endpoint, ShardName};
use secrecy::SecretString;

use crate::account_questions::{AccountQuestions, ShardQuestions};
use crate::backup_instances::Ec2BackupInstances;
use crate::client::AwsClient;
use crate::ebs::{EbsCatalog, EbsPlace, Ec2Hosts, Timeouts};
use crate::first_day;
use crate::secrets_manager;

/// Opens instances for a backup of their EBS volumes.
///
/// # Errors
/// Returns [`ErrorKind::Usage`](backstop_types::error::ErrorKind::Usage) in a build without AWS or
/// if no region is known.
pub async fn backup_instances(
    name: &ShardName,
    shard: &ShardSettings,
    repository: &str,
    access: InstanceAccess,
) -> Result<Box<dyn BackupInstances>> {
    let secret = match &shard.credentials {
        SecretRef::SecretsManager(id) => Some(id.clone()),
        _ => None,
    };
    let place = EbsPlace {
        aws: AwsClient::connect(shard.snapshot.region.as_deref()).await?,
        shard: name.clone(),
        cluster: shard.topology.cluster_name(name),
        volume: shard.snapshot.volume.clone(),
        repository: repository.to_owned(),
        secret,
        extra_tags: shard.snapshot.tags.clone(),
        timeouts: timeouts(&shard.snapshot),
    };
    Ok(Box::new(Ec2BackupInstances { access, place }))
}

/// Returns the text of an entry of Secrets Manager. Commands run on several threads; the others
/// continue while this one waits.
///
/// # Errors
/// As [`secrets_manager::read`], and an error in a build without AWS.
pub fn read_secret(id: &str) -> Result<SecretString> {
    let read = async { secrets_manager::read(&AwsClient::connect(None).await?, id).await };
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(read))
}

/// Asks the account if the first backup, deletion and recovery of the shards would work. Changes
/// nothing.
///
/// # Errors
/// Returns [`ErrorKind::Usage`](backstop_types::error::ErrorKind::Usage) in a build without AWS or
/// if no region is known. What AWS refuses or does not answer is an answer.
pub async fn check_account(asked: &AccountQuestions) -> Result<Vec<AccountAnswer>> {
    let mut regions: BTreeMap<Option<&str>, Vec<&ShardQuestions>> = BTreeMap::new();
    for one in &asked.shards {
        regions.entry(one.settings.snapshot.region.as_deref()).or_default().push(one);
    }
    let mut answers = Vec::new();
    for (region, shards) in regions {
        let aws = AwsClient::connect(region).await?;
        answers.extend(Box::pin(first_day::ask_region(&aws, asked, &shards)).await);
    }
    Ok(answers)
}

/// EBS snapshots and volumes of the account.
pub struct AwsVolumes {
    snapshot: SnapshotSettings,
    ctx: RunContext,
}

impl AwsVolumes {
    /// Creates access to the EBS snapshots from a shard's settings.
    pub fn new(snapshot: SnapshotSettings, ctx: RunContext) -> Self {
        Self { snapshot, ctx }
    }

    async fn client(&self, region: Option<&str>) -> Result<AwsClient> {
        AwsClient::connect(region.or(self.snapshot.region.as_deref())).await
    }

    async fn catalog(&self, region: Option<&str>) -> Result<EbsCatalog> {
        Ok(EbsCatalog::new(self.client(region).await?, timeouts(&self.snapshot), self.ctx.clone()))
    }
}

fn timeouts(snapshot: &SnapshotSettings) -> Timeouts {
    Timeouts { complete: snapshot.complete_wait, ..Timeouts::default() }
}

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

    async fn mark_completion(
        &self,
        snapshot_ids: &[String],
        region: &str,
        outcome: CompletionOutcome,
    ) -> Result<()> {
        self.catalog(Some(region)).await?.mark_completion(snapshot_ids, region, outcome).await
    }

    async fn tagged(&self, shard: &ShardName) -> Result<Vec<TaggedBackup>> {
        self.catalog(None).await?.tagged(shard).await
    }
}

impl AwsVolumes {
    pub(crate) async fn zone(&self, server: &Endpoint) -> Result<String> {
        Ec2Hosts::new(&self.client(None).await?).zone(server).await
    }

    pub(crate) async fn volume_initialization(&self, volume_ids: &[String]) -> Result<VolumeInitialization> {
        Ec2Hosts::new(&self.client(None).await?).volume_initialization(volume_ids).await
    }
}
