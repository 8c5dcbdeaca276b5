//! Fakes of the ports: they write down what is called, and fail where a test says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backstop_engine::context::RunContext;
use backstop_engine::datadir_files::ServerFiles;
use backstop_engine::ports::{
    BackupInstance, BackupInstances, ChangedFiles, Clock, CreatedInstance, Failpoints, Host, Infrastructure,
    InfrastructureChanges, InstanceSpec, MysqldControl, MysqldStart, Playbook, PlaybookInputs, Reporter,
    Schemas, Snapshot, SnapshotData, SnapshotDir, SnapshotProvider, TakenSnapshot, Topology,
    VolumeInitialization, VolumeSet, VolumeSnapshots,
};
use backstop_engine::report::{EbsSnapshots, TaggedBackup};
use backstop_engine::source_selection::SourceChoiceRules;
use backstop_policy::schema_diff::TableInventory;
use backstop_policy::stream_or_fork::SourceSettings;
use backstop_repo::Repository;
use backstop_types::backup::{Lineage, VolumeState};
use backstop_types::completion::CompletionOutcome;
use backstop_types::error::{Error, Result};
use backstop_types::finding::Finding;
use backstop_types::freeze::{FreezeMode, FreezeReport, OnPrimary};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use backstop_types::plugins::Plugin;
use backstop_types::progress::Progress;
use backstop_types::scheduled_events::ServerEvents;
use backstop_types::server::{Position, ServerVersion};
use backstop_types::topology::{
    ExternalVerdict, InstanceState, Locking, Member, NoAnswer, Replication, ReplicationFidelity,
    SourceChoice, SourceRules,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::ObjectStore;
use tokio::sync::watch;

use crate::support::binlog::{SERVER_A, set};
use crate::support::faulty_store::{FaultyStore, StoreFault};

/// Everything outside of the operations.
pub struct World {
    pub store: Arc<FaultyStore>,
    pub repository: Repository,
    pub fakes: Fakes,
    pub shard: ShardName,
    pub source: SourceRules,
    pub dir: tempfile::TempDir,
    stop: watch::Sender<bool>,
}

/// Adapters of every port that tests need. Clones are the same.
#[derive(Clone)]
pub struct Fakes(Arc<Script>);

/// Action that a fake runs at a step.
type Effect = Box<dyn Fn() + Send>;

/// State of the fakes, which tests change.
pub struct Script {
    /// Steps and calls, in their order.
    log: Mutex<Vec<String>>,
    /// Notices to the operator.
    told: Mutex<Vec<String>>,
    /// Calls that fail.
    failing: Mutex<BTreeSet<&'static str>>,
    /// Effects at failpoints.
    effects: Mutex<Vec<(&'static str, Effect)>>,
    pub members: Mutex<Vec<Member>>,
    /// Members after the next wait.
    later: Mutex<Option<Vec<Member>>>,
    pub findings: Mutex<Vec<Finding>>,
    /// Set if the snapshots are the backup: the state that they reach.
    pub volumes: Mutex<Option<VolumeState>>,
    /// Runs whose artefacts exist.
    pub artefacts: Mutex<BTreeSet<BackupId>>,
    pub version: Mutex<&'static str>,
    slept: AtomicU64,
    data: PathBuf,
}

impl World {
    pub async fn new() -> Self {
        let store = Arc::new(FaultyStore::honest());
        let repository = Repository::on(store.clone(), None, backstop_host::Host::system()).await.unwrap();
        let dir = crate::support::scratch();
        let data = dir.path().join("image");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("ibdata1"), [7; 70_000]).unwrap();
        let script = Script {
            log: Mutex::default(),
            told: Mutex::default(),
            failing: Mutex::default(),
            effects: Mutex::default(),
            members: Mutex::new(vec![primary(1, "A:1-9")]),
            later: Mutex::default(),
            findings: Mutex::default(),
            volumes: Mutex::default(),
            artefacts: Mutex::default(),
            version: Mutex::new("9.7.4"),
            slept: AtomicU64::new(0),
            data,
        };
        let (stop, _) = watch::channel(false);
        Self {
            store,
            repository,
            fakes: Fakes(Arc::new(script)),
            shard: crate::support::shard(),
            source: SourceRules::default(),
            dir,
            stop,
        }
    }

    pub fn script(&self) -> &Script {
        &self.fakes.0
    }

    pub fn ctx(&self) -> RunContext {
        let fakes = Arc::new(self.fakes.clone());
        let host = Host { clock: fakes.clone(), ..Host::system() };
        RunContext { host, reporter: fakes.clone(), failpoints: fakes, stop: self.stop.subscribe() }
    }

    pub fn rules(&self) -> SourceChoiceRules<'_> {
        SourceChoiceRules { source: &self.source, on_primary: OnPrimary::Lock, locking: Locking::Possible }
    }

    /// Makes a call fail from now on.
    pub fn fail(&self, call: &'static str) {
        self.script().failing.lock().unwrap().insert(call);
    }

    /// Makes every call and request succeed again.
    pub fn heal(&self) {
        self.script().failing.lock().unwrap().clear();
        self.script().effects.lock().unwrap().clear();
        self.store.obey(|_, _| StoreFault::Honest);
        self.stop.send_replace(false);
    }

    /// Does something at a failpoint.
    pub fn at(&self, point: &'static str, effect: impl Fn() + Send + 'static) {
        self.script().effects.lock().unwrap().push((point, Box::new(effect)));
    }

    /// Makes puts of keys with this part fail from a failpoint on.
    pub fn fail_puts_at(&self, point: &'static str, part: &'static str) {
        let store = Arc::clone(&self.store);
        self.at(point, move || {
            store.obey(move |operation, key| match operation {
                "put" | "multipart" if key.contains(part) => StoreFault::Fails,
                _ => StoreFault::Honest,
            });
        });
    }

    /// Requests a stop.
    pub fn stop_now(&self) {
        self.stop.send_replace(true);
    }

    /// Requests a stop at a failpoint.
    pub fn stop_at(&self, point: &'static str) {
        let stop = self.stop.clone();
        self.at(point, move || {
            stop.send_replace(true);
        });
    }

    pub fn set_members(&self, members: Vec<Member>) {
        *self.script().members.lock().unwrap() = members;
    }

    /// Sets the members that answer after the next wait.
    pub fn set_members_later(&self, members: Vec<Member>) {
        *self.script().later.lock().unwrap() = Some(members);
    }

    /// Returns the steps and calls since the last time.
    pub fn took(&self) -> Vec<String> {
        std::mem::take(&mut self.script().log.lock().unwrap())
    }

    /// True if the operator was told something with this text.
    pub fn told(&self, text: &str) -> bool {
        self.script().told.lock().unwrap().iter().any(|told| told.contains(text))
    }

    pub fn artefacts(&self) -> usize {
        self.script().artefacts.lock().unwrap().len()
    }

    pub async fn backups(&self) -> Vec<BackupId> {
        let catalog = self.repository.reader(&self.shard).catalog().await.unwrap();
        catalog.into_iter().map(|entry| entry.facts.backup_id).collect()
    }

    /// Returns the number of stored packs of data.
    pub async fn packs(&self) -> usize {
        let objects: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        objects.iter().filter(|object| object.location.as_ref().contains("/packs/")).count()
    }

    /// True if no run holds the shard.
    pub async fn is_free(&self) -> bool {
        match self.repository.acquire_lease(&self.shard, "test").await {
            Ok(writer) => writer.release().await.is_ok(),
            Err(_) => false,
        }
    }
}

