//! Runs the conformance suite of adapters that open the instance to back up.

use std::sync::Arc;

use backstop_adapters::backup_instances::LocalBackupInstances;
use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_config::settings::{ProviderSetting, SnapshotSettings};
use backstop_testkit::instances_conformance::assert_opens_only_the_chosen_server;
use backstop_testkit::server_program::servers;
use backstop_testkit::snapshot_conformance::test_context;
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::freeze::FreezeRules;

#[tokio::test(flavor = "multi_thread")]
async fn local_instance_is_opened_only_if_it_is_the_chosen_server() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let instances = LocalBackupInstances {
        access: InstanceAccess {
            connector: Connector::new(&shard.credentials()),
            freeze: FreezeRules::default(),
            ctx: test_context(),
        },
        snapshot: SnapshotSettings {
            provider: ProviderSetting::Clone,
            work_dir: shard.base().join("work"),
            ..SnapshotSettings::default()
        },
        old_work_dir: Some(shard.base().join("old-work")),
        servers: Arc::new(servers().await),
    };
    assert_opens_only_the_chosen_server(&shard, &instances).await;
}
