//! Answers of EC2 or orchestrator that prevent a backup: the error names them, and nothing is left
//! locked or snapshotted.

use serde_json::{Value, json};

use crate::support::environment::{Environment, REGION};
use crate::support::runtime_api::Function;

fn shard() -> Value {
    json!({"secret_id": "prod/orders"})
}

#[tokio::test(flavor = "multi_thread")]
async fn ec2_quota_permission_and_volume_errors_are_returned() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    for action in ["DescribeInstances", "DescribeVolumes", "DescribeSnapshots", "CreateSnapshots"] {
        fleet.ec2.with(|ec2| ec2.rules.denied = [action.to_owned()].into());
        function.fails(shard(), 300, "denied", &[&format!("ec2:{action} ")]).await;
    }
    assert_eq!(fleet.attempts(), 0, "all of it was found out before the lock");
    fleet.ec2.with(|ec2| {
        ec2.rules.denied.clear();
        ec2.rules.quota = Some(0);
    });
    function.fails(shard(), 300, "refused", &["snapshot quota", REGION]).await;
    fleet.unharmed().await;
    fleet.ec2.with(|ec2| ec2.rules.quota = None);

    let mut entry = fleet.entry();
    entry["volume"] = json!({"device": "/dev/sdz"});
    fleet.keeps("prod/orders", &entry);
    function.fails(shard(), 300, "refused", &["no volume with device /dev/sdz", "i-2"]).await;
    fleet.keeps("prod/orders", &fleet.entry());
    let candidate = fleet.shard.candidate().endpoint().to_string();
    fleet.ec2.with(|ec2| drop(ec2.add_mysql_host("i-9", &candidate, None).id.clone()));
    function.fails(shard(), 300, "refused", &["may be any of i-2, i-9", &candidate]).await;
    fleet.ec2.with(|ec2| "terminated".clone_into(&mut ec2.instances[2].state));
    assert!(fleet.snapshots().is_empty());
    fleet.unharmed().await;
    // After all of it is corrected, the same function makes the backup.
    function.succeeds("r-right", shard()).await;
    assert_eq!(fleet.snapshots().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_or_contradicting_orchestrator_is_refused() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    let path = "cluster/alias/shop-1";
    let healthy = fleet.orchestrator.said(path);
    // Each server answers at the address of the other.
    let mut swapped = healthy.clone();
    let first = swapped[0]["ServerUUID"].take();
    swapped[0]["ServerUUID"] = std::mem::replace(&mut swapped[1]["ServerUUID"], first);
    let uuids = [healthy[0]["ServerUUID"].as_str().unwrap(), healthy[1]["ServerUUID"].as_str().unwrap()];
    fleet.orchestrator.says(path, 200, &swapped.to_string());
    function.fails(shard(), 300, "refused", &uuids).await;

    let mut stale = healthy.clone();
    for instance in stale.as_array_mut().unwrap() {
        instance["IsRecentlyChecked"] = json!(false);
    }
    fleet.orchestrator.says(path, 200, &stale.to_string());
    function.fails(shard(), 300, "refused", &["not checked recently"]).await;
    assert_eq!((fleet.attempts(), fleet.snapshots().len()), (0, 0));
    fleet.unharmed().await;
    fleet.orchestrator.says(path, 200, &healthy.to_string());
    function.succeeds("r-right", shard()).await;
}