impl Fakes {
    /// Writes a call down, and fails if it is to fail. Other tasks run meanwhile.
    async fn call(&self, name: &'static str) -> Result<()> {
        self.0.log.lock().unwrap().push(name.to_owned());
        tokio::task::yield_now().await;
        if self.0.failing.lock().unwrap().contains(name) {
            return Err(Error::failed(format!("{name} is out of order")));
        }
        Ok(())
    }

    fn state(&self) -> InstanceState {
        let members = self.0.members.lock().unwrap();
        members[0].state.clone().unwrap()
    }
}

/// Returns the steps, as `[step]`, and calls as one text.
pub fn steps(took: &[String]) -> String {
    took.join(" ")
}

pub fn endpoint(number: u32) -> Endpoint {
    Endpoint::new(format!("db{number}"), 3306)
}

/// Returns a member that accepts writes.
pub fn primary(number: u32, gtids: &str) -> Member {
    let state = InstanceState {
        server_uuid: uuid(number),
        server_id: number,
        version: "9.7.4".parse().unwrap(),
        gtid_mode_on: true,
        read_only: false,
        gtid_executed: set(gtids),
        gtid_purged: GtidSet::new(),
        semi_sync_replica: false,
        semi_sync_source_loaded: false,
        replication: None,
        fidelity: ReplicationFidelity::default(),
        group: None,
    };
    let verdict = ExternalVerdict::default();
    Member { endpoint: endpoint(number), candidate: false, state: Ok(state), verdict }
}

