//! EC2 that refuses, fails, loses or misreports snapshots: each time a clear error, no lock, and no
//! snapshot that could be taken for a backup.

use std::time::Duration;

use backstop_aws::ebs::{EbsCatalog, EbsProvider, EbsSnapshotSource, STATE_TAG, Timeouts, UNPROVEN};
use backstop_engine::ports::{SnapshotProvider, VolumeSnapshots};
use backstop_testkit::ShardLayout;
use backstop_testkit::member::kill_server_on;
use backstop_testkit::snapshot_conformance::{assert_commits, assert_unharmed, new_run_id, test_context};
use backstop_types::error::ErrorKind;

use crate::support::{Host, REGION, at, aws};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named_before_the_lock() {
    let host = Host::start(ShardLayout::single()).await;
    let ebs = host.ebs().await;
    for action in
        ["DescribeSnapshots", "DescribeInstances", "DescribeVolumes", "CreateSnapshots", "CreateTags"]
    {
        host.ec2.with(|ec2| {
            ec2.rules.denied = [action.to_owned()].into();
            ec2.calls.clear();
        });
        let error = host.fails(&ebs).await;
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        assert!(error.hint.unwrap().contains(&format!("ec2:{action} ")), "{}", error.message);
        assert!(!host.ec2.with(|ec2| ec2.calls.contains(&"CreateSnapshots".to_owned())));
    }
    assert!(host.snapshots().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_calls_are_retried_before_the_lock_only() {
    let host = Host::start(ShardLayout::single()).await;
    host.ec2.with(|ec2| {
        for action in ["DescribeInstances", "CreateSnapshots", "DescribeVolumes"] {
            ec2.rules.throttled.insert(action.to_owned(), 2);
        }
    });
    host.ebs().await.take(&new_run_id()).await.unwrap();
    assert_eq!(host.snapshots().len(), 1);
}

/// EC2 throttles by account and region, and so also for the calls of others
/// (<https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>).
#[tokio::test(flavor = "multi_thread")]
async fn throttled_snapshot_releases_the_lock_and_is_tried_again() {
    let host = Host::start(ShardLayout::single()).await;
    let throttle = |times: u32| {
        move |rules: &mut backstop_testkit::ec2::Ec2Behaviour| {
            rules.throttled.insert("CreateSnapshots".to_owned(), times);
        }
    };
    // Throttled at every freeze.
    let ebs = host.ebs_when("after:freeze", throttle(1)).await;
    let shard = &host.shard;
    let taken = ebs.take(&new_run_id()).await;
    let error = taken.expect_err("each freeze is throttled once more");
    assert!(error.message.contains("RequestLimitExceeded"), "{error}");
    assert!(error.message.contains("frozen 3 times"), "{error}");
    assert!(error.hint.unwrap().contains("throttles calls"));
    assert!(host.snapshots().is_empty());
    assert_unharmed(shard, &ebs).await;

    // Throttled until the second freeze.
    let (ec2, freezes) = (host.ec2.clone(), std::sync::atomic::AtomicU32::new(0));
    let twice = move || {
        if freezes.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2 {
            ec2.with(|ec2| throttle(1)(&mut ec2.rules));
        }
    };
    let ebs = EbsProvider::new(EbsSnapshotSource { ctx: at("after:freeze", twice), ..host.site().await });
    let taken = ebs.take(&new_run_id()).await.unwrap();
    assert_eq!(host.snapshots().len(), 1);
    assert_eq!(taken.position.gtid_executed, shard.primary().gtid_executed().await);
    assert_commits(shard.primary()).await;

    // No further freeze begins after the last moment.
    let mut site = EbsSnapshotSource { ctx: host.ebs_ctx("after:freeze", throttle(1)), ..host.site().await };
    site.place.timeouts.last_freeze = Some(Duration::ZERO);
    let error = host.fails(&EbsProvider::new(site)).await;
    assert!(error.message.contains("frozen 1 times"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_quota_is_reported_as_a_refusal() {
    let host = Host::start(ShardLayout::single()).await;
    host.ec2.with(|ec2| ec2.rules.quota = Some(0));
    let error = host.fails(&host.ebs().await).await;
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    assert!(error.hint.unwrap().contains("quota"));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_is_found_and_deleted_after_a_lost_answer() {
    let host = Host::start(ShardLayout::single()).await;
    for way in ["unanswered", "broken"] {
        let ec2 = host.ec2.clone();
        let lose = move || {
            ec2.with(|ec2| {
                let lost = if way == "broken" { &mut ec2.rules.broken } else { &mut ec2.rules.unanswered };
                lost.insert("CreateSnapshots".to_owned(), 1);
                // Lists lag: the first queries find nothing.
                ec2.rules.lag = 3;
                ec2.calls.clear();
            });
        };
        let mut site = EbsSnapshotSource { ctx: at("after:freeze", lose), ..host.site().await };
        site.freeze.hold = Duration::from_secs(if way == "broken" { 60 } else { 10 });
        site.place.timeouts.listed = Duration::from_secs(120);
        let ebs = EbsProvider::new(site);
        let error = host.fails(&ebs).await;
        assert!(error.message.contains("was deleted"), "{error}");
        assert!(host.snapshots().is_empty());
        let once = host.ec2.with(|ec2| ec2.calls.iter().filter(|call| *call == "CreateSnapshots").count());
        assert_eq!(once, 1, "exactly one attempt under the lock");
        assert_unharmed(&host.shard, &ebs).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_is_deleted_if_the_lock_is_not_proven() {
    let host = Host::start(ShardLayout::single()).await;
    let datadir = host.shard.base().join("m1/data");
    let ctx = at("after:image", move || kill_server_on(&datadir));
    let ebs = EbsProvider::new(EbsSnapshotSource { ctx, ..host.site().await });
    let error = ebs.take(&new_run_id()).await.unwrap_err();
    assert!(error.message.contains("was deleted"), "{error}");
    assert!(host.snapshots().is_empty());
    host.shard.primary().start().await;
    assert_unharmed(&host.shard, &ebs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn undeletable_snapshot_stays_unproven_until_deleted() {
    let host = Host::start(ShardLayout::single()).await;
    let deny = |rules: &mut backstop_testkit::ec2::Ec2Behaviour| {
        rules.denied = ["CreateTags".to_owned(), "DeleteSnapshot".to_owned()].into();
    };
    let ebs = host.ebs_when("after:thaw", deny).await;
    let error = host.fails(&ebs).await;
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.message.contains("unproven") && error.message.contains("ec2:DeleteSnapshot"), "{error}");
    let [left] = &host.snapshots()[..] else { panic!() };
    assert_eq!(host.ec2.with(|ec2| ec2.tag(left, STATE_TAG)).as_deref(), Some(UNPROVEN));

    host.ec2.with(|ec2| ec2.rules.denied.clear());
    let catalog = EbsCatalog::new(aws(&host.ec2.url, REGION).await, Timeouts::default(), test_context());
    let shard = "orders".parse().unwrap();
    assert!(catalog.tagged(&shard).await.unwrap().is_empty(), "an unproven one is no backup");
    assert!(catalog.clear_dead_runs(&shard).await.unwrap().is_empty(), "its run may still live");
    host.ec2.with(|ec2| ec2.age(301));
    // The next run deletes it, then takes its own.
    let ebs = host.ebs().await;
    let taken = ebs.take(&new_run_id()).await.unwrap();
    assert!(!host.snapshots().contains(left));
    ebs.release(&taken.snapshot).await.unwrap();
    assert!(host.snapshots().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn lagging_answers_of_ec2_are_waited_for() {
    let host = Host::start(ShardLayout::single()).await;
    host.ec2.with(|ec2| {
        ec2.rules.unknown.insert("CreateTags".to_owned(), 3);
        ec2.rules.lag = 4;
    });
    let mut site = host.site().await;
    site.place.timeouts.listed = Duration::from_secs(120);
    let ebs = EbsProvider::new(site);
    let taken = ebs.take(&new_run_id()).await.unwrap();
    assert_eq!(
        ebs.list().await.unwrap(),
        std::slice::from_ref(&taken.snapshot),
        "known from having taken it"
    );
    assert_eq!(ebs.complete(&taken.snapshot).await.unwrap(), backstop_types::backup::VolumeState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_run_leaves_no_snapshot_after_the_cleanup() {
    let host = Host::start(ShardLayout::single()).await;
    for milliseconds in [5, 40, 120, 400, 900] {
        let ebs = host.ebs().await;
        let dropped =
            tokio::time::timeout(Duration::from_millis(milliseconds), ebs.take(&new_run_id())).await;
        drop(ebs);
        assert_commits(host.shard.primary()).await;
        if let Ok(taken) = dropped {
            host.ebs().await.release(&taken.unwrap().snapshot).await.unwrap();
        }
    }
    // Snapshots that the double was still copying arrive, and are found by their tags alone.
    let ebs = host.ebs().await;
    let taken = ebs.take(&new_run_id()).await.unwrap();
    ebs.release(&taken.snapshot).await.unwrap();
    host.ec2.with(|ec2| ec2.age(301));
    let catalog = EbsCatalog::new(aws(&host.ec2.url, REGION).await, Timeouts::default(), test_context());
    catalog.clear_dead_runs(&"orders".parse().unwrap()).await.unwrap();
    let unproven = |id: &String| host.ec2.with(|ec2| ec2.tag(id, STATE_TAG)).as_deref() == Some(UNPROVEN);
    assert!(!host.snapshots().iter().any(unproven));
}
