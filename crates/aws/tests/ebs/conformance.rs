//! Runs the conformance suite of snapshot providers.

use backstop_adapters::mysql::connection::Connector;
use backstop_adapters::snapshot_target::InstanceAccess;
use backstop_aws::backup_instances::Ec2BackupInstances;
use backstop_aws::ebs::{CLUSTER_TAG, EbsProvider, GTID_TAG, PROVEN, SHARD_TAG, STATE_TAG};
use backstop_engine::ports::SnapshotProvider;
use backstop_testkit::instances_conformance::assert_opens_only_the_chosen_server;
use backstop_testkit::snapshot_conformance::{
    assert_exact_when_read, assert_refuses, new_run_id, test_context,
};
use backstop_testkit::{ShardLayout, TestWorkload};
use backstop_types::error::ErrorKind;
use backstop_types::finding::Severity;
use backstop_types::freeze::{FreezeMode, FreezeSetting, OnPrimary};

use crate::support::{Host, rules};

#[tokio::test(flavor = "multi_thread")]
async fn ebs_snapshot_passes_the_conformance_suite() {
    let host = Host::start(ShardLayout::single()).await;
    let ebs = host.ebs().await;
    let findings = ebs.check().await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:?}");
    assert!(findings.iter().any(|finding| finding.what.contains("vol-data-1")), "{findings:?}");
    let taken =
        assert_exact_when_read(&host.shard, host.shard.primary(), &ebs, |image| host.volume(image)).await;
    assert_eq!(taken.freeze.mode, FreezeMode::Lock);
    assert_eq!(taken.lineage.volume, "ebs:vol-data-1");
    assert!(host.snapshots().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ec2_instance_is_opened_only_if_it_is_the_chosen_server() {
    let host = Host::start(ShardLayout::single()).await;
    let connector = Connector::new(&host.shard.credentials());
    let access = InstanceAccess { connector, freeze: rules(), ctx: test_context() };
    let instances = Ec2BackupInstances { access, place: host.site().await.place };
    assert_opens_only_the_chosen_server(&host.shard, &instances).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_calls_precede_the_lock_and_tags_match_the_snapshot() {
    let host = Host::start(ShardLayout::single()).await;
    let workload = TestWorkload::start(host.shard.primary()).await;
    workload.wait_for_more(20).await;
    let taken = host.ebs().await.take(&new_run_id()).await.unwrap();
    workload.stop().await;
    let [id] = &host.snapshots()[..] else { panic!() };
    host.ec2.with(|ec2| {
        assert_eq!(ec2.tag(id, GTID_TAG).unwrap(), taken.position.gtid_executed.to_string());
        assert_eq!(ec2.tag(id, CLUSTER_TAG).as_deref(), Some("orders-eu"));
        assert_eq!(ec2.tag(id, SHARD_TAG).as_deref(), Some("orders"));
        assert_eq!(ec2.tag(id, STATE_TAG).as_deref(), Some(PROVEN));
        let calls: Vec<_> = ec2.calls.iter().map(String::as_str).collect();
        // First the cleanup after dead runs, last the volume's properties and the proof; between
        // them the one call under the lock.
        let expected = [
            "DescribeSnapshots",
            "DescribeInstances",
            "DescribeVolumes",
            "DryRun:CreateSnapshots",
            "CreateSnapshots",
            "CreateTags",
            "CreateTags",
        ];
        assert_eq!(calls, expected);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_forbidden_by_the_rules_is_refused() {
    let host = Host::start(ShardLayout::single()).await;
    let mut site = host.site().await;
    site.freeze.on_primary = OnPrimary::Refuse;
    assert_refuses(&host.shard, &EbsProvider::new(site), "freeze.on_primary").await;
    let mut site = host.site().await;
    site.freeze.mode = FreezeSetting::LockFree;
    assert_refuses(&host.shard, &EbsProvider::new(site), "freeze without a lock").await;
    let mut site = host.site().await;
    site.place.volume = None;
    assert_refuses(&host.shard, &EbsProvider::new(site), "nothing identifies which volume").await;
    assert!(host.snapshots().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn binlog_on_another_volume_is_included_or_refused() {
    let logs = tempfile::tempdir().unwrap();
    std::fs::set_permissions(logs.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let option = format!("log_bin={}/binlog", logs.path().display());
    let host = Host::start(ShardLayout::single().option(&option)).await;
    let ebs = host.ebs().await;
    assert_refuses(&host.shard, &ebs, "may be on another volume").await;

    let data = host.shard.base().join("m1/data").display().to_string();
    let mount = logs.path().display().to_string();
    host.ec2.with(|ec2| {
        let instance = &mut ec2.instances[0];
        instance.volumes[1].tags.insert("MySQL-Mount".to_owned(), data);
        let mut second = instance.volumes[1].clone();
        second.id = "vol-logs-1".to_owned();
        second.device = "/dev/sdg".to_owned();
        second.tags.insert("MySQL-Mount".to_owned(), mount);
        second.path = Some(logs.path().to_owned());
        instance.volumes.push(second);
    });
    let error = assert_refuses(&host.shard, &ebs, "is on vol-logs-1").await;
    assert_eq!(error.kind, ErrorKind::Refused);
    let mut site = host.site().await;
    site.place.volume = None;
    let taken = EbsProvider::new(site).take(&new_run_id()).await.unwrap();
    assert_eq!(taken.lineage.volume, "ebs:vol-data-1+vol-logs-1");
    let ids = host.snapshots();
    let volumes: Vec<_> =
        host.ec2.with(|ec2| ec2.snapshots.iter().map(|snapshot| snapshot.volume.clone()).collect());
    assert_eq!((ids.len(), volumes), (2, vec!["vol-data-1".to_owned(), "vol-logs-1".to_owned()]));
    assert!(ids.iter().all(|id| host.ec2.with(|ec2| ec2.tag(id, STATE_TAG).as_deref() == Some(PROVEN))));
}
