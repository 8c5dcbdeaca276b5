//! Ends of backups: events of EBS as a queue delivers them (early, late, twice, foreign), and sweeps
//! for those that were lost.

use backstop_host::Host;
use backstop_repo::{Location, Repository, S3Access, ShardReader};
use backstop_testkit::ec2::Completion;
use backstop_types::completion::CompletionOutcome;
use backstop_types::ids::BackupId;
use serde_json::{Value, json};

use crate::support::ebs_event::{of_one, of_set};
use crate::support::environment::{Environment, REGION};
use crate::support::runtime_api::Function;

/// A shard with a function for backups and another for their ends.
struct Account {
    fleet: Environment,
    backups: Function,
    ends: Function,
}

impl Account {
    async fn start() -> Self {
        let fleet = Environment::start().await;
        fleet.ec2.with(|ec2| ec2.rules.completion = Completion::Never);
        let backups = Function::start(&fleet, "backups").await;
        // It is of the whole account, and has no variable with a repository.
        let ends = Function::start_with(&fleet, "ends", &[("BACKSTOP_REPOSITORY", "")]).await;
        Self { fleet, backups, ends }
    }

    /// Makes a backup whose snapshots EC2 still stores.
    async fn begins(&self, request: &str) -> BackupId {
        let event = json!({"secret_id": "prod/orders", "kind": "on_demand"});
        let made = self.backups.succeeds(request, event).await;
        assert_eq!(made["ebs"]["state"], "pending", "{made}");
        made["backup_id"].as_str().unwrap().parse().unwrap()
    }

    /// Ends all pending snapshots in EC2.
    fn stored(&self, state: &str) {
        self.fleet.ec2.with(|ec2| {
            let pending = ec2.snapshots.iter_mut().filter(|shot| shot.state == "pending");
            pending.for_each(|shot| state.clone_into(&mut shot.state));
        });
    }

    /// Delivers messages; returns the ids of those that must be delivered again.
    async fn delivers(&self, messages: &[(&str, Value)]) -> Vec<String> {
        let record = |(id, body): &(&str, Value)| json!({"messageId": id, "eventSource": "aws:sqs", "body": body.to_string()});
        let batch = json!({"Records": messages.iter().map(record).collect::<Vec<_>>()});
        let answer = self.ends.succeeds("r-batch", batch).await;
        let again = answer["batchItemFailures"].as_array().unwrap().iter();
        again.map(|item| item["itemIdentifier"].as_str().unwrap().to_owned()).collect()
    }

    async fn reader(&self) -> ShardReader {
        let variable = |name: &str| std::env::var(format!("BACKSTOP_TEST_S3_{name}")).unwrap();
        let url = self.fleet.environment("").into_iter().find(|(name, _)| *name == "BACKSTOP_REPOSITORY");
        let s3 = S3Access {
            endpoint: Some(variable("ENDPOINT")),
            region: Some(REGION.to_owned()),
            access_key_id: Some(variable("ACCESS_KEY_ID")),
            secret_access_key: Some(variable("SECRET_ACCESS_KEY").into()),
            ..S3Access::default()
        };
        let location = Location { s3, ..Location::new(url.unwrap().1) };
        let repository = Repository::open(&location, None, Host::system()).await.unwrap();
        repository.reader(&"shop-1".parse().unwrap())
    }

    async fn end_of(&self, id: &BackupId) -> Option<CompletionOutcome> {
        self.reader().await.completion(id).await.unwrap().map(|completion| completion.outcome)
    }

    fn mark(&self, snapshot: &str) -> Option<String> {
        self.fleet.ec2.with(|ec2| ec2.tag(snapshot, "Backstop-Completion"))
    }

