//! Finding the instance of a server, and the error when none is found.

use backstop_aws::ebs::EbsProvider;
use backstop_engine::ports::SnapshotProvider;
use backstop_testkit::ShardLayout;
use backstop_testkit::snapshot_conformance::assert_refuses;
use backstop_types::error::ErrorKind;

use crate::support::{Host, aws, site};

#[tokio::test(flavor = "multi_thread")]
async fn missing_or_ambiguous_instance_is_refused_by_name() {
    let host = Host::start(ShardLayout::single()).await;
    let ebs = host.ebs().await;
    host.knows("i-2", host.shard.primary(), 1);
    assert_refuses(&host.shard, &ebs, "may be any of i-1, i-2").await;
    host.ec2.with(|ec2| "terminated".clone_into(&mut ec2.instances[1].state));
    ebs.check().await.unwrap();
    host.ec2.with(|ec2| "stopped".clone_into(&mut ec2.instances[0].state));
    assert_refuses(&host.shard, &ebs, "i-1 is stopped").await;
    host.ec2.with(|ec2| ec2.instances.clear());
    let error = assert_refuses(&host.shard, &ebs, "none in region eu-test-1").await;
    assert!(error.hint.unwrap().contains("snapshot.region"));
}

#[tokio::test(flavor = "multi_thread")]
async fn instance_of_another_region_is_not_found() {
    let host = Host::start(ShardLayout::single()).await;
    let ebs = EbsProvider::new(site(&host.shard, aws(&host.ec2.url, "us-test-2").await));
    assert_refuses(&host.shard, &ebs, "none in region us-test-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_region_is_named_in_the_error() {
    let host = Host::start(ShardLayout::single()).await;
    let nobody = format!("http://127.0.0.1:{}", backstop_testkit::member::free_port());
    let ebs = EbsProvider::new(site(&host.shard, aws(&nobody, "eu-tset-1").await));
    let error = ebs.check().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(error.message.contains("region eu-tset-1"), "{error}");
    assert!(error.hint.unwrap().contains("`eu-tset-1`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_address_matches_no_instance() {
    let host = Host::start(ShardLayout::single()).await;
    host.ec2.with(|ec2| {
        let instance = &mut ec2.instances[0];
        instance.tags.clear();
        "127.0.0.1".clone_into(&mut instance.private_ip);
    });
    assert_refuses(&host.shard, &host.ebs().await, "none in region").await;
}
