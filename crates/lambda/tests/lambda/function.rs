//! The function, and all that it meets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backstop_testkit::ec2::FakeEc2;
use backstop_testkit::{Layout, Shard};
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::served::{Answer, Request, Served};

pub const REGION: &str = "eu-test-1";
const WAIT: Duration = Duration::from_secs(180);

/// A shard, what knows it, and what it is backed up to.
pub struct Fleet {
    pub shard: Shard,
    pub ec2: FakeEc2,
    /// Secrets by id: the text, or the code of an error.
    pub secrets: Arc<Mutex<BTreeMap<String, Result<String, &'static str>>>>,
    manager: Served,
    orchestrator: Served,
    prefix: String,
}

impl Fleet {
    pub async fn start() -> Self {
        let shard = Shard::start(Layout::default()).await;
        let ec2 = FakeEc2::start(0, &shard.base().join("images")).await;
        for (index, member) in shard.members.iter().enumerate() {
            let folder = shard.base().join(format!("m{}/data", index + 1));
            let (instance, host) = (format!("i-{}", index + 1), member.endpoint().to_string());
            ec2.with(|ec2| drop(ec2.add_mysql_host(&instance, &host, Some(folder)).id.clone()));
        }
        let secrets = Arc::new(Mutex::new(BTreeMap::new()));
        let answers = orchestrator_answers(&shard).await;
        let orchestrator = Served::start(move |request| {
            let known = answers.get(request.path.trim_start_matches("/api/")).cloned();
            let answer =
                known.map_or((404, String::new(), "{}".to_owned()), |body| (200, String::new(), body));
            Box::pin(async move { answer })
        })
        .await;
        let held = Arc::clone(&secrets);
        let manager = Served::start(move |request| {
            let answer = secret_value(&request, &held.lock().unwrap());
            Box::pin(async move { answer })
        })
        .await;
        let prefix = format!("lambda-{}", shard.base().file_name().unwrap().to_string_lossy());
        let fleet = Self { shard, ec2, secrets, manager, orchestrator, prefix };
        fleet.keeps("prod/orders", &fleet.entry());
        fleet
    }

    /// What the shard's secret holds.
    pub fn entry(&self) -> Value {
        let account = self.shard.credentials().user;
        json!({
            "username": account, "password": self.shard.password(),
            "orchestrator_urls": [format!("http://{}", self.orchestrator.address)],
            "orchestrator_cluster_name": "shop-1", "region": REGION, "volume": {"device": "/dev/sdf"},
            // The copy that stands in for a snapshot takes longer than EC2's answer.
            "freeze": {"hold": "60s"},
        })
    }

    pub fn keeps(&self, id: &str, entry: &Value) {
        self.secrets.lock().unwrap().insert(id.to_owned(), Ok(entry.to_string()));
    }

    pub fn refuses(&self, id: &str, code: &'static str) {
        self.secrets.lock().unwrap().insert(id.to_owned(), Err(code));
    }

    pub fn snapshots(&self) -> Vec<String> {
        self.ec2.with(|ec2| ec2.ids())
    }
}