/// Returns a candidate that replicates from the first member.
pub fn candidate(number: u32, gtids: &str) -> Member {
    let mut member = primary(number, gtids);
    member.candidate = true;
    if let Ok(state) = &mut member.state {
        state.read_only = true;
        state.replication = Some(replication());
    }
    member
}

pub fn silent(number: u32) -> Member {
    Member { state: Err(NoAnswer::Silent("no answer".to_owned())), ..primary(number, "A:1") }
}

fn replication() -> Replication {
    Replication {
        source: endpoint(1),
        source_uuid: Some(uuid(1)),
        io_running: true,
        sql_running: true,
        lag: Some(Duration::ZERO),
        delay: Duration::ZERO,
        auto_position: true,
        last_error: None,
    }
}

/// Returns the UUID of a server: the first one numbers the transactions A.
fn uuid(number: u32) -> backstop_types::ids::ServerUuid {
    match number {
        1 => SERVER_A.parse().unwrap(),
        number => format!("{number:08}-0000-4000-8000-000000000000").parse().unwrap(),
    }
}

#[async_trait]
impl Clock for Fakes {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.slept.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        tokio::task::yield_now().await;
        if let Some(members) = self.0.later.lock().unwrap().take() {
            *self.0.members.lock().unwrap() = members;
        }
        self.0.slept.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Reporter for Fakes {
    fn step(&self, name: &'static str) {
        self.0.log.lock().unwrap().push(format!("[{name}]"));
    }
    fn progress(&self, _: Progress) {}
    fn notice(&self, text: &str) {
        self.0.told.lock().unwrap().push(text.to_owned());
    }
}

impl Failpoints for Fakes {
    fn reach(&self, point: &str) {
        for (_, effect) in self.0.effects.lock().unwrap().iter().filter(|(at, _)| *at == point) {
            effect();
        }
    }
}

#[async_trait]
impl Topology for Fakes {
    async fn members(&self) -> Result<Vec<Member>> {
        self.call("members").await?;
        Ok(self.0.members.lock().unwrap().clone())
    }
    async fn probe(&self, server: &Endpoint) -> Member {
        let answer = self.call("probe").await;
        let replica = Member { endpoint: server.clone(), ..candidate(9, "A:1-9") };
        match answer {
            Ok(()) => replica,
            Err(error) => Member { state: Err(NoAnswer::Silent(error.message)), ..replica },
        }
    }
    async fn source_settings(&self, _: &Endpoint) -> Result<SourceSettings> {
        self.call("source_settings").await?;
        Err(Error::failed("no settings are known"))
    }
}

#[async_trait]
impl BackupInstances for Fakes {
    async fn open(&self, _: &SourceChoice) -> Result<BackupInstance> {
        self.call("open").await?;
        let settings = [("innodb_page_size".to_owned(), "16384".to_owned())].into();
        Ok(BackupInstance { settings, findings: Vec::new(), snapshots: Box::new(self.clone()) })
    }
    async fn survey(&self, choice: &SourceChoice, _: &'static str) -> Result<Vec<Finding>> {
        self.call("survey").await?;
        Ok(vec![Finding::problem("no-plugin", format!("{} lacks a plugin", choice.endpoint), "load it")])
    }
}

#[async_trait]
impl SnapshotProvider for Fakes {
    fn provider(&self) -> &'static str {
        "fake"
    }
    async fn check(&self) -> Result<Vec<Finding>> {
        self.call("check").await?;
        Ok(self.0.findings.lock().unwrap().clone())
    }
    async fn take(&self, run: &BackupId) -> Result<TakenSnapshot> {
        self.0.artefacts.lock().unwrap().insert(run.clone());
        self.call("take").await?;
        let state = self.state();
        let volume = if self.is_backup() { "ebs:vol-1" } else { "fake" };
        Ok(TakenSnapshot {
            snapshot: Snapshot { run: run.clone(), path: PathBuf::new() },
            position: Position { gtid_executed: state.gtid_executed, ..Position::default() },
            freeze: FreezeReport { mode: FreezeMode::None, held_ms: 0.0, waited_ms: 0.0 },
            lineage: Lineage {
                server_uuid: state.server_uuid,
                volume: volume.to_owned(),
                generation: None,
                mark: None,
            },
            taken_at: Utc::now(),
            broken_tables: Vec::new(),
        })
    }
    async fn open(&self, _: &Snapshot) -> Result<SnapshotData> {
        self.call("read").await?;
        if self.is_backup() {
            let snapshot_ids = vec!["snap-1".to_owned()];
            return Ok(SnapshotData::Volumes(VolumeSet {
                snapshot_ids,
                region: "eu".into(),
                bytes: 1 << 30,
                volumes: Vec::new(),
            }));
        }
        Ok(SnapshotData::Tree(SnapshotDir { root: self.0.data.clone(), files: ServerFiles::default() }))
    }
    async fn release(&self, snapshot: &Snapshot) -> Result<()> {
        self.call("remove").await?;
        self.0.artefacts.lock().unwrap().remove(&snapshot.run);
        Ok(())
    }
    async fn list(&self) -> Result<Vec<Snapshot>> {
        let runs = self.0.artefacts.lock().unwrap().clone();
        Ok(runs.into_iter().map(|run| Snapshot { run, path: PathBuf::new() }).collect())
    }
    fn is_backup(&self) -> bool {
        self.0.volumes.lock().unwrap().is_some()
    }
    async fn complete(&self, _: &Snapshot) -> Result<VolumeState> {
        self.call("complete").await?;
        Ok(self.0.volumes.lock().unwrap().unwrap_or(VolumeState::Completed))
    }
    async fn changes(&self, _: &Snapshot, _: &Lineage) -> Result<Option<ChangedFiles>> {
        Ok(None)
    }
}

