//! Outcomes of invocations.

use std::time::Duration;

use backstop_testkit::ec2::Completion;
use serde_json::json;

use crate::support::environment::{Environment, REGION};
use crate::support::runtime_api::Function;

const TIME: &str = "2026-11-23T23:55:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn repeated_delivery_of_a_schedule_makes_one_backup() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    let event = json!({"secret_id": "prod/orders", "scheduled_time": TIME});
    let made = function.succeeds("r-1", event.clone()).await;
    assert_eq!(
        (&made["shard"], &made["kind"], &made["version"]),
        (&json!("shop-1"), &json!("scheduled"), &json!(1))
    );
    let candidate = fleet.shard.candidate().endpoint();
    assert_eq!(made["source"], json!({"host": candidate.host, "port": candidate.port, "role": "candidate"}));
    assert_eq!(made["freeze"]["mode"], "lock");
    assert_eq!((&made["ebs"]["region"], &made["ebs"]["state"]), (&json!(REGION), &json!("pending")));
    assert_eq!(made["ebs"]["snapshot_ids"], json!(fleet.snapshots()));
    let id = fleet.snapshots().remove(0);
    let tag = |key: &str| fleet.ec2.with(|ec2| ec2.tag(&id, key)).unwrap();
    assert_eq!(
        (json!(tag("GTID")), tag("Cluster-name")),
        (made["gtid_executed"].clone(), "shop-1".to_owned())
    );
    assert_eq!(tag("Backstop-State"), "proven");

    assert_eq!(
        (tag("Backstop-Secret"), tag("Backstop-Volume")),
        ("prod/orders".to_owned(), "size=8 device=/dev/sdf type=gp3 iops=3000 throughput=125".to_owned())
    );
    let peak = function.peak() >> 20;
    eprintln!("peak memory of the function after a backup: {peak} MiB");
    assert!(peak < 128, "{peak} MiB: it should fit into the smallest function that Lambda has");

    // The same event again, in another function, wrapped, and after the password was rotated.
    let again = Function::start(&fleet, "two").await;
    let account = fleet.shard.credentials().user;
    fleet
        .shard
        .primary()
        .run(&[&format!("ALTER USER '{account}'@'%' IDENTIFIED BY 'rotated-hunter2'")])
        .await;
    fleet.shard.settle().await;
    let mut entry = fleet.entry();
    entry["password"] = json!("rotated-hunter2");
    fleet.keeps("prod/orders", &entry);
    let wrapped = json!({"id": "e", "time": TIME, "detail": {"secret_id": "prod/orders"}});
    for (function, request) in [(&function, "r-2"), (&again, "r-3")] {
        let same = function.succeeds(request, wrapped.clone()).await;
        assert_eq!(same["backup_id"], made["backup_id"]);
    }
    assert_eq!(fleet.snapshots().len(), 1, "one occasion, one backup");

    // An on-demand backup is another one, and Lambda's second attempt of it keeps its id.
    let by_hand = json!({"secret_id": "prod/orders", "kind": "on_demand"});
    let first = function.succeeds("r-4", by_hand.clone()).await;
    assert_eq!(first["kind"], "on_demand");
    assert_ne!(first["backup_id"], made["backup_id"]);
    assert_eq!(again.succeeds("r-4", by_hand).await["backup_id"], first["backup_id"]);
    assert_eq!(fleet.snapshots().len(), 2);
    fleet.unharmed().await;

    for log in [function.log(), again.log()] {
        assert!(
            !log.contains(fleet.shard.password()) && !log.contains("hunter2"),
            "a password is in the log"
        );
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let ended = lines.filter(|line| line["event"] == "backup_started").count();
        assert!(ended >= 2, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_invocations_are_fenced() {
    let fleet = Environment::start().await;
    let (first, second) = (Function::start(&fleet, "one").await, Function::start(&fleet, "two").await);
    // The first holds the lease while it looks for the snapshot of an answer that was lost.
    fleet.ec2.with(|ec2| {
        ec2.rules.unanswered = [("CreateSnapshots".to_owned(), 1)].into();
        ec2.rules.lag = 5;
    });
    let mut entry = fleet.entry();
    entry["freeze"] = json!({"hold": "10s"});
    fleet.keeps("prod/orders", &entry);
    let event = |time: &str| json!({"secret_id": "prod/orders", "scheduled_time": time});
    let long = first.invoke("r-1", event(TIME), Duration::from_secs(90));
    let fenced = async {
        while fleet.snapshots().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        second.fails(event("2026-11-23T23:56:00Z"), 300, "held", &["backup", "pid"]).await;
    };
    let ((ok, said), ()) = tokio::join!(long, fenced);
    assert!(!ok && said["errorMessage"].as_str().unwrap().contains("was deleted"), "{said}");
    assert!(fleet.snapshots().is_empty());
    fleet.unharmed().await;
}

/// A first snapshot of real size is stored for hours, and EBS takes the next one of the volume only
/// after it.
#[tokio::test(flavor = "multi_thread")]
async fn occasion_is_skipped_while_the_earlier_backup_is_pending() {
    let fleet = Environment::start().await;
    fleet.ec2.with(|ec2| ec2.rules.completion = Completion::Never);
    let function = Function::start(&fleet, "one").await;
    let event = |time: &str| json!({"secret_id": "prod/orders", "scheduled_time": time});
    let first = function.succeeds("r-1", event(TIME)).await;
    let second = function.succeeds("r-2", event("2026-11-24T23:55:00Z")).await;
    assert_eq!(second["pending"], first["backup_id"]);
    assert!(second["skipped"].as_str().unwrap().contains("still stores"), "{second}");
    assert_eq!(fleet.snapshots().len(), 1);
    assert!(function.log().contains("backup_skipped"), "{}", function.log());
    // It fails after its run has ended: the next run reports that, and counts it for nothing.
    fleet.ec2.with(|ec2| {
        "error".clone_into(&mut ec2.snapshots[0].state);
        ec2.rules.completion = Completion::After(1);
    });
    function.succeeds("r-3", event("2026-11-25T23:55:00Z")).await;
    let log = function.log();
    assert!(log.contains("WARNING: backup") && log.contains("ended in an error"), "{log}");
    assert_eq!(fleet.snapshots().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_returned_with_their_type() {
    let fleet = Environment::start().await;
    let function = Function::start(&fleet, "one").await;
    let id = |id: &str| json!({"secret_id": id});
    let other = |name: &str, key: &str, value: serde_json::Value| {
        let mut entry = fleet.entry();
        entry[key] = value;
        fleet.keeps(name, &entry);
        json!({"secret_id": name})
    };
    function.fails(json!({"secret": "x"}), 300, "usage", &["read the event", "secret_id"]).await;
    function.fails(id("none"), 300, "usage", &["none", REGION]).await;
    fleet.refuses("denied", "AccessDeniedException");
    function.fails(id("denied"), 300, "denied", &["secretsmanager:GetSecretValue on denied"]).await;
    fleet.refuses("gone", "InvalidRequestException");
    function.fails(id("gone"), 300, "usage", &["deletion"]).await;
    fleet.secrets.lock().unwrap().insert("text".to_owned(), Ok("hunter2".to_owned()));
    function.fails(id("text"), 300, "usage", &["secret text", "JSON"]).await;
    let event = other("keys", "hunter2", json!("hunter2"));
    function.fails(event, 300, "usage", &["secret keys", "unknown key"]).await;
    let event = other("disk", "repository", json!("file:///tmp/backups"));
    function.fails(event, 300, "usage", &["disk"]).await;
    let event = other("cluster", "orchestrator_cluster_name", json!("nobody"));
    function.fails(event, 300, "usage", &["nobody"]).await;
    let event = other("password", "password", json!("hunter2"));
    function.fails(event, 300, "denied", &["127.0.0.1"]).await;
    let event = other("region", "region", json!("us-test-9"));
    function.fails(event, 300, "refused", &["us-test-9"]).await;
    function.fails(id("prod/orders"), 90, "refused", &["freeze the source", "timeout"]).await;
    assert_eq!(fleet.attempts(), 0);
    fleet.ec2.with(|ec2| ec2.rules.denied = ["CreateTags".to_owned()].into());
    function.fails(id("prod/orders"), 300, "denied", &["ec2:CreateTags"]).await;
    assert!(fleet.snapshots().is_empty());
    fleet.unharmed().await;
    let log = function.log();
    assert!(!log.contains(fleet.shard.password()) && !log.contains("hunter2"), "a secret is in the log");
    assert!(log.contains("backup_failed"), "{log}");
}
