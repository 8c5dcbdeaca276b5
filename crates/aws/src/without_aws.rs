//! The account in a build without the Cargo feature `aws`: every request explains how to get a
//! build with it.

use async_trait::async_trait;
use backstop_adapters::secrets;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_config::settings::{ShardSettings, SnapshotSettings};
use backstop_engine::context::RunContext;
use backstop_engine::ports::{BackupInstances, VolumeInitialization, VolumeSnapshots};
use backstop_engine::report::TaggedBackup;
use backstop_policy::first_day::AccountAnswer;
use backstop_types::backup::VolumeState;
use backstop_types::completion::CompletionOutcome;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::ids::{Endpoint, ShardName};
use secrecy::SecretString;

use crate::account_questions::AccountQuestions;

/// Opens instances for a backup of their EBS volumes.
///
/// # Errors
/// Returns [`ErrorKind::Usage`]: this build does not support AWS.
pub async fn backup_instances(
    _: &ShardName,
    _: &ShardSettings,
    _: &str,
    _: InstanceAccess,
) -> Result<Box<dyn BackupInstances>> {
    Err(without("snapshot.provider = \"ebs\""))
}

/// Returns the text of an entry of Secrets Manager.
///
/// # Errors
/// Returns [`ErrorKind::Usage`]: this build does not support AWS.
pub fn read_secret(id: &str) -> Result<SecretString> {
    Err(secrets::without_secrets_manager(id))
}

/// Asks the account if the first backup would work.
///
/// # Errors
/// Returns [`ErrorKind::Usage`]: this build does not support AWS.
pub async fn check_account(_: &AccountQuestions) -> Result<Vec<AccountAnswer>> {
    Err(without("check --aws"))
}

/// EBS snapshots and volumes of the account.
pub struct AwsVolumes;

impl AwsVolumes {
    /// Creates access to the EBS snapshots from a shard's settings.
    pub fn new(_: SnapshotSettings, _: RunContext) -> Self {
        Self
    }
}

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

    async fn mark_completion(&self, _: &[String], _: &str, _: CompletionOutcome) -> Result<()> {
        Err(without("tagging EBS snapshots"))
    }

    async fn tagged(&self, _: &ShardName) -> Result<Vec<TaggedBackup>> {
        Err(without("reading EBS snapshots"))
    }
}

impl AwsVolumes {
    pub(crate) async fn zone(&self, _: &Endpoint) -> Result<String> {
        Err(without("recovering from EBS snapshots"))
    }

    pub(crate) async fn volume_initialization(&self, _: &[String]) -> Result<VolumeInitialization> {
        Err(without("reading EBS volumes"))
    }
}

fn without(what: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{what} requires a backstop that was built with AWS"))
        .hint("build one with `cargo build --release -p backstop-cli --features aws` (docs/aws.md)")
}