#[async_trait]
impl Schemas for Fakes {
    async fn tables(&self, _: &Endpoint, _: &GtidSet) -> Result<TableInventory> {
        Ok(TableInventory { names: BTreeSet::from(["shop".to_owned()]), executed: GtidSet::new() })
    }
    async fn events(&self, _: &Endpoint) -> Result<ServerEvents> {
        self.call("events").await?;
        Ok(ServerEvents { scheduler: "ON".to_owned(), executed: GtidSet::new(), events: Vec::new() })
    }
    async fn plugins(&self, _: &Endpoint) -> Result<Vec<Plugin>> {
        self.call("plugins").await?;
        Ok(Vec::new())
    }
}

#[async_trait]
impl VolumeSnapshots for Fakes {
    async fn state(&self, _: &[String], _: &str) -> Result<VolumeState> {
        self.call("state").await?;
        Ok(self.0.volumes.lock().unwrap().unwrap_or(VolumeState::Missing))
    }
    async fn delete(&self, _: &[String], _: &str) -> Result<()> {
        self.call("delete").await
    }
    async fn clear_dead_runs(&self, _: &ShardName) -> Result<Vec<String>> {
        self.call("clear_dead_runs").await?;
        Ok(Vec::new())
    }
    async fn mark_completion(&self, _: &[String], _: &str, outcome: CompletionOutcome) -> Result<()> {
        self.call("mark").await?;
        self.0.told.lock().unwrap().push(format!("marked {}", outcome.name()));
        Ok(())
    }
    async fn tagged(&self, _: &ShardName) -> Result<Vec<TaggedBackup>> {
        self.call("tagged").await?;
        let runs = self.0.artefacts.lock().unwrap().clone();
        let tagged = |backup_id| TaggedBackup {
            backup_id,
            taken_at: Utc::now() - TimeDelta::hours(1),
            source: String::new(),
            cluster_name: String::new(),
            gtid: String::new(),
            ebs: EbsSnapshots { region: "eu".into(), snapshot_ids: vec!["snap-1".into()], state: None },
        };
        Ok(runs.into_iter().map(tagged).collect())
    }
}

