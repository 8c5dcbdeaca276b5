//! The main job: back up a shard under load, lose a server, recover it from the backup, join it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use backstop_adapters::instances::LocalInstances;
use backstop_adapters::mysql::connect::Connector;
use backstop_adapters::mysql::recovered::RecoveredAccess;
use backstop_adapters::mysql::source::Primaries;
use backstop_adapters::topology::Members;
use backstop_engine::access::Access;
use backstop_engine::backup::{Backup, backup};
use backstop_engine::ports::{CheckDepth, Topology};
use backstop_engine::recover::{CopyLogin, DataFrom, MembersThatAnswer, Recover, RecoverRequest, recover};
use backstop_model::backup::BackupKind;
use backstop_model::events::EventsWish;
use backstop_model::freeze::{FreezeRules, OnPrimary};
use backstop_model::own_options::OwnOptions;
use backstop_model::plan::Ending;
use backstop_model::report::BackupReport;
use backstop_model::settings::{ProviderWish, SnapshotSettings};
use backstop_model::topology::{Locking, SourceRules, choose_source};
use backstop_repo::{Location, Repository};
use backstop_testkit::program::servers;
use backstop_testkit::snapshots::world;
use backstop_testkit::{Layout, Ledger, Shard, tables};

async fn back_up(shard: &Shard, repository: &Repository) -> BackupReport {
    let connector = Connector::new(&shard.credentials());
    let endpoints = shard.endpoints();
    let topology = Members::new(connector.clone(), endpoints.clone(), Some(endpoints[1].clone()));
    let rules = SourceRules { any_replica: true, max_lag: std::time::Duration::from_secs(60) };
    let choice =
        choose_source(&topology.look().await.unwrap(), &rules, OnPrimary::Lock, Locking::Possible).unwrap();
    let world = world();
    let instances = LocalInstances {
        connector,
        freeze: FreezeRules::default(),
        snapshot: SnapshotSettings {
            provider: ProviderWish::Clone,
            work_dir: shard.base().join("work"),
            ..SnapshotSettings::default()
        },
        old_work_dir: None,
        servers: Arc::new(servers().await),
        world: world.clone(),
    };
    let run = Backup {
        shard: &"orders".parse().unwrap(),
        kind: BackupKind::OnDemand,
        occasion: None,
        full: false,
        choice: &choice,
        instances: &instances,
        schemas: &Primaries::new(Connector::new(&shard.credentials())),
        repository,
        volumes: None,
        world: &world,
    };
    backup(&run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_comes_back() {
    let mut shard = Shard::start(Layout::default()).await;
    tables::fill(shard.primary(), 2, 20_000).await;
    shard.settle().await;
    let ledger = Ledger::start(shard.primary()).await;
    let location = Location::new(format!("file://{}", shard.base().join("repository").display())).or_new();
    let repository = Repository::open(&location, None).await.unwrap();

    let first = back_up(&shard, &repository).await;
    assert_eq!((first.source.endpoint.clone(), first.parent), (shard.candidate().endpoint(), None));
    ledger.wait_for_more(100).await;
    let second = back_up(&shard, &repository).await;
    assert_eq!(second.parent, Some(first.backup_id));
    // How much less depends on how long the writer went on: bench/ measures that.
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
    let topology = Members::new(connector, endpoints, None);
    let programs = servers().await;
    let access = RecoveredAccess::new(Arc::new(Access::of(shard.credentials(), world())));
    let world = world();
    let into = shard.base().join("recovered");
    let request = RecoverRequest {
        shard: "orders".parse().unwrap(),
        target: "latest".to_owned(),
        backup_id: second.backup_id,
        replay: None,
        into: into.clone(),
        data: DataFrom::Repository,
        port: None,
        listen: None,
        check: CheckDepth::Full,
        ending: Ending::Join,
        members: MembersThatAnswer::Refuse,
        server_user: None,
        own: OwnOptions::default(),
        tls: None,
        accept_broken: Vec::new(),
        copy_login: CopyLogin::Without,
        events: EventsWish::Enable,
    };
    let story = Recover {
        reader: &reader,
        archive: &repository.archive(&"orders".parse().unwrap()),
        repository: &repository,
        programs: &programs,
        servers: &access,
        topology: &topology,
        world: &world,
        request,
    };
    let report = recover(&story).await.unwrap();
    assert!(report.joined);

    let written = ledger.stop().await;
    let recovered = backstop_lab::member::root(std::path::Path::new(&report.server.socket)).await;
    let mut recovered = recovered.unwrap();
    let held = shard.primary().gtid_executed().await;
    let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{held}', 30)");
    assert_eq!(recovered.one::<u8>(&wait).await.unwrap(), 0);
    assert_eq!(written.missing_on(&mut recovered).await.unwrap(), Vec::<u64>::new());
    let sums = backstop_lab::tables::checksums(&mut recovered).await.unwrap();
    assert_eq!(sums, tables::checksums(shard.primary()).await);
    drop(recovered);
    backstop_lab::processes::kill_on(&into.join("data")).unwrap();
}
