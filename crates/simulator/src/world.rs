//! World: a shard, its store and its archivers, and a run of a schedule in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstop_types::gtid::GtidSet;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::archiver::{ArchiverActor, Surroundings};
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::oracle::Oracle;
use crate::process::{Machine, Process};
use crate::schedule::{ARCHIVERS, Acknowledge, Action, SERVERS, Schedule};
use crate::server::SimServer;
use crate::store::StoreWorld;
use crate::trace::Trace;
use crate::truth::Truth;

/// Longest time until everything is archived after the last fault.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(240);
/// Longest time of a graceful end.
const STOP_LIMIT: Duration = Duration::from_secs(120);
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
    acknowledge: Acknowledge,
    incarnation: std::sync::atomic::AtomicU8,
}

/// Runs a schedule. `verbose`: the outcome has the events as text.
pub fn run(schedule: &Schedule, verbose: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let world = World::new(schedule, Arc::new(Trace::begin(verbose)));
        world.run(schedule).await;
        let (failures, trace, lines) = world.trace.end();
        Outcome { failures, trace, lines, acknowledged: world.truth.acknowledged().len() }
    })
}

impl World {
    fn new(schedule: &Schedule, trace: Arc<Trace>) -> Arc<Self> {
        let truth = Arc::new(Truth::default());
        let store = StoreWorld::new(Arc::clone(&trace));
        let servers: Vec<_> =
            (0..SERVERS).map(|number| SimServer::new(0xaa + number as u8 * 0x11, &trace, &truth)).collect();
        servers[0].state().is_primary = true;
        for server in &servers {
            server.state().has_semi_sync = schedule.acknowledge != Acknowledge::Nothing;
        }
        let around = Surroundings {
            store: &store,
            servers: &servers,
            trace: &trace,
            acknowledge: schedule.acknowledge,
            seed: schedule.seed,
        };
        let archivers = (0..ARCHIVERS).map(|number| actor(schedule, &around, number)).collect();
        let observer = Process::start(&Machine::new("observer"), 1, Dice::new(schedule.seed), &trace);
        let shard = "orders".parse().unwrap();
        let oracle = Arc::new(Oracle::new(&store, &truth, &trace, observer.host(), &shard));
        if schedule.acknowledge == Acknowledge::Store {
            let oracle = Arc::clone(&oracle);
            truth.watch(Box::new(move || oracle.check_now_and_then("at an acknowledgement")));
        }
        let (acknowledge, incarnation) = (schedule.acknowledge, Default::default());
        Arc::new(Self { trace, truth, store, servers, archivers, oracle, acknowledge, incarnation })
    }

    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn run(self: &Arc<Self>, schedule: &Schedule) {
        let end = watch::Sender::new(false);
        let mut services: Vec<JoinHandle<()>> = Vec::new();
        for archiver in &self.archivers {
            services.push(tokio::spawn(Arc::clone(archiver).keep_running(end.subscribe())));
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
        let errors: Vec<_> =
            self.archivers.iter().map(|archiver| archiver.last_error.lock().unwrap().clone()).collect();
        let missing = self.expected().subtract(&self.oracle.examine().held);
        self.trace.fail(format!("{missing} is not archived within {CONVERGENCE_LIMIT:?}: {errors:?}"));
    }

    /// Returns the transactions that the current timeline must hold: those that were purged before an
    /// archiver could stream them are lost to it.
    fn expected(&self) -> GtidSet {
        self.primary().state().reached().subtract(&self.truth.purged())
    }

    fn judge(&self) {
        self.oracle.check_acknowledged("at the end");
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
        if action.is_fault() && self.acknowledge == Acknowledge::Store {
            self.oracle.check_acknowledged("before a fault");
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
        new.change(|state| state.is_primary = true);
    }

    fn fail_over(self: &Arc<Self>, lossy: bool, back_after: u64) {
        let (old, new) = (self.primary(), self.replica());
        if !new.state().is_up {
            return;
        }
        if !lossy {
            new.replicate(&old, usize::MAX);
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

    /// Returns the use of semi-synchronous replication.
    pub fn acknowledge(&self) -> Acknowledge {
        self.acknowledge
    }
}

fn actor(schedule: &Schedule, around: &Surroundings<'_>, number: u64) -> Arc<ArchiverActor> {
    let requests: BTreeMap<_, _> = schedule
        .requests
        .iter()
        .filter(|planned| planned.archiver == number)
        .map(|planned| (planned.request, planned.fault))
        .collect();
    let calls = schedule.calls.iter().filter(|planned| planned.archiver == number);
    let calls = calls.map(|planned| (planned.call, planned.fault)).collect();
    let disk = SimDisk::new(Dice::of(schedule.seed, "disk", number).number(), calls);
    ArchiverActor::new(&format!("archiver{number}"), around, disk, requests)
}
