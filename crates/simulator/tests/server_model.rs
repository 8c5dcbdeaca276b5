//! Holds the simulated server to the truth: the same scripts run against it and against mysqld, and
//! a replica observes the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstop_binlog::{
    AtBinlogEnd, ConnectOptions, DumpRequest, EventStream, Segment, SegmentSink, Segmenter, SegmenterStep,
    SemiSyncMode, Session,
};
use backstop_simulator::server::SimServer;
use backstop_simulator::session::SimDial;
use backstop_simulator::trace::Trace;
use backstop_testkit::{ShardLayout, TestShard};
use backstop_types::error::Result;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::ServerUuid;
use backstop_types::login::{ReplicationAccount, TlsMode, TlsSettings};

/// Longest wait for an item of a stream.
const WAIT: Duration = Duration::from_secs(3);

/// A server, simulated or real.
#[async_trait]
trait Subject: Sync {
    async fn commit(&self, count: u64);
    async fn rotate(&self);
    /// Purges all files but the newest.
    async fn purge(&self);
    /// Deletes binlogs and GTIDs, and sets those that were executed as purged if asked to.
    async fn reset(&self, sets_purged: bool);
    /// Logs in as the account that reads positions.
    async fn session(&self) -> Session;
    /// Logs in as a replica.
    async fn replica(&self) -> Session;
}

struct Simulated(Arc<SimServer>);

#[async_trait]
impl Subject for Simulated {
    async fn commit(&self, count: u64) {
        // No commit follows a reset at once in a simulation, but here.
        self.0.change(|state| state.end_quiet());
        self.0.commit(count, 10);
    }

    async fn rotate(&self) {
        self.0.rotate();
    }

    async fn purge(&self) {
        self.0.purge(1);
    }

    async fn reset(&self, sets_purged: bool) {
        let executed = sets_purged.then(|| self.0.state().executed().clone());
        self.0.reset(executed.as_ref());
    }

    async fn session(&self) -> Session {
        let dial = SimDial { servers: vec![Arc::clone(&self.0)] };
        let account = ReplicationAccount { user: "b".to_owned(), password: "p".to_owned().into() };
        let tls = TlsSettings { mode: TlsMode::Off, ca: None };
        let endpoint = self.0.endpoint.clone();
        Session::open_through(&dial, &ConnectOptions { endpoint, account, tls, deadline: WAIT })
            .await
            .unwrap()
    }

    async fn replica(&self) -> Session {
        self.session().await
    }
}

struct Real(TestShard);

impl Real {
    async fn log_in(&self, account: ReplicationAccount) -> Session {
        let endpoint = self.0.primary().endpoint();
        let tls = self.0.credentials().tls_for(&endpoint);
        Session::open(&ConnectOptions { endpoint, account, tls, deadline: WAIT }).await.unwrap()
    }
}

#[async_trait]
impl Subject for Real {
    async fn commit(&self, count: u64) {
        for _ in 0..count {
            self.0.primary().run(&["INSERT INTO one.t VALUES (NULL)"]).await;
        }
    }

    async fn rotate(&self) {
        self.0.primary().run(&["FLUSH BINARY LOGS"]).await;
    }

    async fn purge(&self) {
        let newest = self.session().await.value("SHOW BINARY LOG STATUS").await.unwrap().unwrap();
        self.0.primary().run(&[&format!("PURGE BINARY LOGS TO '{newest}'")]).await;
    }

    async fn reset(&self, sets_purged: bool) {
        let primary = self.0.primary();
        let executed = primary.gtid_executed().await;
        primary.run(&["RESET BINARY LOGS AND GTIDS"]).await;
        if sets_purged {
            primary.run(&[&format!("SET GLOBAL gtid_purged = '{executed}'")]).await;
        }
    }

    async fn session(&self) -> Session {
        self.log_in(self.0.credentials().account()).await
    }

    async fn replica(&self) -> Session {
        self.log_in(self.0.credentials().replication_account()).await
    }
}

/// Observations of a replica, with the server's UUID replaced by `A`.
struct Observer<'a> {
    subject: &'a dyn Subject,
    uuid: ServerUuid,
    seen: Vec<String>,
}

struct Ignore;

