//! Complete backups in EBS: stored, completed, withdrawn, listed by tags alone, pruned.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::mysql::source_settings::MysqlInspector;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_adapters::topology::StaticMembers;
use backstop_aws::backup_instances::Ec2BackupInstances;
use backstop_aws::ebs::{
    COMPLETION_TAG, EbsCatalog, EbsPlace, GTID_TAG, REPOSITORY_TAG, Timeouts, VOLUME_TAG,
};
use backstop_config::retention::Retention;
use backstop_config::settings::ProviderSetting;
use backstop_engine::backup::{Backup, backup};
use backstop_engine::context::RunContext;
use backstop_engine::ports::{Clock, VolumeSnapshots};
use backstop_engine::prune::{Prune, prune};
use backstop_engine::report::{BackupReport, PruneReport};
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_host::SystemClock;
use backstop_repo::{Repository, Storage};
use backstop_testkit::ShardLayout;
use backstop_testkit::ec2::Completion;
use backstop_testkit::skewed_clock_store::SkewedClockStore;
use backstop_testkit::snapshot_conformance::test_context;
use backstop_types::backup::{BackupKind, VolumeState};
use backstop_types::ebs_volume::EbsVolume;
use backstop_types::error::{ErrorKind, Result};
use backstop_types::freeze::OnPrimary;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ShardName;
use backstop_types::topology::{Locking, SourceRules};
use chrono::{DateTime, Utc};

use crate::support::{Host, REGION, aws, place, rules, timeouts};

/// The same clock, ahead by a duration.
struct Later(SystemClock, Duration);

#[async_trait]
impl Clock for Later {
    fn now(&self) -> DateTime<Utc> {
        self.0.now() + self.1
    }
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
    async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration).await;
    }
}

fn hours_later(hours: u64) -> RunContext {
    let clock = Arc::new(Later(SystemClock::new(), Duration::from_secs(hours * 3600)));
    let host = backstop_host::Host { clock, ..backstop_host::Host::system() };
    RunContext { host, ..test_context() }
}

struct Fleet {
    host: Host,
    repository: Repository,
    store: Arc<SkewedClockStore>,
    shard: ShardName,
}

impl Fleet {
    async fn start() -> Self {
        let host = Host::start(ShardLayout::single()).await;
        let store = Arc::new(SkewedClockStore::default());
        let repository = Repository::on(store.clone(), None, backstop_host::Host::system()).await.unwrap();
        Self { host, repository, store, shard: "orders".parse().unwrap() }
    }

    async fn back_up(&self, timeouts: Timeouts) -> Result<BackupReport> {
        let connector = Connector::new(&self.host.shard.credentials());
        let members = StaticMembers::new(connector.clone(), self.host.shard.endpoints(), None);
        let source = SourceRules::default();
        let choice_rules =
            SourceChoiceRules { source: &source, on_primary: OnPrimary::Lock, locking: Locking::Possible };
        let place = place(aws(&self.host.ec2.url, REGION).await);
        let instances = Ec2BackupInstances {
            access: InstanceAccess { connector, freeze: rules(), ctx: test_context() },
            place: EbsPlace { timeouts, ..place },
        };
        let story = Backup {
            shard: &self.shard,
            kind: BackupKind::Scheduled,
            occasion: None,
            full: false,
            topology: &members,
            rules: choice_rules,
            instances: &instances,
            schemas: &MysqlInspector::new(Connector::new(&self.host.shard.credentials())),
            repository: &self.repository,
            volumes: Some(&self.catalog(test_context()).await),
            ctx: &test_context(),
        };
        backup(&story).await?.made()
    }

    async fn catalog(&self, ctx: RunContext) -> EbsCatalog {
        EbsCatalog::new(aws(&self.host.ec2.url, REGION).await, Timeouts::default(), ctx)
    }

    async fn prune(&self, hours: u64) -> Result<PruneReport> {
        let ctx = hours_later(hours);
        self.store.set_ahead(Duration::from_secs(hours * 3600));
        let keep_one = Retention { keep_all: Duration::ZERO, daily: 1, weekly: 0, monthly: 0, binlogs: None };
        let story = Prune {
            shard: &self.shard,
            retention: Some(&keep_one),
            repository: &self.repository,
            volumes: &self.catalog(ctx.clone()).await,
            yes_really: false,
            provider: ProviderSetting::Ebs,
            ctx: &ctx,
        };
        prune(&story).await
    }