    fn count(&self, event: &str) -> usize {
        self.ends.log().matches(&format!("\"event\":\"{event}\"")).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_completes_a_backup_once() {
    let account = Account::start().await;
    let id = account.begins("r-1").await;
    let snapshots = account.fleet.snapshots();
    assert_eq!(account.end_of(&id).await, None);

    // An event that EC2's answers do not confirm yet comes again
    // (https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html).
    assert_eq!(account.delivers(&[("m-1", of_set(REGION, &snapshots))]).await, ["m-1"]);
    assert_eq!((account.end_of(&id).await, account.mark(&snapshots[0])), (None, None));

    account.stored("completed");
    // Another run holds the shard meanwhile. EventBridge and SQS deliver at least once
    // (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html).
    let event = of_set(REGION, &snapshots);
    let messages = [("m-1", event.clone()), ("m-2", event), ("m-3", of_one(REGION, &snapshots[0]))];
    assert_eq!(account.delivers(&messages).await, [""; 0]);
    assert_eq!(account.end_of(&id).await, Some(CompletionOutcome::Completed));
    assert_eq!(account.mark(&snapshots[0]).as_deref(), Some("completed"));
    assert_eq!(account.count("backup_completed"), 1, "{}", account.ends.log());
    account.fleet.unharmed().await;
    assert!(!account.ends.log().contains(account.fleet.shard.password()), "a password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_snapshot_makes_no_backup() {
    let account = Account::start().await;
    let id = account.begins("r-1").await;
    let snapshots = account.fleet.snapshots();
    account.stored("error");
    assert_eq!(account.delivers(&[("m-1", of_one(REGION, &snapshots[0]))]).await, [""; 0]);
    assert_eq!(account.end_of(&id).await, Some(CompletionOutcome::Failed));
    assert_eq!(account.mark(&snapshots[0]).as_deref(), Some("failed"));
    assert_eq!((account.count("backup_incomplete"), account.count("backup_completed")), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn event_of_an_unproven_snapshot_comes_again() {
    let account = Account::start().await;
    let id = account.begins("r-1").await;
    let snapshots = account.fleet.snapshots();
    account.stored("completed");
    let state = |value: &str| {
        let value = value.to_owned();
        account.fleet.ec2.with(|ec2| ec2.snapshots[0].tags.insert("Backstop-State".to_owned(), value));
    };
    // A small volume is stored before its run has proven the lock.
    state("unproven");
    assert_eq!(account.delivers(&[("m-1", of_one(REGION, &snapshots[0]))]).await, ["m-1"]);
    assert_eq!(account.end_of(&id).await, None);
    state("proven");
    assert_eq!(account.delivers(&[("m-1", of_one(REGION, &snapshots[0]))]).await, [""; 0]);
    assert_eq!(account.end_of(&id).await, Some(CompletionOutcome::Completed));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_and_deleted_snapshots_end_quietly() {
    let account = Account::start().await;
    account.begins("r-1").await;
    let gone = account.fleet.snapshots();
    account.fleet.ec2.with(|ec2| {
        let mut foreign = ec2.snapshots[0].clone();
        foreign.id = "snap-0f0f0f0f0f0f0f0f0".to_owned();
        foreign.tags = [("Name".to_owned(), "someone's".to_owned())].into();
        ec2.snapshots = vec![foreign];
    });
    let messages = [("m-1", of_one(REGION, "snap-0f0f0f0f0f0f0f0f0")), ("m-2", of_set(REGION, &gone))];
    assert_eq!(account.delivers(&messages).await, [""; 0]);
    assert_eq!(account.count("foreign_snapshot"), 2);
    assert_eq!(account.mark("snap-0f0f0f0f0f0f0f0f0"), None);
    // A message that is no event of EBS goes to the dead-letter queue at last.
    assert_eq!(account.delivers(&[("m-3", json!({"detail": {"event": "copySnapshot"}}))]).await, ["m-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sweep_ends_what_no_event_did() {
    let account = Account::start().await;
    let (first, second) = (account.begins("r-1").await, account.begins("r-2").await);
    let sweep = || account.ends.succeeds("r-sweep", json!({"sweep": true}));
    let counts = |answer: &Value| (answer["ended"].as_u64().unwrap(), answer["pending"].as_u64().unwrap());
    assert_eq!(counts(&sweep().await), (0, 2));
    account.stored("completed");
    // Interrupted between record and mark: the sweep still finds it.
    account.fleet.ec2.with(|ec2| ec2.rules.denied = ["CreateTags".to_owned()].into());
    account
        .ends
        .fails(json!({"sweep": true}), 300, "failed", &["cannot end 2 backups", "ec2:CreateTags"])
        .await;
    account.fleet.ec2.with(|ec2| ec2.rules.denied.clear());
    assert_eq!(counts(&sweep().await), (2, 0));
    for id in [&first, &second] {
        assert_eq!(account.end_of(id).await, Some(CompletionOutcome::Completed));
    }
    assert_eq!(counts(&sweep().await), (0, 0), "their ends are marked");
    assert_eq!(account.count("backup_completed"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn set_is_complete_with_its_last_snapshot() {
    let account = Account::start().await;
    let id = account.begins("r-1").await;
    // A second volume of the same set.
    account.fleet.ec2.with(|ec2| {
        let mut logs = ec2.snapshots[0].clone();
        logs.id = "snap-0a0a0a0a0a0a0a0a0".to_owned();
        ec2.snapshots.push(logs);
        for shot in &mut ec2.snapshots {
            shot.tags.insert("Backstop-Set".to_owned(), "2".to_owned());
        }
        "completed".clone_into(&mut ec2.snapshots[0].state);
    });
    let snapshots = account.fleet.snapshots();
    assert_eq!(account.delivers(&[("m-1", of_one(REGION, &snapshots[0]))]).await, [""; 0]);
    assert_eq!((account.end_of(&id).await, account.count("set_pending")), (None, 1));
    // Lists lag: a set that is not whole comes again.
    account.fleet.ec2.with(|ec2| ec2.snapshots[1].hidden = 3);
    assert_eq!(account.delivers(&[("m-2", of_one(REGION, &snapshots[0]))]).await, ["m-2"]);
    account.fleet.ec2.with(|ec2| ec2.snapshots[1].hidden = 0);
    account.stored("completed");
    assert_eq!(account.delivers(&[("m-3", of_one(REGION, &snapshots[1]))]).await, [""; 0]);
    assert_eq!(account.end_of(&id).await, Some(CompletionOutcome::Completed));
    assert!(snapshots.iter().all(|id| account.mark(id).as_deref() == Some("completed")));
}
