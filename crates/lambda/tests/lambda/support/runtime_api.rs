//! The function behind a double of Lambda's Runtime API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::support::environment::Environment;
use crate::support::http_server::HttpServer;

const WAIT: Duration = Duration::from_secs(180);

/// Outcome of an invocation: true for a success, and the posted value.
type Outcome = (bool, Value);
type Event = (String, Value, Duration, oneshot::Sender<Outcome>);

/// A running `bootstrap`: the one that cargo built, or the one in `BACKSTOP_TEST_BOOTSTRAP`.
pub struct Function {
    child: Child,
    events: mpsc::UnboundedSender<Event>,
    log: PathBuf,
    _runtime: HttpServer,
}

impl Function {
    pub async fn start(fleet: &Environment, name: &str) -> Self {
        Self::start_with(fleet, name, &[]).await
    }

    /// Starts it with other values of the environment's variables; an empty one is left out.
    pub async fn start_with(fleet: &Environment, name: &str, others: &[(&'static str, &str)]) -> Self {
        let (events, waiting) = mpsc::unbounded_channel();
        let runtime = runtime_api(waiting).await;
        let log = fleet.shard.base().join(format!("{name}.log"));
        let written = std::fs::File::create(&log).unwrap();
        let given = std::env::var_os("BACKSTOP_TEST_BOOTSTRAP").map(PathBuf::from);
        let child = Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_bootstrap").into()))
            .env_clear()
            .envs(fleet.environment(&runtime.address))
            .envs(others.iter().copied())
            .stdin(Stdio::null())
            .stdout(written.try_clone().unwrap())
            .stderr(written)
            .spawn()
            .unwrap();
        Self { child, events, log, _runtime: runtime }
    }

    /// Invokes the function with this much time.
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

    /// Asserts that it fails with this type, and a message with these parts.
    pub async fn fails(&self, event: Value, time: u64, kind: &str, parts: &[&str]) {
        let (ok, said) = self.invoke("r-fails", event, Duration::from_secs(time)).await;
        let message = said["errorMessage"].as_str().unwrap_or_default();
        let right = !ok && said["errorType"] == kind && parts.iter().all(|part| message.contains(part));
        assert!(right, "expected {kind} {parts:?}: {said}");
    }

    /// Waits until its log contains this.
    pub async fn logs(&self, part: &str) {
        let begun = Instant::now();
        while !self.log().contains(part) {
            assert!(begun.elapsed() < WAIT, "no {part}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Begins an invocation without waiting for its answer.
    pub fn begin(&self, request: &str, event: Value) {
        let (tell, _) = oneshot::channel();
        self.events.send((request.to_owned(), event, Duration::from_secs(300), tell)).unwrap();
    }

    /// Kills the process, as if its machine were lost.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns its peak memory, in bytes.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a double of Lambda's Runtime API: hands out events one by one, and receives their
/// outcomes.
async fn runtime_api(waiting: mpsc::UnboundedReceiver<Event>) -> HttpServer {
    let waiting = Arc::new(AsyncMutex::new(waiting));
    let running: Arc<Mutex<BTreeMap<String, oneshot::Sender<Outcome>>>> = Arc::default();
    HttpServer::start(move |request| {
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