#[async_trait]
impl Infrastructure for Fakes {
    async fn zone(&self, _: &Endpoint) -> Result<String> {
        self.call("zone").await?;
        Ok("eu-a".to_owned())
    }
    async fn plan(&self, _: &InstanceSpec) -> Result<InfrastructureChanges> {
        self.call("preview").await?;
        Ok(InfrastructureChanges::default())
    }
    async fn apply(&self, spec: &InstanceSpec) -> Result<CreatedInstance> {
        self.call("apply").await?;
        self.0.told.lock().unwrap().push(format!("applied in {}: {:?}", spec.zone, spec.protection));
        Ok(CreatedInstance {
            server: endpoint(9),
            instance_id: "i-9".to_owned(),
            volume_ids: vec!["vol-9".to_owned()],
            inventory: String::new(),
        })
    }
    async fn volume_initialization(&self, _: &[String]) -> Result<VolumeInitialization> {
        self.call("volumes").await?;
        Ok(VolumeInitialization::Loaded)
    }
    async fn destroy(&self, _: &InstanceSpec) -> Result<()> {
        self.call("destroy").await
    }
}

#[async_trait]
impl Playbook for Fakes {
    async fn run(&self, site: &PlaybookInputs) -> Result<Option<String>> {
        self.call("playbook").await?;
        let Some(on_host) = &site.on_host else { return Ok(None) };
        self.0.told.lock().unwrap().push(format!("on the instance: {}", on_host.arguments.join(" ")));
        let held = site.gtid_executed.to_string();
        let said = serde_json::json!({"gtid_executed": held, "transactions_replayed": 3, "joined": false, "next": ["look"]});
        Ok(Some(said.to_string()))
    }
}

#[async_trait]
impl MysqldControl for Fakes {
    fn program(&self) -> PathBuf {
        PathBuf::from("/usr/sbin/mysqld")
    }
    async fn version(&self) -> Result<ServerVersion> {
        self.call("version").await?;
        Ok(self.0.version.lock().unwrap().parse().unwrap())
    }
    async fn start(&self, _: &MysqldStart) -> Result<u32> {
        self.call("start").await?;
        Ok(1)
    }
    async fn wait_ready(&self, _: &MysqldStart, _: u32, _: Duration) -> Result<()> {
        self.call("wait_ready").await
    }
    async fn check_options(&self, _: &str) -> Result<()> {
        self.call("check_options").await
    }
    async fn stop(&self, _: &Path, _: Duration) -> Result<()> {
        self.call("stop").await
    }
    async fn chown(&self, _: &Path, _: &str) -> Result<()> {
        self.call("chown").await
    }
    async fn running_on(&self, _: &Path) -> Result<Option<u32>> {
        self.call("running_on").await?;
        Ok(None)
    }
}
