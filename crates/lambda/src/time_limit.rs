//! Snapshots within the function's time: no freeze that could exceed it.

use async_trait::async_trait;
use backstop_engine::ports::{
    BackupInstance, BackupInstances, ChangedFiles, Snapshot, SnapshotData, SnapshotProvider, TakenSnapshot,
};
use backstop_types::backup::{Lineage, VolumeState};
use backstop_types::error::Result;
use backstop_types::finding::Finding;
use backstop_types::freeze::FreezeRules;
use backstop_types::ids::BackupId;
use backstop_types::topology::SourceChoice;

use crate::deadline::Deadline;
use crate::lambda_event::time_to_freeze;

/// Instances whose snapshots respect the deadline.
pub struct TimeLimitedSources<I> {
    /// Opens the instances.
    pub instances: I,
    /// Deadline of the function.
    pub deadline: Deadline,
    /// Time limits of a freeze.
    pub freeze: FreezeRules,
}

#[async_trait]
impl<I: BackupInstances> BackupInstances for TimeLimitedSources<I> {
    async fn open(&self, choice: &SourceChoice) -> Result<BackupInstance> {
        // Before anything else, so that a function with too little time does not even take the
        // lease of the shard.
        time_to_freeze(self.deadline.left(), &self.freeze)?;
        let instance = self.instances.open(choice).await?;
        let (deadline, freeze) = (self.deadline.clone(), self.freeze.clone());
        let snapshots = Box::new(TimeLimitedSnapshots { snapshots: instance.snapshots, deadline, freeze });
        Ok(BackupInstance { snapshots, ..instance })
    }

    async fn survey(&self, choice: &SourceChoice, provider: &'static str) -> Result<Vec<Finding>> {
        self.instances.survey(choice, provider).await
    }
}

struct TimeLimitedSnapshots {
    snapshots: Box<dyn SnapshotProvider>,
    deadline: Deadline,
    freeze: FreezeRules,
}

#[async_trait]
impl SnapshotProvider for TimeLimitedSnapshots {
    fn provider(&self) -> &'static str {
        self.snapshots.provider()
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        self.snapshots.check().await
    }

    async fn take(&self, run: &BackupId) -> Result<TakenSnapshot> {
        time_to_freeze(self.deadline.left(), &self.freeze)?;
        self.snapshots.take(run).await
    }

    async fn open(&self, snapshot: &Snapshot) -> Result<SnapshotData> {
        self.snapshots.open(snapshot).await
    }

    async fn release(&self, snapshot: &Snapshot) -> Result<()> {
        self.snapshots.release(snapshot).await
    }

    async fn list(&self) -> Result<Vec<Snapshot>> {
        self.snapshots.list().await
    }

    fn is_backup(&self) -> bool {
        self.snapshots.is_backup()
    }

    async fn complete(&self, snapshot: &Snapshot) -> Result<VolumeState> {
        self.snapshots.complete(snapshot).await
    }

    async fn changes(&self, snapshot: &Snapshot, since: &Lineage) -> Result<Option<ChangedFiles>> {
        self.snapshots.changes(snapshot, since).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use backstop_adapters::backup_instances::LocalBackupInstances;
    use backstop_adapters::mysql::connection::Connector;
    use backstop_adapters::snapshot_target::InstanceAccess;
    use backstop_config::settings::{ProviderSetting, SnapshotSettings};
    use backstop_testkit::instances_conformance::assert_opens_only_the_chosen_server;
    use backstop_testkit::server_program::servers;
    use backstop_testkit::snapshot_conformance::test_context;
    use backstop_testkit::{ShardLayout, TestShard};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn instance_in_time_is_opened_only_if_it_is_the_chosen_server() {
        let shard = TestShard::start(ShardLayout::single()).await;
        let (freeze, ctx) = (FreezeRules::default(), test_context());
        let end = ctx.host.clock.now() + Duration::from_secs(900);
        let deadline = Deadline::new(end.timestamp_millis().unsigned_abs(), Arc::clone(&ctx.host.clock));
        let connector = Connector::new(&shard.credentials());
        let instances = LocalBackupInstances {
            access: InstanceAccess { connector, freeze: freeze.clone(), ctx },
            snapshot: SnapshotSettings {
                provider: ProviderSetting::Clone,
                work_dir: shard.base().join("work"),
                ..SnapshotSettings::default()
            },
            old_work_dir: None,
            servers: Arc::new(servers().await),
        };
        let bounded = TimeLimitedSources { instances, deadline, freeze };
        assert_opens_only_the_chosen_server(&shard, &bounded).await;
    }
}
