//! A MiniStack schedule invokes the real function, and an independent client reads the tags of its
//! snapshot.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backstop_host::Host;
use backstop_repo::{CatalogEntry, Location, Repository, S3Access, ShardReader, Storage};
use backstop_types::completion::CompletionOutcome;
use serde_json::{Value, json};

use crate::support::ebs_event::{batch, of_set};
use crate::support::environment::{Environment, REGION};
use crate::support::runtime_api::Function;

const TIME: &str = "2026-11-23T23:55:00Z";
const WAIT: Duration = Duration::from_secs(60);

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// MiniStack, an independent double of AWS' functions and schedules. Stopped when dropped.
pub struct MiniStack {
    child: Child,
    url: String,
    log: PathBuf,
}

impl MiniStack {
    async fn start(fleet: &Environment, login: &[(&str, String)]) -> Self {
        let port = backstop_testkit::member::free_port();
        let log = fleet.shard.base().join("ministack.log");
        let written = File::create(&log).unwrap();
        let child = Command::new(root(".cache/ministack/bin/ministack"))
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("MINISTACK_REGION", REGION)
            .env("SERVICES", "lambda,scheduler,events,secretsmanager,iam,sts,logs")
            .env("TMPDIR", fleet.shard.base())
            .envs(login.iter().map(|(name, value)| (*name, value.as_str())))
            .current_dir(fleet.shard.base())
            .stdin(Stdio::null())
            .stdout(written.try_clone().unwrap())
            .stderr(written)
            .spawn()
            .expect("MiniStack: run testing/install test");
        let stack = Self { child, url: format!("http://127.0.0.1:{port}"), log };
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(begun.elapsed() < WAIT, "MiniStack does not start: {}", stack.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stack
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for MiniStack {
    fn drop(&mut self) {
        // On SIGTERM it stops the functions that it started.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the output of a script of `testing/ministack`.
fn python(login: &[(&str, String)], script: &str, arguments: &[&str], given: &str) -> String {
    let mut child = Command::new(root(".cache/venv/bin/python"))
        .arg(root("testing/ministack").join(script))
        .args(arguments)
        .envs(login.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python: run testing/install test");
    child.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An environment with a backup that a schedule triggered.
pub struct Scheduled {
    pub stack: MiniStack,
    pub reader: ShardReader,
    pub entry: CatalogEntry,
    pub location: Location,
}

impl Scheduled {
    /// Runs the function by a MiniStack schedule with this secret and this address of EC2, and
    /// waits for the outcome.
    pub async fn fire(fleet: &Environment, secret: &Value, ec2: &str) -> Self {
        let environment = fleet.environment("");
        let is_login = |name: &str| name == "AWS_ACCESS_KEY_ID" || name == "AWS_SECRET_ACCESS_KEY";
        let login: Vec<_> = environment.iter().filter(|(name, _)| is_login(name)).cloned().collect();
        let stack = MiniStack::start(fleet, &login).await;
        // MiniStack sets those itself, as Lambda does.
        let own = |name: &str| !is_login(name) && !name.starts_with("AWS_LAMBDA") && name != "AWS_REGION";
        let mut variables: serde_json::Map<String, Value> = environment
            .into_iter()
            .filter(|(name, _)| own(name))
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        variables.insert("BACKSTOP_LOG".to_owned(), json!("info"));
        variables.insert("AWS_ENDPOINT_URL_EC2".to_owned(), json!(ec2));
        variables.insert("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned(), json!(stack.url));
        let repository = variables["BACKSTOP_REPOSITORY"].as_str().unwrap().to_owned();
        let program = fleet.shard.base().join("bootstrap");
        let stripped =
            Command::new("strip").arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_bootstrap")).status();
        assert!(stripped.unwrap().success());
        let given = json!({"variables": variables, "secret": secret}).to_string();
        python(&login, "schedule.py", &[&stack.url, program.to_str().unwrap(), TIME], &given);

        let key = |name: &str| login.iter().find(|(known, _)| *known == name).unwrap().1.clone();
        let s3 = S3Access {
            endpoint: Some(std::env::var("BACKSTOP_TEST_S3_ENDPOINT").unwrap()),
            region: Some(REGION.to_owned()),
            access_key_id: Some(key("AWS_ACCESS_KEY_ID")),
            secret_access_key: Some(key("AWS_SECRET_ACCESS_KEY").into()),
            ..S3Access::default()
        };
        let location = Location { s3, ..Location::new(repository) }.or_new();
        let begun = Instant::now();
        loop {
            // Opened each time: a handle from before the first backup knows no repository.
            let reader = Repository::open(&location, None, Host::system())
                .await
                .unwrap()
                .reader(&"shop-1".parse().unwrap());
            let catalog = reader.catalog().await;
            if let Ok([entry]) = catalog.as_deref() {
                let entry = entry.clone();
                return Self { stack, reader, entry, location };
            }
            let logged = || python(&login, "logs.py", &[&stack.url], "");
            assert!(begun.elapsed() < WAIT, "no backup: {catalog:?} {} {}", stack.log(), logged());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Delivers EBS's event of the snapshots, and asserts that it ends the backup.
    pub async fn is_ended_by_its_event(&self, fleet: &Environment, ec2: &str, region: &str) {
        let id = &self.entry.facts.backup_id;
        assert_eq!(self.reader.completion(id).await.unwrap(), None, "the function does not wait");
        let Storage::Ebs { snapshot_ids, .. } = self.reader.storage_of(&self.entry).await.unwrap() else {
            panic!()
        };
        let others = [("BACKSTOP_REPOSITORY", ""), ("AWS_ENDPOINT_URL_EC2", ec2)];
        let ends = Function::start_with(fleet, "ends", &others).await;
        let batch = batch(&[("m-1", of_set(region, &snapshot_ids))]);
        let answer = ends.succeeds("r-ends", batch).await;
        assert_eq!(answer["batchItemFailures"], json!([]), "{}", ends.log());
        let end = self.reader.completion(id).await.unwrap().map(|end| end.outcome);
        assert_eq!(end, Some(CompletionOutcome::Completed));
    }

    /// Asserts that the tags of the snapshots, as boto3 reads them, are those of the backup.
    pub async fn is_tagged(&self, ec2: &str, region: &str) {
        assert_eq!(self.entry.facts.occasion.as_deref(), Some("scheduled 2026-11-23T23:55:00Z"));
        let Storage::Ebs { snapshot_ids, .. } = self.reader.storage_of(&self.entry).await.unwrap() else {
            panic!()
        };
        let login = [("AWS_ACCESS_KEY_ID", "test".to_owned()), ("AWS_SECRET_ACCESS_KEY", "test".to_owned())];
        let told: Value = serde_json::from_str(&python(&login, "tags.py", &[ec2, region], "")).unwrap();
        let mut ids: Vec<_> = told.as_array().unwrap().iter().map(|shot| shot["id"].clone()).collect();
        ids.sort_by_key(Value::to_string);
        assert_eq!(json!(snapshot_ids), json!(ids));
        for shot in told.as_array().unwrap() {
            assert_eq!(shot["tags"]["GTID"], self.entry.facts.gtid_executed.to_string());
            assert_eq!(shot["tags"]["Cluster-name"], "shop-1");
            assert_eq!(shot["tags"]["Backstop-State"], "proven");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_triggers_a_backup_with_tagged_snapshots() {
    let fleet = Environment::start().await;
    let done = Scheduled::fire(&fleet, &fleet.entry(), &fleet.ec2.url).await;
    done.is_tagged(&fleet.ec2.url, REGION).await;
    // Nothing was written in between: the set is the source's own.
    let held = fleet.shard.candidate().gtid_executed().await;
    assert_eq!(done.entry.facts.gtid_executed.to_string(), held.to_string());
    fleet.unharmed().await;
    assert!(!done.stack.log().contains(fleet.shard.password()), "the password is in the log");
}
