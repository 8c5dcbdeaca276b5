//! World: a shard, its store and its archivers, and a run of a schedule in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use backstop_types::gtid::GtidSet;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::archiver::{ArchiverActor, Surroundings};
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::fork::Fork;
use crate::keeper::{BackupLedger, KeeperActor};
use crate::oracle::Oracle;
use crate::process::{Machine, Process, lock};
use crate::schedule::{ARCHIVERS, Acknowledge, Action, KEEPERS, SERVERS, SimSchedule};
use crate::server::SimServer;
use crate::store::{RequestFault, StoreWorld};
use crate::trace::Trace;
use crate::truth::Truth;

/// Longest time until everything is archived after the last fault.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(240);
/// Part of the refusal of a server that was reset before anything of it was archived.
const FOREIGN: &str = "shares no transaction with the archive";
/// Longest time of a graceful end.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// Simulated time between two checks at acknowledgements, in milliseconds. The first acknowledgement
/// after it is checked at its very moment.
const CHECK_INTERVAL: u64 = 1_000;
/// The same for checks in a fork.
const FORK_INTERVAL: u64 = 10_000;
/// Interval at which replicas apply and waits are given up, in milliseconds.
const REPLICATION_INTERVAL: u64 = 400;
/// Most transactions that a replica applies at once.
const MAX_APPLIED: u64 = 6;

/// Outcome of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Broken rules; empty: none.
    pub failures: Vec<String>,
    /// Identity of the trace.
    pub trace: String,
    /// Events as text, if they were wanted.
    pub lines: Vec<String>,
    /// Number of acknowledged transactions.
    pub acknowledged: usize,
}

/// A shard in the middle of a run.
pub struct World {
    pub(crate) trace: Arc<Trace>,
    pub(crate) truth: Arc<Truth>,
    pub(crate) store: Arc<StoreWorld>,
    pub(crate) servers: Vec<Arc<SimServer>>,
    pub(crate) archivers: Vec<Arc<ArchiverActor>>,
    pub(crate) oracle: Arc<Oracle>,
    keepers: Vec<Arc<KeeperActor>>,
    ledger: Arc<BackupLedger>,
    acknowledge: Acknowledge,
    incarnation: AtomicU8,
    seed: u64,
    /// Time of the last check at an acknowledgement, in milliseconds.
    checked: AtomicU64,
}

/// Runs a schedule. `verbose`: the outcome has the events as text.
pub fn run(schedule: &SimSchedule, verbose: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    // The operations of keepers stay on this thread.
    tokio::task::LocalSet::new().block_on(&runtime.unwrap(), async {
        let world = World::new(schedule, Arc::new(Trace::begin(verbose)));
        world.run(schedule).await;
        let (failures, trace, lines) = world.trace.end();
        Outcome { failures, trace, lines, acknowledged: world.truth.acknowledged() }
    })
}

impl World {
    fn new(schedule: &SimSchedule, trace: Arc<Trace>) -> Arc<Self> {
        let truth = Arc::new(Truth::default());
        let store = StoreWorld::new(Arc::clone(&trace));
        let servers = servers(schedule, &trace, &truth);
        let around = Surroundings {
            store: &store,
            servers: &servers,
            trace: &trace,
            acknowledge: schedule.acknowledge,
            seed: schedule.seed,
        };
        let archivers = (0..ARCHIVERS).map(|number| actor(schedule, &around, number)).collect();
        let observer = Process::start(&Machine::new("observer"), 1, Dice::new(schedule.seed), &trace);
        let oracle = Arc::new(Oracle::new(&store, &truth, &trace, observer.host()));
        let ledger = Arc::new(BackupLedger::default());
        let keepers = keepers(schedule, &store, &ledger);
        let acknowledge = schedule.acknowledge;
        let (incarnation, checked, seed) = (AtomicU8::new(0), AtomicU64::new(0), schedule.seed);
        let world = Arc::new(Self {
            trace,
            truth,
            store,
            servers,
            archivers,
            oracle,
            keepers,
            ledger,
            acknowledge,
            incarnation,
            seed,
            checked,
        });
        let watching = Arc::downgrade(&world);
        world.truth.watch(Box::new(move || {
            if let Some(world) = watching.upgrade() {
                world.check_now_and_then();
            }
        }));
        world
    }

    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn run(self: &Arc<Self>, schedule: &SimSchedule) {
        let end = watch::Sender::new(false);
        let mut services: Vec<JoinHandle<()>> = Vec::new();
        for archiver in &self.archivers {
            services.push(tokio::spawn(Arc::clone(archiver).keep_running(end.subscribe())));
        }
        for keeper in &self.keepers {
            services.push(tokio::task::spawn_local(Arc::clone(keeper).keep_running(end.subscribe())));
        }
        let replication = tokio::spawn(Arc::clone(self).replicate(schedule.seed));
        for step in &schedule.steps {
            let wait = Duration::from_millis(step.at).saturating_sub(self.trace.now());
            tokio::time::sleep(wait).await;
            self.act(&step.action);
            if self.trace.has_failed() {
                return;
            }
        }
        let rest = Duration::from_millis(schedule.length).saturating_sub(self.trace.now());
        tokio::time::sleep(rest).await;
        self.heal();
        self.converge().await;
        end.send_replace(true);
        self.archivers.iter().for_each(|archiver| archiver.stop());
        for service in services {
            if tokio::time::timeout(STOP_LIMIT, service).await.is_err() {
                self.trace.fail(format!("an archiver did not end within {STOP_LIMIT:?}"));
            }
        }
        replication.abort();
        self.judge();
    }

