//! Simulated processes: a gate around every future that a process runs. A closed gate is a paused
//! process; a process that is killed drops its futures where they wait.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use backstop_host::{Clock, Host, Identity, ProcessIdentity, Random, Stop, Tasks};
use backstop_types::error::Result;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;

use crate::dice::Dice;
use crate::trace::Trace;

/// Seconds since 1970 at which every simulation begins.
pub const EPOCH_SECONDS: i64 = 1_796_000_000;
/// Longest time that blocking work waits for a thread, in milliseconds.
const MAX_THREAD_WAIT: u64 = 3;

/// A machine: its processes, and its wall clock.
pub struct Machine {
    /// Host name.
    pub name: String,
    /// Processes that live, with their start times.
    living: Mutex<BTreeMap<u32, u64>>,
    boot: Mutex<u64>,
    /// Difference between its wall clock and the true time, in milliseconds.
    clock_offset: AtomicI64,
}

impl Machine {
    /// Returns a machine without processes.
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            living: Mutex::default(),
            boot: Mutex::new(1),
            clock_offset: AtomicI64::new(0),
        })
    }

    /// Sets the difference between its wall clock and the true time.
    pub fn step_clock(&self, milliseconds: i64) {
        self.clock_offset.store(milliseconds, Ordering::Relaxed);
    }

    /// Counts a reboot. Its processes must be dead.
    pub fn reboot(&self) {
        *lock(&self.boot) += 1;
    }
}

/// State of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunState {
    Running,
    Paused,
    Dead,
}

struct Gate {
    state: RunState,
    /// Wakers of the futures that wait behind the gate.
    wakers: BTreeMap<u64, Waker>,
    next: u64,
}

/// A process. Clones are the same process.
#[derive(Clone)]
pub struct Process {
    shared: Arc<ProcessShared>,
}

struct ProcessShared {
    machine: Arc<Machine>,
    pid: u32,
    gate: Mutex<Gate>,
    dice: Mutex<Dice>,
    trace: Arc<Trace>,
    begun: Duration,
}

impl Process {
    /// Starts a process that runs nothing yet.
    pub fn start(machine: &Arc<Machine>, pid: u32, dice: Dice, trace: &Arc<Trace>) -> Self {
        let begun = trace.now();
        lock(&machine.living).insert(pid, begun.as_millis() as u64);
        let gate = Gate { state: RunState::Running, wakers: BTreeMap::new(), next: 0 };
        let shared = ProcessShared {
            machine: Arc::clone(machine),
            pid,
            gate: Mutex::new(gate),
            dice: Mutex::new(dice),
            trace: Arc::clone(trace),
            begun,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs a future behind the gate. `None`: the process was killed.
    pub fn gated<F: Future>(&self, inner: F) -> Gated<F> {
        let mut gate = self.gate();
        gate.next += 1;
        Gated { process: self.clone(), number: gate.next, inner: Some(Box::pin(inner)) }
    }

    /// Stops the process from running, until it is resumed.
    pub fn pause(&self) {
        self.set(RunState::Paused);
    }

    /// Lets a paused process run.
    pub fn resume(&self) {
        self.set(RunState::Running);
    }

    /// Ends the process. It does nothing from now on.
    pub fn kill(&self) {
        self.set(RunState::Dead);
        lock(&self.shared.machine.living).remove(&self.shared.pid);
    }

    /// Returns true if it was killed.
    pub fn is_dead(&self) -> bool {
        self.gate().state == RunState::Dead
    }

    fn set(&self, state: RunState) {
        let mut gate = self.gate();
        if gate.state != RunState::Dead {
            gate.state = state;
        }
        let wakers = std::mem::take(&mut gate.wakers);
        drop(gate);
        wakers.into_values().for_each(Waker::wake);
    }

    /// Returns the host as this process sees it.
    pub fn host(&self) -> Host {
        Host {
            clock: Arc::new(SimClock(self.clone())),
            random: Arc::new(SimRandom(self.clone())),
            identity: Arc::new(SimIdentity(self.clone())),
            tasks: Arc::new(SimTasks(self.clone())),
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.shared.gate)
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut lock(&self.shared.dice))
    }
}

/// Locks a mutex. Each change behind one is complete before anything can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A future behind the gate of its process.
pub struct Gated<F> {
    process: Process,
    number: u64,
    inner: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Gated<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let number = self.number;
        let state = {
            let mut gate = self.process.gate();
            gate.wakers.insert(number, cx.waker().clone());
            gate.state
        };
        let polled = match (state, &mut self.inner) {
            (RunState::Paused, _) => return Poll::Pending,
            (RunState::Running, Some(inner)) => inner.as_mut().poll(cx).map(Some),
            (RunState::Running | RunState::Dead, _) => Poll::Ready(None),
        };
        if polled.is_ready() {
            self.process.gate().wakers.remove(&number);
            self.inner = None;
        }
        polled
    }
}

struct SimClock(Process);

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        let offset = self.0.shared.machine.clock_offset.load(Ordering::Relaxed);
        true_time(self.0.shared.trace.now()) + TimeDelta::milliseconds(offset)
    }

    fn monotonic(&self) -> Duration {
        self.0.shared.trace.now() - self.0.shared.begun
    }

    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Returns the true time of day at a moment of the simulation.
pub fn true_time(since: Duration) -> DateTime<Utc> {
    let begun = DateTime::from_timestamp(EPOCH_SECONDS, 0).unwrap_or_default();
    begun + TimeDelta::from_std(since).unwrap_or_default()
}

struct SimRandom(Process);

impl Random for SimRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        self.0.draw(|dice| bytes.iter_mut().for_each(|byte| *byte = dice.number() as u8));
        Ok(())
    }
}

struct SimIdentity(Process);

impl Identity for SimIdentity {
    fn this_process(&self) -> ProcessIdentity {
        let ProcessShared { machine, pid, begun, .. } = &*self.0.shared;
        ProcessIdentity {
            host: machine.name.clone(),
            machine: format!("id of {}", machine.name),
            boot: format!("{} {}", machine.name, lock(&machine.boot)),
            pid: *pid,
            started: begun.as_millis() as u64,
        }
    }

    fn start_ticks(&self, pid: u32) -> Option<u64> {
        lock(&self.0.shared.machine.living).get(&pid).copied()
    }
}

struct SimTasks(Process);

struct StopTask(tokio::task::AbortHandle);

impl Stop for StopTask {
    fn stop(&self) {
        self.0.abort();
    }
}

impl Tasks for SimTasks {
    fn spawn(&self, work: BoxFuture<'static, ()>) -> Box<dyn Stop> {
        let gated = self.0.gated(work);
        let task = tokio::spawn(async move {
            gated.await;
        });
        Box::new(StopTask(task.abort_handle()))
    }

    #[allow(clippy::disallowed_methods, reason = "the simulated time of the runtime")]
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        let wait = self.0.draw(|dice| dice.millis(0, MAX_THREAD_WAIT));
        let gated = self.0.gated(async move {
            tokio::time::sleep(wait).await;
            work();
        });
        tokio::spawn(async move {
            gated.await;
        });
    }
}
