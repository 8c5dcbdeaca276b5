//! Main use case: back up a shard under load, lose a server, recover it from the backup, join it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use backstop_adapters::backup_instances::LocalBackupInstances;
use backstop_adapters::mysql::admin_session::MysqlAdminAccess;
use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::mysql::source_settings::MysqlInspector;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_adapters::topology::StaticMembers;
use backstop_config::extra_options::ExtraOptions;
use backstop_config::settings::{ProviderSetting, SnapshotSettings};
use backstop_engine::backup::{Backup, backup};
use backstop_engine::ports::CheckDepth;
use backstop_engine::recover::{CopyAccount, DataSource, LiveMembers, Recovery, RecoveryRequest, recover};
use backstop_engine::report::BackupReport;
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_host::Host;
use backstop_policy::plan::Ending;
use backstop_policy::scheduled_events::EventsSetting;
use backstop_repo::{Location, Repository};
use backstop_testkit::server_program::servers;
use backstop_testkit::snapshot_conformance::test_context;
use backstop_testkit::{ShardLayout, TestShard, TestWorkload, tables};
use backstop_types::backup::BackupKind;
use backstop_types::freeze::{FreezeRules, OnPrimary};
use backstop_types::topology::{Locking, SourceRules};

async fn back_up(shard: &TestShard, repository: &Repository) -> BackupReport {
    let connector = Connector::new(&shard.credentials());
    let endpoints = shard.endpoints();
    let topology = StaticMembers::new(connector.clone(), endpoints.clone(), Some(endpoints[1].clone()));
    let rules = SourceRules { any_replica: true, max_lag: std::time::Duration::from_secs(60) };
    let rules = SourceChoiceRules { source: &rules, on_primary: OnPrimary::Lock, locking: Locking::Possible };
    let ctx = test_context();
    let instances = LocalBackupInstances {
        access: InstanceAccess { connector, freeze: FreezeRules::default(), ctx: ctx.clone() },
        snapshot: SnapshotSettings {
            provider: ProviderSetting::Clone,
            work_dir: shard.base().join("work"),
            ..SnapshotSettings::default()
        },
        old_work_dir: None,
        servers: Arc::new(servers().await),
    };
    let run = Backup {
        shard: &"orders".parse().unwrap(),
        kind: BackupKind::OnDemand,
        occasion: None,
        full: false,
        topology: &topology,
        rules,
        instances: &instances,
        schemas: &MysqlInspector::new(Connector::new(&shard.credentials())),
        repository,
        volumes: None,
        ctx: &ctx,
    };
    backup(&run).await.unwrap().made().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_server_is_recovered_and_joins_its_shard() {
    let mut shard = TestShard::start(ShardLayout::default()).await;
    tables::fill(shard.primary(), 2, 20_000).await;
    shard.settle().await;
    let workload = TestWorkload::start(shard.primary()).await;
    let location = Location::new(format!("file://{}", shard.base().join("repository").display())).or_new();
    let repository = Repository::open(&location, None, Host::system()).await.unwrap();

    let first = back_up(&shard, &repository).await;
    assert_eq!((first.source.endpoint.clone(), first.parent), (shard.candidate().endpoint(), None));
    workload.wait_for_more(100).await;
    let second = back_up(&shard, &repository).await;
    assert_eq!(second.parent, Some(first.backup_id));
    // The size of the difference depends on how long the writer continued: bench/ measures that.
    assert!(
        second.sizes.stored_bytes < first.sizes.stored_bytes,
        "{:?} after {:?}",
        second.sizes,
        first.sizes
    );

    let lost = shard.members.remove(1);
    lost.kill();
    let reader = repository.reader(&"orders".parse().unwrap());
    let endpoints = shard.endpoints();
    let connector = Connector::new(&shard.credentials());
    let topology = StaticMembers::new(connector, endpoints, None);
    let programs = servers().await;
    let access = MysqlAdminAccess::new(Arc::new(SharedCredentials::of(shard.credentials(), test_context())));
    let ctx = test_context();
    let into = shard.base().join("recovered");
    let request = RecoveryRequest {
        shard: "orders".parse().unwrap(),
        target: "latest".to_owned(),
        backup_id: second.backup_id,
        replay: None,
        into: into.clone(),
        data: DataSource::Repository,
        port: None,
        listen: None,
        check: CheckDepth::Full,
        ending: Ending::Join,
        members: LiveMembers::Refuse,
        server_user: None,
        own: ExtraOptions::default(),
        tls: None,
        accept_broken: Vec::new(),
        copy_login: CopyAccount::Without,
        events: EventsSetting::Enable,
    };
    let story = Recovery {
        reader: &reader,
        archive: &repository.archive(&"orders".parse().unwrap()),
        repository: &repository,
        mysqld: &programs,
        admin: &access,
        topology: &topology,
        ctx: &ctx,
        request,
    };
    let report = recover(&story).await.unwrap();
    assert!(report.joined);

    let written = workload.stop().await;
    let recovered = backstop_testbed::member::root(std::path::Path::new(&report.server.socket)).await;
    let mut recovered = recovered.unwrap();
    let held = shard.primary().gtid_executed().await;
    let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{held}', 30)");
    assert_eq!(recovered.one::<u8>(&wait).await.unwrap(), 0);
    assert_eq!(written.missing_on(&mut recovered).await.unwrap(), Vec::<u64>::new());
    let sums = backstop_testbed::tables::checksums(&mut recovered).await.unwrap();
    assert_eq!(sums, tables::checksums(shard.primary()).await);
    drop(recovered);
    backstop_testbed::processes::kill_on(&into.join("data")).unwrap();
}