    /// Ends every fault.
    fn heal(&self) {
        self.trace.event("world", format_args!("heals"));
        self.store.down.store(false, Ordering::Relaxed);
        self.store.calm.store(true, Ordering::Relaxed);
        for archiver in &self.archivers {
            archiver.cut_off.store(false, Ordering::Relaxed);
            archiver.disk.heal();
            archiver.power_on();
            if let Some(process) = archiver.process() {
                process.resume();
            }
        }
        for keeper in &self.keepers {
            if let Some(process) = keeper.process() {
                process.resume();
            }
        }
        for server in &self.servers {
            server.change(|state| {
                state.is_stalled = false;
                state.is_up |= state.is_primary;
            });
        }
    }

    /// Waits until the archive has everything of the primary.
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn converge(&self) {
        let limit = self.trace.now() + CONVERGENCE_LIMIT;
        while self.trace.now() < limit && !self.trace.has_failed() {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let examined = self.oracle.examine();
            if self.expected().is_subset_of(&examined.held) {
                return;
            }
        }
        let errors = self.archivers.iter().filter_map(|archiver| lock(&archiver.last_error).clone());
        let errors: Vec<String> = errors.map(|error| error.to_string()).collect();
        if errors.iter().any(|error| error.contains(FOREIGN)) {
            return; // the operator is asked to decide
        }
        let missing = self.expected().subtract(&self.oracle.examine().held);
        self.trace.fail(format!("{missing} is not archived within {CONVERGENCE_LIMIT:?}: {errors:?}"));
    }

    /// Returns the transactions that the current timeline must hold: those that were purged before an
    /// archiver could stream them are lost to it.
    fn expected(&self) -> GtidSet {
        self.primary().state().reached().subtract(&self.truth.purged())
    }

    fn check_now_and_then(&self) {
        let interval = match self.acknowledge {
            Acknowledge::Nothing | Acknowledge::Store => CHECK_INTERVAL,
            Acknowledge::Spool => FORK_INTERVAL,
        };
        let now = self.trace.now().as_millis() as u64;
        if now >= self.checked.load(Ordering::Relaxed) + interval {
            self.checked.store(now, Ordering::Relaxed);
            self.check_acknowledged("at an acknowledgement");
        }
    }

    /// Checks that every acknowledged transaction is recoverable if everything but the store, and
    /// the spools if they acknowledge, is lost now.
    fn check_acknowledged(&self, when: &str) {
        match self.acknowledge {
            Acknowledge::Nothing => {}
            Acknowledge::Store => self.oracle.check_acknowledged(when),
            Acknowledge::Spool => self.check_spools(when),
        }
    }

    fn check_spools(&self, when: &str) {
        let disks =
            self.archivers.iter().map(|archiver| (archiver.name.clone(), archiver.disk.fork())).collect();
        let fork = Fork {
            bucket: self.store.bucket.fork(),
            disks,
            acknowledge: self.acknowledge,
            // Other random numbers than those of the processes that are killed here.
            seed: !self.seed,
            truth: Arc::clone(&self.truth),
        };
        let recovered = fork.recover();
        for broken in &recovered.broken {
            self.trace.fail(format!("{when}, recovered: {broken}"));
        }
        if recovered.refused.iter().any(|why| why.contains("do not fit the archive")) {
            return; // the operator is asked to decide, and nothing is removed
        }
        self.oracle.require(&recovered.replayed, when);
        if self.trace.has_failed() {
            recovered.lines.iter().for_each(|line| self.trace.event("fork", format_args!("{line}")));
        }
    }

