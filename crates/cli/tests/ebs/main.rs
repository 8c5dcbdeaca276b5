//! The real program with EBS, from the ordinary configuration: against a strict fake of EC2,
//! killed, denied and misled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait by the machine's own clock")]

mod check_account;
mod data_on_volume;
mod recover_ebs;
mod support;

use backstop_testkit::ec2::{Completion, FakeEc2};
use backstop_testkit::snapshot_conformance::assert_commits;
use backstop_testkit::{ShardLayout, TestShard};
use support::program::{Backstop, points};

const REGION: &str = "eu-test-1";

struct Fleet {
    shard: TestShard,
    ec2: FakeEc2,
    backstop: Backstop,
}

impl Fleet {
    async fn start() -> Self {
        let shard = TestShard::start(ShardLayout::single()).await;
        let ec2 = FakeEc2::start(0, &shard.base().join("images")).await;
        let folder = shard.base().join("m1/data");
        let server = shard.primary().endpoint().to_string();
        ec2.with(|ec2| {
            ec2.add_mysql_host("i-1", &server, Some(folder));
        });
        let mut backstop = Backstop::of(&shard, "ebs").await;
        backstop.environment = vec![
            ("AWS_ENDPOINT_URL", ec2.url.clone()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_REGION", REGION.to_owned()),
            ("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_VOLUME_DEVICE", "/dev/sdf".to_owned()),
            // The copy that represents a snapshot takes longer than EC2's answer.
            ("BACKSTOP_SHARDS_ORDERS_FREEZE_HOLD", "60s".to_owned()),
        ];
        Self { shard, ec2, backstop }
    }

    fn without(&mut self, variable: &str) {
        self.backstop.environment.retain(|(name, _)| *name != variable);
    }

    fn snapshots(&self) -> Vec<String> {
        self.ec2.with(|ec2| ec2.ids())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ebs_backup_is_listed_and_verified_by_its_state() {
    let fleet = Fleet::start().await;
    assert_eq!(fleet.backstop.json("check orders").await["ok"], true);
    let backup = fleet.backstop.json("backup orders").await;
    assert_eq!(backup["ebs"]["state"], "completed", "{backup}");
    assert_eq!(backup["ebs"]["region"], REGION);
    assert_eq!(backup["ebs"]["snapshot_ids"], serde_json::json!(fleet.snapshots()));
    assert_eq!(backup["freeze"]["mode"], "lock");

    let list = fleet.backstop.json("backups orders --latest").await;
    assert_eq!(list["backups"][0]["state"], "complete");
    assert_eq!(list["backups"][0]["ebs"], backup["ebs"]);
    fleet.ec2.with(|ec2| {
        "pending".clone_into(&mut ec2.snapshots[0].state);
        ec2.rules.completion = Completion::Never;
    });
    let list = fleet.backstop.json("backups orders").await;
    assert_eq!(list["backups"][0]["state"], "pending");
    fleet.ec2.with(|ec2| "error".clone_into(&mut ec2.snapshots[0].state));
    assert_eq!(fleet.backstop.json("backups orders").await["backups"][0]["state"], "damaged");

    let verified = fleet.backstop.run("--json verify orders").await;
    assert_eq!(verified.status.code(), Some(22), "{verified}");
    assert!(verified.out.contains("EC2 could not complete it"), "{verified}");
    let of_it = &serde_json::from_str::<serde_json::Value>(&verified.out).unwrap()["shards"][0];
    assert_eq!((&of_it["backups"][0]["state"], &of_it["contents_read"]), (&"damaged".into(), &false.into()));

    // The bucket is lost.
    std::fs::remove_dir_all(&fleet.backstop.repository).unwrap();
    fleet.ec2.with(|ec2| "completed".clone_into(&mut ec2.snapshots[0].state));
    let tagged = fleet.backstop.json("backups orders --from-tags --latest").await;
    let tagged = &tagged["from_tags"][0];
    assert_eq!((&tagged["backup_id"], &tagged["ebs"]), (&backup["backup_id"], &backup["ebs"]));
    assert_eq!((&tagged["gtid"], &tagged["cluster_name"]), (&backup["gtid_executed"], &"orders".into()));
    fleet.backstop.run("backups orders --from-tags").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_errors_have_their_exit_codes() {
    let mut fleet = Fleet::start().await;
    let denied =
        |fleet: &Fleet, action: &str| fleet.ec2.with(|ec2| ec2.rules.denied = [action.to_owned()].into());
    denied(&fleet, "CreateTags");
    fleet.backstop.run("backup orders").await.failed(12, &["ec2:CreateTags"]);
    denied(&fleet, "DescribeSnapshots");
    fleet.backstop.run("backups orders --from-tags").await.failed(12, &["ec2:DescribeSnapshots"]);
    fleet.ec2.with(|ec2| {
        ec2.rules.denied.clear();
        ec2.rules.quota = Some(0);
    });
    fleet.backstop.run("backup orders").await.failed(20, &["SnapshotLimitExceeded", "quota"]);
    fleet
        .backstop
        .run("--set shards.orders.snapshot.region=us-test-9 backup orders")
        .await
        .failed(20, &["us-test-9"]);
    fleet.backstop.run("backups orders --from-tags --latest").await.failed(21, &["no backup yet"]);
    fleet.without("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_VOLUME_DEVICE");
    fleet
        .backstop
        .run("backup orders")
        .await
        .failed(20, &["nothing identifies which volume", "vol-data-1", "MySQL-Mount"]);
    fleet.without("BACKSTOP_SHARDS_ORDERS_SNAPSHOT_REGION");
    fleet.backstop.run("backup orders").await.failed(2, &["region", "AWS_REGION"]);
    fleet.backstop.environment.push(("AWS_REGION", REGION.to_owned()));
    fleet.without("AWS_ACCESS_KEY_ID");
    fleet.backstop.run("backup orders").await.failed(12, &["credentials"]);
    assert!(fleet.snapshots().is_empty());
    assert_commits(fleet.shard.primary()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ebs_backup_succeeds_after_a_kill_at_every_step() {
    let fleet = Fleet::start().await;
    for point in points(&["freeze", "image", "thaw", "prove", "snapshot", "store", "commit", "complete"]) {
        fleet.backstop.killed("backup orders", &point).await;
        assert_commits(fleet.shard.primary()).await;
    }
    let last = fleet.backstop.json("backup orders").await;
    let listed = fleet.backstop.backups().await;
    assert_eq!(listed[0], last["backup_id"].as_str().unwrap());
    // A run that is killed before the commit leaves no backup; after the commit the backup exists.
    assert_eq!(listed.len(), 4, "after:commit, before:complete, after:complete and the last");

    fleet.ec2.with(|ec2| ec2.age(301));
    let ran = fleet.backstop.run("--json prune orders --apply").await;
    assert!(ran.err.contains("are proven, but no backup refers to them"), "{ran}");
    let pruned = ran.json();
    let removed = pruned["shards"][0]["removed_snapshots"].as_array().unwrap().len();
    assert_eq!(
        removed, 4,
        "after:image, before:thaw, after:thaw and before:prove leave unproven ones: {pruned}"
    );
    let unproven = fleet
        .ec2
        .with(|ec2| ec2.snapshots.iter().filter(|shot| shot.tags["Backstop-State"] == "unproven").count());
    assert_eq!(unproven, 0);
    assert_eq!(fleet.backstop.backups().await, listed, "what is committed stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_whose_snapshot_fails_later_is_never_used() {
    let fleet = Fleet::start().await;
    let (backstop, ec2) = (&fleet.backstop, &fleet.ec2);
    let older = backstop.json("backup orders").await["backup_id"].as_str().unwrap().to_owned();
    assert_commits(fleet.shard.primary()).await;
    ec2.with(|ec2| ec2.rules.completion = Completion::Never);
    let newer = backstop.json("backup orders --set shards.orders.snapshot.complete_wait=0s").await;
    assert_eq!(newer["ebs"]["state"], "pending", "{newer}");
    let newer = newer["backup_id"].as_str().unwrap().to_owned();
    let snapshot = fleet.snapshots().pop().unwrap();
    let becomes = |state: &str| {
        ec2.with(|ec2| {
            let shot = ec2.snapshots.iter_mut().find(|shot| shot.id == snapshot).unwrap();
            state.clone_into(&mut shot.state);
        });
    };
    let codes = |report: &serde_json::Value| -> Vec<String> {
        let findings = report["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
    };

    // The newest snapshot is not complete yet: the plan uses the older backup, and reports that.
    let plan = backstop.json("plan orders --to latest").await;
    assert_eq!(
        (plan["backup_id"].as_str(), codes(&plan)),
        (Some(&*older), vec!["latest".into(), "backup-pending".into()])
    );
    let named = backstop.json(&format!("plan orders --backup {newer}")).await;
    assert_eq!(
        (named["backup_id"].as_str(), codes(&named)),
        (Some(&*newer), vec!["backup-pending".to_owned()])
    );
    let status = backstop.json("status orders").await;
    assert_eq!(status["shards"][0]["coverage"]["windows"].as_array().unwrap().len(), 1, "{status}");

    becomes("error");
    let status = backstop.run("--json status orders").await;
    assert!(status.status.code() == Some(1) && status.out.contains("backup-lost"), "{status}");
    let plan = backstop.json("plan orders --to latest").await;
    assert_eq!(
        (plan["backup_id"].as_str(), codes(&plan)),
        (Some(&*older), vec!["latest".into(), "backup-lost".into()])
    );
    backstop.run(&format!("plan orders --backup {newer}")).await.failed(22, &[&newer, "ended in an error"]);
    let verified = backstop.run("--json verify orders").await;
    assert!(verified.status.code() == Some(22) && verified.out.contains("ended in an error"), "{verified}");
    let next = backstop.run("backup orders --set shards.orders.snapshot.complete_wait=0s").await;
    assert!(next.status.success() && next.err.contains(&format!("WARNING: backup {newer}")), "{next}");

    // A command that may not query EC2 reports that.
    ec2.with(|ec2| ec2.rules.denied = ["DescribeSnapshots".to_owned()].into());
    let status = backstop.run("--json status orders").await;
    assert!(status.status.code() == Some(1) && status.out.contains("backup-not-asked"), "{status}");
    let verified = backstop.run("--json verify orders").await;
    assert!(
        verified.status.code() == Some(1) && verified.out.contains("ec2:DescribeSnapshots"),
        "{verified}"
    );
    assert_eq!(backstop.json("backups orders").await["backups"][0]["state"], "unknown");
    let plan = backstop.json("plan orders --to latest").await;
    assert_eq!(codes(&plan), ["latest", "backup-not-asked"], "{plan}");

    // Nothing is left.
    ec2.with(|ec2| {
        ec2.rules.denied.clear();
        ec2.snapshots.iter_mut().for_each(|shot| "error".clone_into(&mut shot.state));
    });
    let status = backstop.run("--json status orders").await;
    assert!(status.status.code() == Some(1) && status.out.contains("nothing-recoverable"), "{status}");
    backstop.run("plan orders --to latest").await.failed(22, &[&older, &newer]);
}
