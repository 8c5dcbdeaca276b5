//! Shard in memory with an archiver: played servers, a store that can be down, a disk that can
//! fail, and a clock that runs a hundred times as fast.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstop_config::credentials::Credentials;
use backstop_config::settings::{ArchiveAck, ArchiveFrom, ArchiveSettings};
use backstop_host::SystemClock;
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_repo::Repository;
use backstop_types::archive::Archive;
use backstop_types::error::{Error, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::progress::Progress;
use backstop_types::topology::Member;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tokio::sync::watch;

use super::fake_server::{FakeNetwork, FakeServer};
use crate::archive::{ArchiveUntil, ArchiverConfig, Encryption, ServerAccess, archive};
use crate::context::RunContext;
use crate::disk::failing::FailingDisk;
use crate::ports::{Clock, Failpoints, Host, Reporter, Topology};
use crate::report::ArchiveReport;
use crate::shared_credentials::SharedCredentials;

/// Factor by which the archiver's clock is faster.
const SPEED: u32 = 100;
/// Longest wait for a condition, by the clock of this host.
const PATIENCE: Duration = Duration::from_secs(30);

/// A shard, its archive and an archiver.
pub(super) struct Bench {
    pub(super) servers: Vec<Arc<FakeServer>>,
    pub(super) store: Arc<OutageStore>,
    pub(super) disk: Arc<FailingDisk>,
    pub(super) settings: ArchiveSettings,
    /// True if the store is down from the first round of the next archiver on.
    pub(super) begins_down: bool,
    shard: ShardName,
    dir: tempfile::TempDir,
    told: Arc<Told>,
    stop: watch::Sender<bool>,
}

impl Bench {
    /// Returns a shard of two servers, of which the first is the primary, with ten transactions.
    pub(super) fn new() -> Self {
        let servers = vec![FakeServer::new(0xaa), FakeServer::new(0xbb)];
        servers.iter().for_each(|server| server.commit(servers[0].uuid, 1..=10, 40));
        Self {
            servers,
            store: Arc::default(),
            disk: Arc::default(),
            settings: ArchiveSettings {
                from: ArchiveFrom::Primary,
                semi_sync: false,
                ack: ArchiveAck::Store,
            },
            begins_down: false,
            shard: "orders".parse().unwrap(),
            dir: tempfile::tempdir().unwrap(),
            told: Arc::default(),
            stop: watch::Sender::new(false),
        }
    }

    pub(super) fn primary(&self) -> &Arc<FakeServer> {
        &self.servers[0]
    }

    pub(super) fn replica(&self) -> &Arc<FakeServer> {
        &self.servers[1]
    }

    /// Commits transactions of the primary on both servers.
    pub(super) fn commit(&self, numbers: std::ops::RangeInclusive<u64>) {
        for server in &self.servers {
            server.commit(self.primary().uuid, numbers.clone(), 40);
        }
    }

    /// Makes the second server the primary.
    pub(super) fn switch_over(&self) {
        self.primary().set_primary(false);
        self.replica().set_primary(true);
    }

    /// Returns a set of transactions of the servers A and B.
    pub(super) fn set(&self, text: &str) -> GtidSet {
        let [a, b] = [&self.servers[0], &self.servers[1]].map(|server| server.uuid.to_string());
        text.replace('A', &a).replace('B', &b).parse().unwrap()
    }

    /// Archives until everything is archived.
    pub(super) async fn catch_up(&self) -> Result<ArchiveReport> {
        self.archive(ArchiveUntil::CaughtUp).await
    }

    /// Archives beside the work, and stops the archiver after it. The store is up again at the end.
    pub(super) async fn archive_during(&self, work: impl Future<Output = ()>) -> Result<ArchiveReport> {
        self.stop.send_replace(false);
        let work = async {
            work.await;
            self.stop.send_replace(true);
        };
        let (report, ()) = tokio::join!(self.archive(ArchiveUntil::Stopped), work);
        self.stop.send_replace(false);
        report
    }

    async fn archive(&self, until: ArchiveUntil) -> Result<ArchiveReport> {
        let host = Host { clock: Arc::new(FastClock(SystemClock::new())), ..Host::system() };
        let (reporter, failpoints) = (self.told.clone(), self.told.clone());
        let ctx = RunContext { host, reporter, failpoints, stop: self.stop.subscribe() };
        let text = "user = 'b'\npassword = 'p'\n[tls]\nmode = 'off'";
        let credentials = SharedCredentials::of(Credentials::parse(text, "c").unwrap(), ctx.clone());
        let network = FakeNetwork(self.servers.clone());
        let topology = FakeTopology(self.servers.clone());
        let lease = self.repository().await.acquire_archive_lease(&self.shard).await;
        let store = Arc::new(lease.unwrap());
        self.store.set_down(self.begins_down);
        let report = archive(ArchiverConfig {
            shard: &self.shard,
            settings: &self.settings,
            topology: &topology,
            access: ServerAccess { credentials: &credentials, dial: &network },
            store: Arc::clone(&store),
            encryption: Encryption::Off,
            name: "orders",
            disk: self.disk.clone(),
            spool: self.spool(),
            old_spool: None,
            until,
            ctx: &ctx,
        });
        let report = report.await;
        self.store.set_down(false);
        let store = Arc::into_inner(store).expect("an ended archiver holds its store");
        store.release().await.unwrap();
        report
    }

    async fn repository(&self) -> Repository {
        Repository::on(self.store.clone(), None, Host::system()).await.unwrap()
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// Returns the files of the spool, without its journals.
    pub(super) fn spooled(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.spool()) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_none_or(|end| end != "pieces")).collect()
    }

    /// Returns what is archived.
    pub(super) async fn archived(&self) -> Archive {
        self.repository().await.archive(&self.shard).contents().await.unwrap()
    }

    /// Returns the transactions of the current timeline.
    pub(super) async fn held(&self) -> GtidSet {
        let archive = self.archived().await;
        archive.current().and_then(|timeline| archive.held(timeline.number)).unwrap_or_default()
    }

    /// Waits until the current timeline holds these transactions.
    pub(super) async fn until_held(&self, text: &str) {
        let set = self.set(text);
        self.until(text, || async { self.held().await == set }).await;
    }

    /// Waits until the archiver has told this.
    pub(super) async fn until_told(&self, text: &str) {
        self.until(text, || async { self.told().contains(text) }).await;
    }

    /// Waits until a condition is true.
    #[allow(clippy::disallowed_methods, reason = "the test waits by the clock of this host")]
    pub(super) async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "it never came: {what}; told:\n{}", self.told());
    }

    /// Returns all notices.
    pub(super) fn told(&self) -> String {
        self.told.0.lock().unwrap().join("\n")
    }
}