    /// Checks backups and archive after everything has ended.
    fn judge(&self) {
        if !self.keepers.is_empty() && self.store.bucket.has("backstop") {
            self.oracle.check_backups(&self.ledger, "at the end");
        }
        self.check_acknowledged("at the end");
        if self.store.forgotten.lock().unwrap().is_empty() {
            for damage in self.oracle.verify() {
                self.trace.fail(format!("verification at the end: {damage}"));
            }
        }
    }

    fn primary(&self) -> Arc<SimServer> {
        let primary = self.servers.iter().find(|server| server.state().is_primary);
        Arc::clone(primary.unwrap_or(&self.servers[0]))
    }

    fn replica(&self) -> Arc<SimServer> {
        let replica = self.servers.iter().find(|server| !server.state().is_primary);
        Arc::clone(replica.unwrap_or(&self.servers[1]))
    }

    /// Lets the replica follow the primary, in steps.
    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn replicate(self: Arc<Self>, seed: u64) {
        let mut dice = Dice::of(seed, "replication", 0);
        loop {
            tokio::time::sleep(dice.millis(1, REPLICATION_INTERVAL)).await;
            self.replica().replicate(&self.primary(), dice.below(MAX_APPLIED) as usize);
            self.servers.iter().for_each(|server| server.give_up_waits());
        }
    }

    fn act(self: &Arc<Self>, action: &Action) {
        if !matches!(action, Action::Commit { .. }) {
            self.trace.event("world", format_args!("{action:?}"));
        }
        if action.is_fault() {
            self.check_acknowledged("before a fault");
        }
        match *action {
            Action::Commit { count, size } => self.primary().commit(count, size),
            Action::Rotate => self.primary().rotate(),
            Action::Purge { keep } => self.purge(keep),
            Action::Disconnect => self.primary().disconnect(),
            Action::Stall { server, for_ms } => {
                let server = Arc::clone(&self.servers[server as usize]);
                server.change(|state| state.is_stalled = true);
                self.after(for_ms, move |_| server.change(|state| state.is_stalled = false));
            }
            Action::Crash { for_ms, lost } => {
                let server = self.primary();
                server.crash(lost);
                server.change(|state| state.is_up = false);
                self.rebuild_replica();
                self.after(for_ms, move |_| server.change(|state| state.is_up = true));
            }
            Action::SwitchOver => self.switch_over(),
            Action::FailOver { lossy, back_after } => self.fail_over(lossy, back_after),
            Action::Reset { sets_purged } => {
                let primary = self.primary();
                let executed = sets_purged.then(|| primary.state().executed().clone());
                primary.reset(executed.as_ref());
                self.rebuild_replica();
            }
            _ => self.act_on_archiver(action),
        }
    }

    fn act_on_archiver(self: &Arc<Self>, action: &Action) {
        let archiver = |number: u64| Arc::clone(&self.archivers[number as usize]);
        match *action {
            Action::KillArchiver { archiver: number } => archiver(number).kill(),
            Action::StopArchiver { archiver: number } => archiver(number).stop(),
            Action::PauseArchiver { archiver: number, for_ms } => {
                if let Some(process) = archiver(number).process() {
                    process.pause();
                    self.after(for_ms, move |_| process.resume());
                }
            }
            Action::CutPower { archiver: number, for_ms } => {
                archiver(number).cut_power();
                self.check_acknowledged("after a power cut");
                self.after(for_ms, move |world| world.archivers[number as usize].power_on());
            }
            Action::CutOff { archiver: number, for_ms } => {
                archiver(number).cut_off.store(true, Ordering::Relaxed);
                let cut_off = Arc::clone(&archiver(number).cut_off);
                self.after(for_ms, move |_| cut_off.store(false, Ordering::Relaxed));
            }
            Action::StepClock { archiver: number, by_ms } => archiver(number).machine.step_clock(by_ms),
            Action::FillDisk { archiver: number, for_ms } => {
                archiver(number).disk.set_full(true);
                self.after(for_ms, move |world| world.archivers[number as usize].disk.set_full(false));
            }
            Action::Unmount { archiver: number, for_ms } => {
                archiver(number).disk.set_gone(true);
                self.after(for_ms, move |world| world.archivers[number as usize].disk.set_gone(false));
            }
            _ => self.act_on_store(action),
        }
    }

