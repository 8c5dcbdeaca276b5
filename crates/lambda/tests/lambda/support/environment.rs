//! Environment of the function: a shard, orchestrator, the secrets, EC2, and the repository.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use backstop_testkit::ec2::FakeEc2;
use backstop_testkit::snapshot_conformance::assert_commits;
use backstop_testkit::{ShardLayout, TestShard};
use serde_json::{Value, json};

use crate::support::http_server::{Answer, HttpServer, Request};
use crate::support::orchestrator::Orchestrator;

pub const REGION: &str = "eu-test-1";

/// A shard with its orchestrator, secrets, EC2 and repository.
pub struct Environment {
    pub shard: TestShard,
    pub ec2: FakeEc2,
    /// Secrets by id: the text, or the code of an error.
    pub secrets: Arc<Mutex<BTreeMap<String, Result<String, &'static str>>>>,
    pub orchestrator: Orchestrator,
    manager: HttpServer,
    prefix: String,
}

impl Environment {
    /// Starts a primary and the candidate that takes its place as the source of the backup.
    pub async fn start() -> Self {
        Self::start_with(ShardLayout { members: 2, ..ShardLayout::default() }).await
    }

    /// Starts it with another layout of two members.
    pub async fn start_with(layout: ShardLayout) -> Self {
        let shard = TestShard::start(layout).await;
        let ec2 = FakeEc2::start(0, &shard.base().join("images")).await;
        for (index, member) in shard.members.iter().enumerate() {
            let folder = shard.base().join(format!("m{}/data", index + 1));
            let (instance, host) = (format!("i-{}", index + 1), member.endpoint().to_string());
            ec2.with(|ec2| drop(ec2.add_mysql_host(&instance, &host, Some(folder)).id.clone()));
        }
        let secrets = Arc::new(Mutex::new(BTreeMap::new()));
        let orchestrator = Orchestrator::of(&shard).await;
        let held = Arc::clone(&secrets);
        let manager = HttpServer::start(move |request| {
            let answer = secret_value(&request, &held.lock().unwrap());
            Box::pin(async move { answer })
        })
        .await;
        let prefix = format!("lambda-{}", shard.base().file_name().unwrap().to_string_lossy());
        let fleet = Self { shard, ec2, secrets, orchestrator, manager, prefix };
        fleet.keeps("prod/orders", &fleet.entry());
        fleet
    }

    /// Returns the contents of the shard's secret.
    pub fn entry(&self) -> Value {
        let account = self.shard.credentials().user;
        json!({
            "username": account, "password": self.shard.password(),
            "orchestrator_urls": [self.orchestrator.url()],
            "orchestrator_cluster_name": "shop-1", "region": REGION, "volume": {"device": "/dev/sdf"},
            // The copy that serves as a snapshot takes longer than EC2's answer.
            "freeze": {"hold": "60s"},
        })
    }

    pub fn keeps(&self, id: &str, entry: &Value) {
        self.secrets.lock().unwrap().insert(id.to_owned(), Ok(entry.to_string()));
    }

    pub fn refuses(&self, id: &str, code: &'static str) {
        self.secrets.lock().unwrap().insert(id.to_owned(), Err(code));
    }

    /// Returns the number of requests to EC2 to create snapshots.
    pub fn attempts(&self) -> usize {
        self.ec2.with(|ec2| ec2.calls.iter().filter(|call| *call == "CreateSnapshots").count())
    }

    /// Asserts that nothing is locked: the primary accepts writes, and the candidate applies them.
    pub async fn unharmed(&self) {
        assert_commits(self.shard.primary()).await;
        self.shard.settle().await;
    }

    pub fn snapshots(&self) -> Vec<String> {
        self.ec2.with(|ec2| ec2.ids())
    }

    /// Has EC2 store all snapshots.
    pub fn stores(&self) {
        self.ec2
            .with(|ec2| ec2.snapshots.iter_mut().for_each(|shot| "completed".clone_into(&mut shot.state)));
    }

    /// Returns the function's variables.
    pub fn environment(&self, runtime: &str) -> Vec<(&'static str, String)> {
        let s3 = |name: &str| {
            std::env::var(format!("BACKSTOP_TEST_S3_{name}")).expect("an S3 server: use `make test-aws`")
        };
        vec![
            ("AWS_LAMBDA_RUNTIME_API", runtime.to_owned()),
            ("AWS_LAMBDA_FUNCTION_NAME", "backstop-orders".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", s3("ACCESS_KEY_ID")),
            ("AWS_SECRET_ACCESS_KEY", s3("SECRET_ACCESS_KEY")),
            ("AWS_ENDPOINT_URL_S3", s3("ENDPOINT")),
            ("AWS_ENDPOINT_URL_EC2", self.ec2.url.clone()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", format!("http://{}", self.manager.address)),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("BACKSTOP_REPOSITORY", format!("s3://{}/{}", s3("BUCKET"), self.prefix)),
            ("BACKSTOP_REPOSITORY_CREATE", "if-empty".to_owned()),
            ("BACKSTOP_LOG", "debug".to_owned()),
        ]
    }
}

fn secret_value(request: &Request, secrets: &BTreeMap<String, Result<String, &'static str>>) -> Answer {
    let json_type = "content-type: application/x-amz-json-1.1\r\n".to_owned();
    let asked: Value = serde_json::from_str(&request.body).unwrap();
    let id = asked["SecretId"].as_str().unwrap();
    match secrets.get(id) {
        Some(Ok(text)) => (200, json_type, json!({"Name": id, "SecretString": text}).to_string()),
        other => {
            let code = other.and_then(|error| error.as_ref().err()).unwrap_or(&"ResourceNotFoundException");
            (400, json_type, json!({"__type": code, "message": "this is not for you"}).to_string())
        }
    }
}
