//! A scripted orchestrator over real HTTP or HTTPS. It has stages; each wait of Backstop's moves it
//! to the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::context::RunContext;
use backstop_engine::ports::{Clock, Reporter};
use backstop_host::{Host, SystemClock};
use backstop_types::progress::Progress;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers to each path, at one stage.
#[derive(Clone, Default)]
pub struct Answers(HashMap<String, (u16, String)>);

/// Returns a recorded answer.
pub fn recorded(name: &str) -> String {
    let path = format!("{}/tests/fixtures/orchestrator/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns a recorded answer as JSON.
pub fn recorded_json(name: &str) -> Value {
    serde_json::from_str(&recorded(name)).unwrap()
}

/// Returns the entry of a recorded `clusters-info` that has this alias.
pub fn cluster_info(name: &str, alias: &str) -> Value {
    let all = recorded_json(name);
    all.as_array().unwrap().iter().find(|one| one["ClusterAlias"] == alias).unwrap().clone()
}

impl Answers {
    /// Answers as a leader that knows `shop-1` as in these recorded answers.
    pub fn of(cluster: &str, analysis: &str) -> Self {
        Self::with(recorded_json("02-cluster-info-alias.json"), recorded_json(cluster)).and(
            "replication-analysis",
            200,
            &recorded(analysis),
        )
    }

    /// Answers as a leader that knows `shop-1` as given, and no problem.
    pub fn with(mut info: Value, cluster: Value) -> Self {
        if let (true, Some(list)) = (info["CountInstances"] == 3, cluster.as_array()) {
            info["CountInstances"] = json!(list.len());
        }
        let alias = info["ClusterAlias"].as_str().unwrap().to_owned();
        let refresh = recorded("05-refresh.json");
        let ports = cluster.as_array().into_iter().flatten().map(|one| one["Key"]["Port"].clone());
        let stage = ports.fold(Self::default(), |stage, port| {
            stage.and(&format!("refresh/127.0.0.1/{port}"), 200, &refresh)
        });
        stage
            .and("leader-check", 200, &recorded("06-leader-check.json"))
            .and(&format!("cluster-info/alias/{alias}"), 200, &info.to_string())
            .and(&format!("cluster/alias/{alias}"), 200, &cluster.to_string())
            .and("replication-analysis", 200, &recorded("07-replication-analysis.json"))
    }

    /// Answers with the healthy cluster.
    pub fn healthy() -> Self {
        Self::of("03-cluster-alias.json", "07-replication-analysis.json")
    }

    /// Replaces the answer to one path.
    pub fn and(mut self, path: &str, status: u16, body: &str) -> Self {
        self.0.insert(path.to_owned(), (status, body.to_owned()));
        self
    }
}

/// The scripted server.
pub struct FakeOrchestrator {
    /// Address without a path.
    pub url: String,
    state: Arc<FakeState>,
    task: tokio::task::JoinHandle<()>,
}

struct FakeState {
    prefix: String,
    login: Option<String>,
    stages: Vec<Answers>,
    stage: Arc<AtomicUsize>,
    requests: Mutex<Vec<String>>,
}

/// Options of the scripted server.
#[derive(Default)]
pub struct Behaviour {
    pub prefix: &'static str,
    /// Value of the `Authorization` header that the server requires.
    pub login: Option<&'static str>,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl FakeOrchestrator {
    pub async fn start(stages: Vec<Answers>, stage: &StageClock) -> Self {
        Self::so(stages, stage, Behaviour::default()).await
    }

    pub async fn so(stages: Vec<Answers>, waits: &StageClock, manner: Behaviour) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let scheme = if manner.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let state = Arc::new(FakeState {
            prefix: manner.prefix.to_owned(),
            login: manner.login.map(str::to_owned),
            stages,
            stage: waits.stage.clone(),
            requests: Mutex::default(),
        });
        let (serving, acceptor) = (state.clone(), manner.tls.map(TlsAcceptor::from));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (state, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(socket) = acceptor.accept(socket).await {
                                state.answer(socket).await;
                            }
                        }
                        None => state.answer(socket).await,
                    }
                });
            }
        });
        Self { url, state, task }
    }

    /// Returns every path that was requested.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl Drop for FakeOrchestrator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeState {
    async fn answer(&self, mut socket: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split_whitespace().nth(1).unwrap().to_owned();
        self.requests.lock().unwrap().push(path.clone());
        let (status, body) = self.find(&path, &head);
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let _ = socket.write_all(text.as_bytes()).await;
        let _ = socket.shutdown().await;
    }

    fn find(&self, path: &str, head: &str) -> (u16, String) {
        let authorised = |login: &String| {
            head.lines().any(|line| {
                line.split_once(": ").is_some_and(|(name, value)| {
                    name.eq_ignore_ascii_case("authorization") && value.trim() == login
                })
            })
        };
        if self.login.as_ref().is_some_and(|login| !authorised(login)) {
            return (401, recorded("multi-bad.txt"));
        }
        let stage = self.stage.load(Ordering::SeqCst).min(self.stages.len() - 1);
        path.strip_prefix(&format!("{}/api/", self.prefix))
            .and_then(|path| self.stages[stage].0.get(path).cloned())
            .unwrap_or_else(|| (404, recorded("tls-noprefix.txt")))
    }
}

/// A clock that advances the script and does not wait, and a reporter that records.
#[derive(Clone)]
pub struct StageClock {
    stage: Arc<AtomicUsize>,
    slept: Arc<Mutex<Vec<u64>>>,
    notices: Arc<Mutex<Vec<String>>>,
    clock: SystemClock,
}

impl StageClock {
    pub fn new() -> Self {
        Self {
            stage: Arc::default(),
            slept: Arc::default(),
            notices: Arc::default(),
            clock: SystemClock::new(),
        }
    }

    pub fn run_context(&self) -> RunContext {
        let ctx = backstop_testkit::snapshot_conformance::test_context();
        let host = Host { clock: Arc::new(self.clone()), ..Host::system() };
        RunContext { host, reporter: Arc::new(self.clone()), ..ctx }
    }

    /// Returns the length of each wait, in seconds.
    pub fn slept(&self) -> Vec<u64> {
        self.slept.lock().unwrap().clone()
    }

    pub fn notices(&self) -> String {
        self.notices.lock().unwrap().join("\n")
    }
}

#[async_trait]
impl Clock for StageClock {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
    async fn sleep(&self, duration: Duration) {
        self.slept.lock().unwrap().push(duration.as_secs());
        self.stage.fetch_add(1, Ordering::SeqCst);
    }
}

impl Reporter for StageClock {
    fn step(&self, _: &'static str) {}
    fn progress(&self, _: Progress) {}
    fn notice(&self, text: &str) {
        self.notices.lock().unwrap().push(text.to_owned());
    }
}