    fn act_on_store(self: &Arc<Self>, action: &Action) {
        match *action {
            Action::KillKeeper { keeper } => {
                if let Some(keeper) = self.keepers.get(keeper as usize) {
                    keeper.kill();
                    self.oracle.check_backups(&self.ledger, "after a kill");
                }
            }
            Action::PauseKeeper { keeper, for_ms } => {
                if let Some(process) = self.keepers.get(keeper as usize).and_then(|keeper| keeper.process()) {
                    process.pause();
                    self.after(for_ms, move |_| process.resume());
                }
            }
            Action::StoreDown { for_ms } => {
                self.store.down.store(true, Ordering::Relaxed);
                self.after(for_ms, |world| world.store.down.store(false, Ordering::Relaxed));
            }
            _ => {}
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    fn after(self: &Arc<Self>, milliseconds: u64, work: impl FnOnce(&Self) + Send + 'static) {
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            work(&world);
        });
    }

    /// Purges binlogs, as an administrator does who keeps what is not archived.
    fn purge(&self, keep: usize) {
        self.primary().purge(keep);
    }

    fn rebuild_replica(&self) {
        let incarnation = self.incarnation.fetch_add(1, Ordering::Relaxed) + 1;
        self.replica().rebuild(&self.primary(), incarnation);
    }

    fn switch_over(&self) {
        let (old, new) = (self.primary(), self.replica());
        if !old.state().is_up || !new.state().is_up {
            return;
        }
        old.change(|state| {
            state.is_primary = false;
            state.give_up_all_waits();
        });
        new.replicate(&old, usize::MAX);
        // An archiver refuses a server that shares no transaction with its archive.
        let promoted = if new.state().executed().is_empty() { old } else { new };
        promoted.change(|state| state.is_primary = true);
    }

    fn fail_over(self: &Arc<Self>, lossy: bool, back_after: u64) {
        let (old, new) = (self.primary(), self.replica());
        if !new.state().is_up {
            return;
        }
        if !lossy || new.state().executed().is_empty() {
            new.replicate(&old, usize::MAX);
        }
        if new.state().executed().is_empty() {
            return;
        }
        old.disconnect();
        old.change(|state| (state.is_up, state.is_primary) = (false, false));
        new.change(|state| state.is_primary = true);
        self.after(back_after, move |world| {
            if !old.state().is_primary {
                let incarnation = world.incarnation.fetch_add(1, Ordering::Relaxed) + 1;
                old.rebuild(&world.primary(), incarnation);
            }
        });
    }
}

fn servers(schedule: &SimSchedule, trace: &Arc<Trace>, truth: &Arc<Truth>) -> Vec<Arc<SimServer>> {
    let servers: Vec<_> =
        (0..SERVERS).map(|number| SimServer::new(0xaa + number as u8 * 0x11, trace, truth)).collect();
    servers[0].state().is_primary = true;
    for server in &servers {
        server.state().has_semi_sync = schedule.acknowledge != Acknowledge::Nothing;
    }
    servers
}

fn keepers(
    schedule: &SimSchedule,
    store: &Arc<StoreWorld>,
    ledger: &Arc<BackupLedger>,
) -> Vec<Arc<KeeperActor>> {
    let numbers = if schedule.keeps { 0..KEEPERS } else { 0..0 };
    let keeper = |number| {
        let faults = request_faults(schedule, ARCHIVERS + number);
        KeeperActor::new(&format!("keeper{number}"), schedule.seed, store, ledger, faults)
    };
    numbers.map(keeper).collect()
}

/// Returns the faults of a client's requests, by their numbers.
fn request_faults(schedule: &SimSchedule, client: u64) -> BTreeMap<u64, RequestFault> {
    let planned = schedule.requests.iter().filter(|planned| planned.client == client);
    planned.map(|planned| (planned.request, planned.fault)).collect()
}

fn actor(schedule: &SimSchedule, around: &Surroundings<'_>, number: u64) -> Arc<ArchiverActor> {
    let requests = request_faults(schedule, number);
    let calls = schedule.calls.iter().filter(|planned| planned.archiver == number);
    let calls = calls.map(|planned| (planned.call, planned.fault)).collect();
    let disk = SimDisk::new(Dice::of(schedule.seed, "disk", number).number(), calls);
    ArchiverActor::new(&format!("archiver{number}"), around, disk, requests)
}