    async fn committed(&self) -> usize {
        self.repository.reader(&self.shard).catalog().await.unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ebs_backup_stores_the_ids_of_its_snapshots() {
    let fleet = Fleet::start().await;
    let report = fleet.back_up(timeouts()).await.unwrap();
    let ebs = report.ebs.unwrap();
    assert_eq!((ebs.state, ebs.region.as_str()), (Some(VolumeState::Completed), REGION));
    assert_eq!(ebs.snapshot_ids, fleet.host.snapshots(), "they outlive the run");
    assert_eq!((report.sizes.data_bytes, report.sizes.changed_bytes), (8 << 30, 0));
    let manifest = fleet.repository.reader(&fleet.shard).manifest(&report.backup_id).await.unwrap();
    let volumes = vec![EbsVolume {
        snapshot_id: ebs.snapshot_ids[0].clone(),
        volume_id: "vol-data-1".to_owned(),
        device: "/dev/sdf".to_owned(),
        mount_points: Vec::new(),
        size_gib: 8,
        volume_type: Some("gp3".to_owned()),
        iops: Some(3000),
        throughput_mib: Some(125),
        kms_key_id: None,
    }];
    let tag = |key: &str| fleet.host.ec2.with(|ec2| ec2.tag(&ebs.snapshot_ids[0], key)).unwrap();
    assert_eq!(tag(VOLUME_TAG), "size=8 device=/dev/sdf type=gp3 iops=3000 throughput=125");
    assert_eq!(
        (tag(REPOSITORY_TAG), tag(COMPLETION_TAG)),
        ("s3://backups/shards".into(), "completed".into())
    );
    assert_eq!(
        manifest.storage,
        Storage::Ebs { snapshot_ids: ebs.snapshot_ids.clone(), region: REGION.to_owned(), volumes }
    );
    let tagged = fleet.catalog(test_context()).await.tagged(&fleet.shard).await.unwrap();
    let [tagged] = &tagged[..] else { panic!("{tagged:?}") };
    assert_eq!((&tagged.backup_id, &tagged.ebs), (&report.backup_id, &ebs), "the tags alone lead to it");
    assert_eq!(tagged.gtid, report.gtid_executed.to_string());
    assert_eq!(tagged.cluster_name, "orders-eu");
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_ebs_backup_is_reported_as_pending() {
    let fleet = Fleet::start().await;
    fleet.host.ec2.with(|ec2| ec2.rules.completion = Completion::Never);
    let report = fleet.back_up(Timeouts { complete: Duration::ZERO, ..timeouts() }).await.unwrap();
    let ebs = report.ebs.unwrap();
    assert_eq!(ebs.state, Some(VolumeState::Pending));
    let catalog = fleet.catalog(test_context()).await;
    assert_eq!(catalog.state(&ebs.snapshot_ids, REGION).await.unwrap(), VolumeState::Pending);
    fleet.host.ec2.with(|ec2| ec2.rules.completion = Completion::After(0));
    assert_eq!(catalog.state(&ebs.snapshot_ids, REGION).await.unwrap(), VolumeState::Completed);
    catalog.delete(&ebs.snapshot_ids, REGION).await.unwrap();
    assert_eq!(catalog.state(&ebs.snapshot_ids, REGION).await.unwrap(), VolumeState::Missing);
}

/// Others may archive a snapshot, or delete it while a retention rule of the recycle bin keeps it
/// (<https://docs.aws.amazon.com/ebs/latest/userguide/snapshot-archive.html>,
/// <https://docs.aws.amazon.com/ebs/latest/userguide/recycle-bin.html>).
#[tokio::test(flavor = "multi_thread")]
async fn archived_and_recycled_snapshots_are_named() {
    let fleet = Fleet::start().await;
    let ebs = fleet.back_up(timeouts()).await.unwrap().ebs.unwrap();
    let catalog = fleet.catalog(test_context()).await;
    let becomes = |tier: &str, state: &str| {
        fleet.host.ec2.with(|ec2| {
            tier.clone_into(&mut ec2.snapshots[0].tier);
            state.clone_into(&mut ec2.snapshots[0].state);
        });
    };
    for (tier, state, expected) in [
        ("archive", "completed", VolumeState::Archived),
        ("standard", "recoverable", VolumeState::Recycled),
        ("standard", "completed", VolumeState::Completed),
    ] {
        becomes(tier, state);
        assert_eq!(catalog.state(&ebs.snapshot_ids, REGION).await.unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_whose_snapshot_fails_counts_for_nothing_and_is_pruned() {
    let fleet = Fleet::start().await;
    fleet.host.ec2.with(|ec2| ec2.rules.completion = Completion::Error(2));
    let error = fleet.back_up(timeouts()).await.unwrap_err();
    assert!(error.message.contains("counts for nothing"), "{error}");
    let [failed] = &fleet.host.snapshots()[..] else { panic!("the failed snapshot is kept for a look") };
    let tag = fleet.host.ec2.with(|ec2| ec2.tag(failed, COMPLETION_TAG));
    assert_eq!(tag.as_deref(), Some("failed"));
    fleet.host.ec2.with(|ec2| ec2.rules.completion = Completion::After(1));
    fleet.back_up(timeouts()).await.unwrap();
    assert_eq!(fleet.committed().await, 2);
    fleet.prune(0).await.unwrap();
    assert_eq!(fleet.committed().await, 1, "only the complete one is kept");
    fleet.prune(2).await.unwrap();
    assert!(!fleet.host.snapshots().contains(failed), "its snapshot is deleted after the grace period");
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_deletes_snapshots_and_resumes_after_a_denial() {
    let fleet = Fleet::start().await;
    let old = fleet.back_up(timeouts()).await.unwrap();
    let new = fleet.back_up(timeouts()).await.unwrap();
    let both = fleet.host.snapshots();
    assert_eq!(both.len(), 2);
    let first = fleet.prune(1).await.unwrap();
    assert_eq!(first.deleted().collect::<Vec<_>>(), [&old.backup_id]);
    assert_eq!((fleet.committed().await, fleet.host.snapshots().len()), (1, 2), "the grace is not over");

    fleet.host.ec2.with(|ec2| ec2.rules.denied = ["DeleteSnapshot".to_owned()].into());
    let error = fleet.prune(3).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.hint.unwrap().contains("ec2:DeleteSnapshot"));
    fleet.host.ec2.with(|ec2| ec2.rules.denied.clear());
    let second = fleet.prune(3).await.unwrap();
    assert_eq!(second.removed_snapshots, old.ebs.unwrap().snapshot_ids, "the manifest still named them");
    assert_eq!(fleet.host.snapshots(), new.ebs.unwrap().snapshot_ids);
    assert!(fleet.prune(5).await.unwrap().removed_snapshots.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_deletes_only_unproven_snapshots_of_dead_runs() {
    let fleet = Fleet::start().await;
    let report = fleet.back_up(timeouts()).await.unwrap();
    let dead = fleet.host.ec2.with(|ec2| {
        let mut dead = ec2.snapshots[0].clone();
        "snap-dead".clone_into(&mut dead.id);
        dead.image = None;
        dead.tags.insert("Backstop-State".to_owned(), "unproven".to_owned());
        dead.tags.insert("Backstop-Run".to_owned(), "20261101T000000Z-00000001".to_owned());
        let mut proven = dead.clone();
        "snap-kept".clone_into(&mut proven.id);
        proven.tags.insert("Backstop-State".to_owned(), "proven".to_owned());
        proven.tags.insert("Backstop-Set".to_owned(), "2".to_owned());
        let id = dead.id.clone();
        ec2.snapshots.extend([dead, proven]);
        id
    });
    let catalog = fleet.catalog(test_context()).await;
    let listed = catalog.tagged(&fleet.shard).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|backup| &backup.backup_id).collect();
    assert_eq!(listed, [&report.backup_id], "neither an unproven one nor half a set is a backup");
    assert_eq!(fleet.prune(1).await.unwrap().removed_snapshots, [dead]);
    assert!(fleet.host.snapshots().contains(&"snap-kept".to_owned()), "what may be a backup is not deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn gtid_set_longer_than_a_tag_is_never_truncated() {
    let fleet = Fleet::start().await;
    for number in 1..=9 {
        let next = format!("SET gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa942956{number}:{number}'");
        fleet.host.shard.primary().run(&[&next, "BEGIN", "COMMIT", "SET gtid_next = AUTOMATIC"]).await;
    }
    let report = fleet.back_up(timeouts()).await.unwrap();
    assert!(report.gtid_executed.to_string().len() > 256);
    let [id] = &fleet.host.snapshots()[..] else { panic!() };
    let tag = fleet.host.ec2.with(|ec2| ec2.tag(id, GTID_TAG)).unwrap();
    assert!(tag.parse::<GtidSet>().is_err() && tag.contains(report.backup_id.as_str()), "{tag}");
}
