//! Archiver actor: a machine whose service manager starts the archiver again when it ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstop_config::credentials::Credentials;
use backstop_config::settings::{ArchiveAck, ArchiveFrom, ArchiveSettings};
use backstop_engine::archive::{ArchiveUntil, ArchiverConfig, Encryption, ServerAccess, archive};
use backstop_engine::context::RunContext;
use backstop_engine::ports::{Failpoints, Reporter, Topology};
use backstop_engine::shared_credentials::SharedCredentials;
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_repo::Repository;
use backstop_types::error::{Error, Result};
use backstop_types::ids::{Endpoint, ShardName};
use backstop_types::progress::Progress;
use backstop_types::topology::Member;
use tokio::sync::watch;

use crate::dice::Dice;
use crate::disk::{ProcessDisk, SimDisk};
use crate::process::{Machine, Process, lock};
use crate::schedule::Acknowledge;
use crate::server::SimServer;
use crate::session::SimDial;
use crate::store::{RequestFault, SimStore, StoreWorld};
use crate::trace::Trace;

/// Time after which the service manager starts an archiver again.
const RESTART_DELAY: Duration = Duration::from_secs(5);
/// Folder of the spool.
const SPOOL: &str = "/work/orders/spool";

/// A machine with an archiver.
pub struct ArchiverActor {
    /// Name of the machine.
    pub name: String,
    seed: u64,
    /// The machine.
    pub machine: Arc<Machine>,
    /// Its disk.
    pub disk: Arc<SimDisk>,
    store: Arc<StoreWorld>,
    servers: Vec<Arc<SimServer>>,
    trace: Arc<Trace>,
    faults: BTreeMap<u64, RequestFault>,
    requests: Arc<AtomicU64>,
    /// True while it reaches no store.
    pub cut_off: Arc<AtomicBool>,
    acknowledge: Acknowledge,
    running: Mutex<Option<Process>>,
    stop: watch::Sender<bool>,
    /// True while the machine has no power.
    off: AtomicBool,
    starts: AtomicU64,
    /// The error with which the last run ended.
    pub last_error: Mutex<Option<Error>>,
}

/// Surroundings of an archiver.
pub struct Surroundings<'a> {
    /// The store.
    pub store: &'a Arc<StoreWorld>,
    /// The shard's servers.
    pub servers: &'a [Arc<SimServer>],
    /// Trace of the run.
    pub trace: &'a Arc<Trace>,
    /// Use of semi-synchronous replication.
    pub acknowledge: Acknowledge,
    /// Seed of delays and random numbers.
    pub seed: u64,
}