#[async_trait]
impl SegmentSink for Ignore {
    async fn begin(&mut self, _: ServerUuid, _: &str, _: u64) -> Result<()> {
        Ok(())
    }
    async fn write(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
    async fn cut_back(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    async fn seal(&mut self, _: &Segment) -> Result<()> {
        Ok(())
    }
}

/// Returns the number of a binlog file.
fn file_number(name: &str) -> u64 {
    name.rsplit('.').next().unwrap().parse().unwrap()
}

impl<'a> Observer<'a> {
    async fn new(subject: &'a dyn Subject) -> Self {
        let uuid = subject.session().await.value("SELECT @@GLOBAL.server_uuid").await.unwrap().unwrap();
        Self { subject, uuid: uuid.parse().unwrap(), seen: Vec::new() }
    }

    fn see(&mut self, what: &str) {
        self.seen.push(what.replace(&self.uuid.to_string(), "A"));
    }

    fn set(&self, text: &str) -> GtidSet {
        text.replace('A', &self.uuid.to_string()).parse().unwrap()
    }

    /// Looks at the sets and the file in use.
    async fn look(&mut self) {
        let mut session = self.subject.session().await;
        for variable in ["gtid_executed", "gtid_purged"] {
            let value = session.value(&format!("SELECT @@GLOBAL.{variable}")).await.unwrap();
            self.see(&format!("{variable} {}", value.unwrap_or_default()));
        }
        let file = session.value("SHOW BINARY LOG STATUS").await.unwrap().unwrap();
        self.see(&format!("writes file {}", file_number(&file)));
    }

    async fn dump(&self, executed: &GtidSet, at_end: AtBinlogEnd) -> EventStream {
        let request = DumpRequest {
            server_id: 4711,
            replica_uuid: "0b5c0000-0000-4000-8000-000000000001".parse().unwrap(),
            executed: executed.clone(),
            heartbeat: Duration::from_secs(1),
            acknowledge: SemiSyncMode::Never,
            at_end,
        };
        self.subject.replica().await.dump(&request).await.unwrap().0
    }

    /// Reads what the server sends to a replica that has these transactions.
    async fn read(&mut self, executed: &str) {
        let executed = self.set(executed);
        let mut stream = self.dump(&executed, AtBinlogEnd::Stop).await;
        let mut segmenter = Segmenter::new(self.uuid, executed);
        loop {
            match segmenter.step(&mut stream, &mut Ignore, WAIT).await.unwrap() {
                SegmenterStep::File(name) => self.see(&format!("file {}", file_number(&name))),
                SegmenterStep::Transaction { gtid, .. } => self.see(&format!("transaction {gtid}")),
                SegmenterStep::End => return self.see("end"),
                SegmenterStep::Refused(_) => return self.see("refused"),
                SegmenterStep::Hole { .. } => return self.see("hole"),
                SegmenterStep::Quiet | SegmenterStep::Heartbeat { .. } | SegmenterStep::Other => {}
            }
        }
    }

    /// Reads an open stream until a heartbeat names the same position a second time.
    async fn follow(&mut self, segmenter: &mut Segmenter, stream: &mut EventStream) {
        let mut last = None;
        loop {
            let Ok(step) = segmenter.step(stream, &mut Ignore, WAIT).await else {
                return self.see("the stream broke");
            };
            match step {
                SegmenterStep::File(name) => self.see(&format!("file {}", file_number(&name))),
                SegmenterStep::Transaction { gtid, .. } => self.see(&format!("transaction {gtid}")),
                SegmenterStep::Heartbeat { file, offset } => {
                    if last == Some((file.clone(), offset)) {
                        let here = segmenter.position() == Some((file.as_str(), offset));
                        return self.see(&format!("idle in file {}, all sent: {here}", file_number(&file)));
                    }
                    last = Some((file, offset));
                }
                _ => {}
            }
        }
    }
}

/// Runs the script, and returns what was observed.
async fn observe(subject: &dyn Subject) -> Vec<String> {
    let mut observer = Observer::new(subject).await;
    observer.look().await;
    same_name(subject, &mut observer).await;
    subject.reset(false).await;
    subject.commit(3).await;
    subject.rotate().await;
    subject.commit(2).await;
    observer.look().await;
    for executed in ["", "A:1-2", "A:1-3", "A:1-5", "A:1-9"] {
        observer.read(executed).await;
    }
    purge(subject, &mut observer).await;
    reset(subject, &mut observer).await;
    observer.seen
}

/// Resets the binlog below an open stream that stands in a file of the same name as the new one, and
/// lets the new one pass the stream's position.
async fn same_name(subject: &dyn Subject, observer: &mut Observer<'_>) {
    subject.commit(3).await;
    let mut stream = observer.dump(&GtidSet::new(), AtBinlogEnd::Wait).await;
    let mut segmenter = Segmenter::new(observer.uuid, GtidSet::new());
    observer.follow(&mut segmenter, &mut stream).await;
    subject.reset(false).await;
    observer.follow(&mut segmenter, &mut stream).await;
    subject.commit(1).await;
    observer.follow(&mut segmenter, &mut stream).await;
    subject.commit(8).await;
    observer.follow(&mut segmenter, &mut stream).await;
}

async fn purge(subject: &dyn Subject, observer: &mut Observer<'_>) {
    subject.rotate().await;
    subject.commit(1).await;
    subject.purge().await;
    observer.look().await;
    for executed in ["", "A:1-4", "A:1-5", "A:1-6"] {
        observer.read(executed).await;
    }
}

/// Resets the binlog below an open stream, which then stands in a deleted file.
async fn reset(subject: &dyn Subject, observer: &mut Observer<'_>) {
    let held = observer.set("A:1-5");
    let mut stream = observer.dump(&held, AtBinlogEnd::Wait).await;
    let mut segmenter = Segmenter::new(observer.uuid, held);
    observer.follow(&mut segmenter, &mut stream).await;
    subject.reset(false).await;
    observer.look().await;
    observer.follow(&mut segmenter, &mut stream).await;
    subject.commit(8).await;
    observer.follow(&mut segmenter, &mut stream).await;
    drop(stream);
    observer.look().await;
    observer.read("A:1-2").await;
    subject.reset(true).await;
    observer.look().await;
    subject.commit(1).await;
    observer.look().await;
    for executed in ["", "A:1-8"] {
        observer.read(executed).await;
    }
}

fn simulated() -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let server = SimServer::new(0xaa, &Arc::new(Trace::begin(false)), &Arc::default());
        server.state().is_primary = true;
        observe(&Simulated(server)).await
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_server_behaves_as_mysqld() {
    let shard = TestShard::start(ShardLayout::single()).await;
    let table = "CREATE TABLE one.t (id INT AUTO_INCREMENT PRIMARY KEY)";
    shard.primary().run(&["CREATE DATABASE one", table, "RESET BINARY LOGS AND GTIDS"]).await;
    let real = observe(&Real(shard)).await;
    let simulated = std::thread::spawn(simulated).join().unwrap();
    let pairs: Vec<_> = simulated.iter().zip(&real).map(|(one, other)| format!("{one} | {other}")).collect();
    assert_eq!(simulated, real, "{pairs:#?}");
}
