//! Keeper actor: a machine that records backups, deletes old ones, and prunes the archive, beside the
//! archivers and beside another keeper. The data of its backups is in volumes: what stores files in
//! blocks needs threads, which a simulation has not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_repo::Repository;
use backstop_types::backup::{BackupFacts, BackupKind, BackupSource, Lineage, Sizes};
use backstop_types::error::Result;
use backstop_types::freeze::{FreezeMode, FreezeReport};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, Endpoint, ShardName};
use backstop_types::topology::Role;
use tokio::sync::watch;

use crate::dice::Dice;
use crate::process::{Machine, Process, lock, true_time};
use crate::store::{RequestFault, SimStore, StoreWorld};
use crate::trace::Trace;

/// Grace period of deleted backups and dropped segments.
const GRACE: Duration = Duration::from_secs(20);
/// Number of listed backups from which on the oldest is deleted.
const MAX_BACKUPS: usize = 4;

/// Backups as the keepers know them.
#[derive(Default)]
pub struct BackupLedger {
    /// Every backup whose commit was begun, with the id of its snapshot.
    pub begun: Mutex<BTreeMap<BackupId, String>>,
    /// Backups whose commit was confirmed.
    pub confirmed: Mutex<BTreeSet<BackupId>>,
    /// Backups whose deletion was begun.
    pub condemned: Mutex<BTreeSet<BackupId>>,
}

/// A machine that keeps backups.
pub struct KeeperActor {
    name: String,
    seed: u64,
    machine: Arc<Machine>,
    store: Arc<StoreWorld>,
    trace: Arc<Trace>,
    faults: BTreeMap<u64, RequestFault>,
    requests: Arc<AtomicU64>,
    cut_off: Arc<AtomicBool>,
    ledger: Arc<BackupLedger>,
    running: Mutex<Option<Process>>,
    runs: AtomicU64,
}

impl KeeperActor {
    /// Returns a machine on which nothing runs yet.
    pub fn new(
        name: &str,
        seed: u64,
        store: &Arc<StoreWorld>,
        ledger: &Arc<BackupLedger>,
        faults: BTreeMap<u64, RequestFault>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            seed,
            machine: Machine::new(name),
            store: Arc::clone(store),
            trace: Arc::clone(&store.trace),
            faults,
            requests: Arc::default(),
            cut_off: Arc::default(),
            ledger: Arc::clone(ledger),
            running: Mutex::default(),
            runs: AtomicU64::new(0),
        })
    }

    /// Runs one operation after the other until `end` becomes true.
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    pub async fn keep_running(self: Arc<Self>, mut end: watch::Receiver<bool>) {
        let mut dice = Dice::of(self.seed, &self.name, 0);
        loop {
            tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => return,
                () = tokio::time::sleep(dice.millis(200, 9_000)) => {}
            }
            self.run_once(dice.below(3)).await;
        }
    }

    async fn run_once(&self, operation: u64) {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let dice = Dice::of(self.seed, &self.name, 1_000_000 + run);
        let process = Process::start(&self.machine, 100 + run as u32, dice.clone(), &self.trace);
        *lock(&self.running) = Some(process.clone());
        let ended = process.gated(self.operate(&process, operation, dice)).await;
        match ended {
            None => self.trace.event(&self.name, format_args!("was killed")),
            Some(Ok(what)) => self.trace.event(&self.name, format_args!("{what}")),
            Some(Err(error)) => {
                self.trace.event(&self.name, format_args!("failed: {:?} {error}", error.kind))
            }
        }
        process.kill();
    }

    async fn operate(&self, process: &Process, operation: u64, mut dice: Dice) -> Result<String> {
        let client = SimStore::new(
            &self.store,
            &self.name,
            self.seed,
            self.faults.clone(),
            &self.requests,
            &self.cut_off,
        );
        let repository = Repository::on(Arc::new(client), None, process.host()).await?;
        match operation {
            0 => self.back_up(&repository, &mut dice).await,
            1 => self.delete(&repository, process).await,
            _ => prune(&repository, process).await,
        }
    }

    async fn back_up(&self, repository: &Repository, dice: &mut Dice) -> Result<String> {
        let mut writer = repository.acquire_lease(&shard(), "backup").await?;
        let id = BackupId::new(true_time(self.trace.now()), dice.number() as u32);
        let snapshot = format!("snap-{:x}", dice.number());
        lock(&self.ledger.begun).insert(id.clone(), snapshot.clone());
        let stored = writer.store_ebs(vec![snapshot], "eu".to_owned(), Vec::new(), Sizes::default());
        writer.commit(facts(id.clone()), stored).await?;
        lock(&self.ledger.confirmed).insert(id.clone());
        writer.release().await?;
        Ok(format!("made backup {id}"))
    }

    async fn delete(&self, repository: &Repository, process: &Process) -> Result<String> {
        let mut writer = repository.acquire_lease(&shard(), "prune").await?;
        let now = writer.agreed_time(process.host().clock.now()).await?;
        let listed = writer.reader().catalog().await?;
        let old = listed.len().saturating_sub(MAX_BACKUPS);
        let old: Vec<BackupId> = listed[..old].iter().map(|entry| entry.facts.backup_id.clone()).collect();
        lock(&self.ledger.condemned).extend(old.iter().cloned());
        writer.condemn(&old, now).await?;
        let plan = writer.gc_plan(now, GRACE).await?;
        let swept = writer.sweep(plan).await?;
        writer.release().await?;
        Ok(format!("deleted {} backups and {} objects", old.len(), swept.objects))
    }

    /// Kills the process that runs.
    pub fn kill(&self) {
        if let Some(process) = self.process() {
            process.kill();
        }
    }

    /// Returns the process that runs, or the last one.
    pub fn process(&self) -> Option<Process> {
        lock(&self.running).clone()
    }
}

/// Prunes the archive without dropping a segment: only remains of dead archivers go.
async fn prune(repository: &Repository, process: &Process) -> Result<String> {
    let writer = repository.acquire_lease(&shard(), "prune").await?;
    let now = writer.agreed_time(process.host().clock.now()).await?;
    let plan = writer.archive_view().await?.plan(&BTreeSet::new(), now, GRACE);
    let objects = plan.objects.len();
    writer.prune_archive(plan).await?;
    writer.release().await?;
    Ok(format!("removed {objects} objects of the archive"))
}

fn shard() -> ShardName {
    "orders".parse().unwrap()
}

fn lineage() -> Lineage {
    let server_uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562".parse().unwrap();
    Lineage { server_uuid, volume: "clone".to_owned(), generation: None, mark: None }
}

fn facts(id: BackupId) -> BackupFacts {
    let at = true_time(Duration::ZERO);
    BackupFacts {
        on_timeline: None,
        backup_id: id,
        shard: shard(),
        occasion: None,
        kind: BackupKind::OnDemand,
        source: BackupSource { endpoint: Endpoint::new("dbbb", 3306), role: Role::Replica },
        source_reason: "it is the only replica".to_owned(),
        server_version: "9.7.4".parse().unwrap(),
        gtid_executed: GtidSet::new(),
        freeze: FreezeReport { mode: FreezeMode::None, held_ms: 0.0, waited_ms: 0.0 },
        lineage: lineage(),
        settings: BTreeMap::new(),
        started_at: at,
        taken_at: at,
        seconds: 1.0,
        servers: Vec::new(),
        members: Vec::new(),
        primary: None,
        events: None,
        plugins: Vec::new(),
        findings: Vec::new(),
        broken_tables: Vec::new(),
    }
}