impl ArchiverActor {
    /// Returns a machine whose archiver does not run yet.
    pub fn new(
        name: &str,
        around: &Surroundings<'_>,
        disk: Arc<SimDisk>,
        faults: BTreeMap<u64, RequestFault>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            seed: around.seed,
            machine: Machine::new(name),
            disk,
            store: Arc::clone(around.store),
            servers: around.servers.to_vec(),
            trace: Arc::clone(around.trace),
            faults,
            requests: Arc::default(),
            cut_off: Arc::default(),
            acknowledge: around.acknowledge,
            running: Mutex::default(),
            stop: watch::Sender::new(false),
            off: AtomicBool::new(false),
            starts: AtomicU64::new(0),
            last_error: Mutex::default(),
        })
    }

    /// Keeps the archiver running until `end` becomes true; then stops it, and returns.
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    pub async fn keep_running(self: Arc<Self>, mut end: watch::Receiver<bool>) {
        while !*end.borrow() {
            if !self.off.load(Ordering::Relaxed) {
                self.run_once(ArchiveUntil::Stopped).await;
            }
            tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => {}
                () = tokio::time::sleep(RESTART_DELAY) => {}
            }
        }
    }

    /// Runs the archiver once, as a process.
    pub async fn run_once(&self, until: ArchiveUntil) {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let dice = Dice::of(self.seed, &self.name, 1_000_000 + start);
        let process = Process::start(&self.machine, 100 + start as u32, dice, &self.trace);
        *lock(&self.running) = Some(process.clone());
        self.stop.send_replace(false);
        self.trace.event(&self.name, format_args!("starts"));
        let ended = process.gated(self.archive(process.clone(), until)).await;
        match &ended {
            None => self.trace.event(&self.name, format_args!("was killed")),
            Some(Ok(())) => self.trace.event(&self.name, format_args!("ended")),
            Some(Err(error)) => self.trace.event(&self.name, format_args!("ended: {:?} {error}", error.kind)),
        }
        *lock(&self.last_error) = ended.and_then(Result::err);
        process.kill();
        self.disk.release_locks();
    }

    async fn archive(&self, process: Process, until: ArchiveUntil) -> Result<()> {
        let shard: ShardName = "orders".parse().unwrap();
        let ctx = self.context(&process);
        let credentials = Credentials::parse("user = 'b'\npassword = 'p'\n[tls]\nmode = 'off'", "c");
        let credentials = SharedCredentials::of(credentials.unwrap(), ctx.clone());
        let client = SimStore::new(
            &self.store,
            &self.name,
            self.seed,
            self.faults.clone(),
            &self.requests,
            &self.cut_off,
        );
        let repository = Repository::on(Arc::new(client), None, process.host()).await?;
        let store = Arc::new(repository.acquire_archive_lease(&shard).await?);
        let settings = self.settings();
        let dial = SimDial { servers: self.servers.clone() };
        let topology = SimTopology { servers: self.servers.clone() };
        let report = archive(ArchiverConfig {
            shard: &shard,
            settings: &settings,
            topology: &topology,
            access: ServerAccess { credentials: &credentials, dial: &dial },
            store: Arc::clone(&store),
            encryption: Encryption::Off,
            name: "orders",
            disk: Arc::new(ProcessDisk { disk: Arc::clone(&self.disk), process }),
            spool: PathBuf::from(SPOOL),
            old_spool: None,
            until,
            ctx: &ctx,
        });
        let report = report.await;
        if let Some(store) = Arc::into_inner(store) {
            store.release().await?;
        }
        report.map(drop)
    }

    fn context(&self, process: &Process) -> RunContext {
        let reporter = Arc::new(SimReporter {
            name: self.name.clone(),
            trace: Arc::clone(&self.trace),
            store: Arc::clone(&self.store),
        });
        let (host, failpoints) = (process.host(), reporter.clone());
        RunContext { host, reporter, failpoints, stop: self.stop.subscribe() }
    }

    fn settings(&self) -> ArchiveSettings {
        ArchiveSettings {
            from: ArchiveFrom::Primary,
            semi_sync: self.acknowledge != Acknowledge::Nothing,
            ack: match self.acknowledge {
                Acknowledge::Spool => ArchiveAck::Spool,
                Acknowledge::Store | Acknowledge::Nothing => ArchiveAck::Store,
            },
        }
    }

    /// Returns the process that runs.
    pub fn process(&self) -> Option<Process> {
        lock(&self.running).clone()
    }

    /// Asks the archiver to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Kills the archiver.
    pub fn kill(&self) {
        if let Some(process) = self.process() {
            process.kill();
        }
    }

    /// Cuts the machine's power.
    pub fn cut_power(&self) {
        self.off.store(true, Ordering::Relaxed);
        self.kill();
        self.disk.cut_power();
        self.machine.reboot();
    }

    /// Gives the machine power again.
    pub fn power_on(&self) {
        self.off.store(false, Ordering::Relaxed);
    }
}

/// Members of the shard as an archiver sees them.
struct SimTopology {
    servers: Vec<Arc<SimServer>>,
}

#[async_trait]
impl Topology for SimTopology {
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn members(&self) -> Result<Vec<Member>> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(self.servers.iter().map(|server| server.member()).collect())
    }

    async fn probe(&self, server: &Endpoint) -> Member {
        self.servers.iter().map(|server| server.member()).find(|member| member.endpoint == *server).unwrap()
    }

    async fn source_settings(&self, _: &Endpoint) -> Result<SourceSettings> {
        Err(Error::failed("an archiver does not ask for it"))
    }
}

struct SimReporter {
    name: String,
    trace: Arc<Trace>,
    store: Arc<StoreWorld>,
}

impl Reporter for SimReporter {
    fn step(&self, name: &'static str) {
        self.trace.event(&self.name, format_args!("step {name}"));
    }
    fn progress(&self, _: Progress) {}
    fn notice(&self, text: &str) {
        self.trace.event(&self.name, format_args!("{text}"));
        if text.contains("the store lost") && lock(&self.store.forgotten).is_empty() {
            self.trace.fail(format!("false alarm: {text}"));
        }
    }
}

impl Failpoints for SimReporter {
    fn reach(&self, _: &str) {}
}