/// What orchestrator says of the shard, as recorded from a real one, with this shard's servers in it.
async fn orchestrator_answers(shard: &Shard) -> BTreeMap<String, String> {
    let recorded = |name: &str| {
        let folder = "../adapters/tests/fixtures/orchestrator";
        std::fs::read_to_string(format!("{}/{folder}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let mut cluster: Value = serde_json::from_str(&recorded("03-cluster-alias.json")).unwrap();
    let key = |index: usize| json!({"Hostname": "127.0.0.1", "Port": shard.members[index].endpoint().port});
    let mut answers = BTreeMap::new();
    for (index, member) in shard.members.iter().enumerate() {
        cluster[index]["Key"] = key(index);
        cluster[index]["ServerUUID"] = json!(member.value("SELECT @@server_uuid").await);
        cluster[index]["Replicas"] = json!([]);
        if index > 0 {
            cluster[index]["MasterKey"] = key(0);
        }
        let port = member.endpoint().port;
        answers.insert(format!("refresh/127.0.0.1/{port}"), recorded("05-refresh.json"));
    }
    for (path, body) in [
        ("leader-check", recorded("06-leader-check.json")),
        ("cluster-info/alias/shop-1", recorded("02-cluster-info-alias.json")),
        ("cluster/alias/shop-1", cluster.to_string()),
        ("replication-analysis", recorded("07-replication-analysis.json")),
    ] {
        answers.insert(path.to_owned(), body);
    }
    answers
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

/// What came of an invocation: the path says whether it is an error.
type Outcome = (bool, Value);
type Event = (String, Value, Duration, oneshot::Sender<Outcome>);

/// A running `bootstrap`.
pub struct Function {
    child: Child,
    events: mpsc::UnboundedSender<Event>,
    log: PathBuf,
    _runtime: Served,
}

impl Function {
    pub async fn start(fleet: &Fleet, name: &str) -> Self {
        let (events, waiting) = mpsc::unbounded_channel();
        let runtime = runtime_api(waiting).await;
        let log = fleet.shard.base().join(format!("{name}.log"));
        let written = std::fs::File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_bootstrap"))
            .env_clear()
            .envs(environment(fleet, &runtime))
            .stdin(Stdio::null())
            .stdout(written.try_clone().unwrap())
            .stderr(written)
            .spawn()
            .unwrap();
        Self { child, events, log, _runtime: runtime }
    }

    /// Invokes it with this much time.
    pub async fn invoke(&self, request: &str, event: Value, time: Duration) -> Outcome {
        let (tell, told) = oneshot::channel();
        self.events.send((request.to_owned(), event, time, tell)).unwrap();
        match tokio::time::timeout(WAIT, told).await {
            Ok(Ok(outcome)) => outcome,
            _ => panic!("no answer to {request}: {}", self.log()),
        }
    }

    pub async fn succeeds(&self, request: &str, event: Value) -> Value {
        let (ok, said) = self.invoke(request, event, Duration::from_secs(300)).await;
        assert!(ok, "{said}\n{}", self.log());
        said
    }

    /// It fails with this type, and a message with these parts.
    pub async fn fails(&self, event: Value, time: u64, kind: &str, parts: &[&str]) {
        let (ok, said) = self.invoke("r-fails", event, Duration::from_secs(time)).await;
        let message = said["errorMessage"].as_str().unwrap_or_default();
        let right = !ok && said["errorType"] == kind && parts.iter().all(|part| message.contains(part));
        assert!(right, "expected {kind} {parts:?}: {said}");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn environment(fleet: &Fleet, runtime: &Served) -> Vec<(&'static str, String)> {
    let s3 = |name: &str| {
        std::env::var(format!("BACKSTOP_TEST_S3_{name}")).expect("an S3 server: use `make test-aws`")
    };
    vec![
        ("AWS_LAMBDA_RUNTIME_API", runtime.address.clone()),
        ("AWS_LAMBDA_FUNCTION_NAME", "backstop-orders".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512".to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", s3("ACCESS_KEY_ID")),
        ("AWS_SECRET_ACCESS_KEY", s3("SECRET_ACCESS_KEY")),
        ("AWS_ENDPOINT_URL_S3", s3("ENDPOINT")),
        ("AWS_ENDPOINT_URL_EC2", fleet.ec2.url.clone()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", format!("http://{}", fleet.manager.address)),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("BACKSTOP_REPOSITORY", format!("s3://{}/{}", s3("BUCKET"), fleet.prefix)),
        ("BACKSTOP_LOG", "debug".to_owned()),
    ]
}

/// A double of Lambda's Runtime API: hands out events one by one, and takes what comes of them.
async fn runtime_api(waiting: mpsc::UnboundedReceiver<Event>) -> Served {
    let waiting = Arc::new(AsyncMutex::new(waiting));
    let running: Arc<Mutex<BTreeMap<String, oneshot::Sender<Outcome>>>> = Arc::default();
    Served::start(move |request| {
        let (waiting, running) = (Arc::clone(&waiting), Arc::clone(&running));
        Box::pin(async move {
            let parts: Vec<&str> =
                request.path.trim_start_matches("/2018-06-01/runtime/").split('/').collect();
            match parts[..] {
                ["invocation", "next"] => {
                    let next = waiting.lock().await.recv().await;
                    let Some((id, event, time, tell)) = next else { return std::future::pending().await };
                    running.lock().unwrap().insert(id.clone(), tell);
                    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + time;
                    let headers = format!(
                        "lambda-runtime-aws-request-id: {id}\r\nlambda-runtime-deadline-ms: {}\r\n\
                         lambda-runtime-invoked-function-arn: arn:aws:lambda:x\r\n",
                        end.as_millis()
                    );
                    (200, headers, event.to_string())
                }
                ["invocation", id, end] => {
                    let said = serde_json::from_str(&request.body).unwrap_or(Value::String(request.body));
                    let tell = running.lock().unwrap().remove(id);
                    let _ = tell.map(|tell| tell.send((end == "response", said)));
                    (202, String::new(), "{}".to_owned())
                }
                _ => (202, String::new(), "{}".to_owned()),
            }
        })
    })
    .await
}