struct FakeTopology(Vec<Arc<FakeServer>>);

#[async_trait]
impl Topology for FakeTopology {
    async fn members(&self) -> Result<Vec<Member>> {
        Ok(self.0.iter().map(|server| server.member()).collect())
    }
    async fn probe(&self, server: &Endpoint) -> Member {
        self.0.iter().map(|server| server.member()).find(|member| member.endpoint == *server).unwrap()
    }
    async fn source_settings(&self, _: &Endpoint) -> Result<SourceSettings> {
        Err(Error::failed("the archiver does not ask for it"))
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Reporter for Told {
    fn step(&self, _: &'static str) {}
    fn progress(&self, _: Progress) {}
    fn notice(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

impl Failpoints for Told {
    fn reach(&self, _: &str) {}
}

struct FastClock(SystemClock);

#[async_trait]
impl Clock for FastClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic() * SPEED
    }

    async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration / SPEED).await;
    }
}

/// Store in memory that refuses puts while it is down.
#[derive(Debug, Default)]
pub(super) struct OutageStore {
    inner: InMemory,
    down: AtomicBool,
}

impl OutageStore {
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    fn refuse_if_down(&self) -> object_store::Result<()> {
        if !self.down.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(object_store::Error::Generic { store: "outage", source: "the store is down".into() })
    }
}

impl fmt::Display for OutageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutageStore")
    }
}

#[async_trait]
impl ObjectStore for OutageStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.refuse_if_down()?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.refuse_if_down()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
