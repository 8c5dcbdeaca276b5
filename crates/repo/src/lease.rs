//! Lease of a shard: acquisition, heartbeat, detection of dead holders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstop_host::{AbortOnDrop, Host, Identity, ProcessIdentity};
use backstop_types::error::{Error, ErrorKind, Result};
use chrono::Utc;
use serde::{Deserialize, Serialize};

use crate::catalog::Holder;
use crate::keys;
use crate::object::{ExpectedObject, ObjectError, ObjectKind};
use crate::shard_log::{Lease, LogEntry, LogEvent, ShardLog, ShardState};

/// Time without a heartbeat, by the observer's clock, after which another run may take over the
/// lease.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(15);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
const HEARTBEAT_POLL_INTERVAL: Duration = Duration::from_millis(500);
const MAX_ACQUIRE_ATTEMPTS: usize = 10;

/// Heartbeat of a holder: an object that the holder overwrites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// Incremented with each heartbeat.
    pub(crate) beat: u64,
    /// Newest log entry that the holder knows of: a log that ends before it has lost entries.
    pub(crate) log: u64,
}

/// Holder of a shard before a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PreviousHolder {
    /// None: the shard was released, or never leased.
    Free,
    /// Holder of the lease of this number, whose process is gone.
    Dead(u64),
    /// A holder without a heartbeat, which may be asleep.
    Silent,
}

/// Acquires the lease of a shard. Waits up to [`LEASE_TTL`] for a heartbeat of another holder.
pub(crate) async fn acquire(log: &ShardLog, operation: &str) -> Result<Lease> {
    Ok(acquire_after(log, operation).await?.0)
}

/// Acquires the lease as [`acquire`] does, and returns the previous holder as well.
pub(crate) async fn acquire_after(log: &ShardLog, operation: &str) -> Result<(Lease, PreviousHolder)> {
    let holder = this_process(&log.store.host, operation);
    for _ in 0..MAX_ACQUIRE_ATTEMPTS {
        let newest = log.newest().await?;
        let number = newest.as_ref().map_or(0, |entry| entry.number);
        let current = newest.as_ref().and_then(|entry| entry.state.lease.clone());
        require_complete_log(log, number).await?;
        let before = match &current {
            Some(current) => supersede(log, current).await?,
            None => PreviousHolder::Free,
        };
        let mut state = newest.map_or_else(|| empty_state(log), |entry| entry.state);
        let lease = Lease { number: number + 1, holder: holder.clone() };
        state.lease = Some(lease.clone());
        if log.append(number, LogEvent::Lease, state).await?.is_some() {
            return Ok((lease, before));
        }
    }
    Err(Error::new(ErrorKind::Held, format!("cannot claim shard {}: other runs keep claiming it", log.shard)))
}

/// Returns the state of a shard that has nothing.
pub(crate) fn empty_state(log: &ShardLog) -> ShardState {
    ShardState {
        shard: log.shard.clone(),
        lease: None,
        backups: Vec::new(),
        condemned: Vec::new(),
        adopted: None,
    }
}

/// Refuses to append to a log whose end is missing: every holder records the length of the log in
/// its heartbeat.
pub(crate) async fn require_complete_log(log: &ShardLog, newest: u64) -> Result<()> {
    let Some(known) = known_log_length(log).await? else { return Ok(()) };
    // A living holder may have appended since the log was read: entries that a heartbeat counts are
    // stored before it.
    if known <= newest || log.numbers().await?.last().is_some_and(|last| known <= *last) {
        return Ok(());
    }
    let missing = log.keys.log(known);
    Err(Error::new(
        ErrorKind::Damaged,
        format!("cannot read {missing}: it is missing: the log of shard {} has lost its end", log.shard),
    )
    .hint(format!(
        "run `backstop repair {}` to see what can be rebuilt, or restore the object from a copy",
        log.shard
    )))
}

/// Checks that no living run holds a log whose end is lost: neither the holder that its newest
/// readable entry names, nor one that only left a heartbeat.
pub(crate) async fn require_free(log: &ShardLog, newest: Option<&LogEntry>) -> Result<()> {
    let known = newest.and_then(|entry| entry.state.lease.as_ref());
    if let Some(current) = known {
        supersede(log, current).await?;
    }
    let beats = log.store.list(&log.keys.heartbeats()).await?;
    let Some(last) = beats.iter().filter_map(|(key, _)| keys::lease_of(&log.keys, key)).max() else {
        return Ok(());
    };
    let settled = newest.is_some_and(|entry| last <= entry.number);
    if !settled && watch_heartbeat(log, last).await? {
        let message =
            format!("shard {} is held by a run whose claim was lost with the end of its log", log.shard);
        return Err(Error::new(ErrorKind::Held, message).hint("wait for it to end, or stop it"));
    }
    Ok(())
}

/// Returns the length of the log according to the last holder that left a heartbeat.
pub(crate) async fn known_log_length(log: &ShardLog) -> Result<Option<u64>> {
    let beats = log.store.list(&log.keys.heartbeats()).await?;
    let own = |(key, _): &&(String, u64)| keys::lease_of(&log.keys, key).is_some();
    let Some((key, _)) = beats.iter().rfind(own) else { return Ok(None) };
    match read_heartbeat(log, key).await {
        Ok(beat) => Ok(Some(beat.log)),
        Err(ObjectError::Store(error)) => Err(error),
        // The heartbeat is only a hint: a damaged one is ignored.
        Err(_) => Ok(None),
    }
}

/// Checks that the holder is dead or silent.
async fn supersede(log: &ShardLog, current: &Lease) -> Result<PreviousHolder> {
    match judge_holder(&current.holder, &*log.store.host.identity) {
        HolderState::Dead => return Ok(PreviousHolder::Dead(current.number)),
        HolderState::Unknown => {}
    }
    if watch_heartbeat(log, current.number).await? {
        return Err(Error::new(
            ErrorKind::Held,
            format!("shard {} is held by {}", log.shard, current.holder),
        )
        .hint("wait for it to end, or stop it"));
    }
    Ok(PreviousHolder::Silent)
}

/// State of a holder as known without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HolderState {
    Dead,
    Unknown,
}

/// Determines the state of a holder. A holder on this machine is dead if the machine was rebooted
/// since, or if its process is gone. Another process may have got its process id since; its start
/// time then differs.
fn judge_holder(holder: &Holder, identity: &dyn Identity) -> HolderState {
    let observer = identity.this_process();
    let same_machine =
        !holder.machine.is_empty() && holder.machine == observer.machine && holder.host == observer.host;
    let same_boot = !holder.boot.is_empty() && holder.boot == observer.boot;
    // Containers on one machine share its boot id but not their process ids; they have other host
    // names.
    let same_pid_space = holder.host == observer.host;
    let dead = match (same_boot, same_machine) {
        (true, _) => same_pid_space && identity.start_ticks(holder.pid) != Some(holder.started),
        (false, true) => !holder.boot.is_empty() && !observer.boot.is_empty(),
        (false, false) => false,
    };
    if dead { HolderState::Dead } else { HolderState::Unknown }
}

/// Returns true as soon as the heartbeat changes; false if it does not change for [`LEASE_TTL`].
async fn watch_heartbeat(log: &ShardLog, lease: u64) -> Result<bool> {
    let key = log.keys.heartbeat(lease);
    let first = heartbeat_count(log, &key).await?;
    let clock = &log.store.host.clock;
    let until = clock.monotonic() + LEASE_TTL;
    while clock.monotonic() < until {
        clock.sleep(HEARTBEAT_POLL_INTERVAL).await;
        if heartbeat_count(log, &key).await? != first {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn heartbeat_count(log: &ShardLog, key: &str) -> Result<Option<u64>> {
    match read_heartbeat(log, key).await {
        Ok(beat) => Ok(Some(beat.beat)),
        Err(ObjectError::Store(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

async fn read_heartbeat(log: &ShardLog, key: &str) -> Result<Heartbeat, ObjectError> {
    log.store.get(ExpectedObject { kind: ObjectKind::Heartbeat, key, reference: None }).await
}

/// Writes heartbeats in the background until it is dropped.
pub(crate) struct HeartbeatTask {
    state: Arc<HeartbeatState>,
    _task: AbortOnDrop<()>,
}

struct HeartbeatState {
    log: ShardLog,
    lease: u64,
    beat: AtomicU64,
    known: AtomicU64,
    /// Time of the beginning, by the monotonic clock.
    begun: Duration,
    /// Milliseconds from `begun` to the sending of the last heartbeat that arrived.
    arrived: AtomicU64,
}

impl HeartbeatTask {
    /// Starts to write heartbeats. Returns after the first one has arrived.
    pub(crate) async fn begin(log: &ShardLog, lease: u64) -> Result<Self> {
        let state = Arc::new(HeartbeatState {
            log: log.clone(),
            lease,
            beat: AtomicU64::new(0),
            known: AtomicU64::new(lease),
            begun: log.store.host.clock.monotonic(),
            arrived: AtomicU64::new(0),
        });
        state.beat().await?;
        let task = log.store.host.spawn(heartbeat_loop(state.clone())).abort_on_drop();
        Ok(Self { state, _task: task })
    }

    /// Fails if no heartbeat has arrived for [`LEASE_TTL`]: another run may then take this one for
    /// dead.
    pub(crate) fn shown(&self) -> Result<()> {
        let silent = self.state.age() - Duration::from_millis(self.state.arrived.load(Ordering::Relaxed));
        if silent <= LEASE_TTL {
            return Ok(());
        }
        let message = format!(
            "cannot hold shard {}: no heartbeat reached the store for {silent:.0?}",
            self.state.log.shard
        );
        Err(Error::new(ErrorKind::Held, message)
            .hint("check that the repository's store can be reached, then repeat"))
    }

    /// Writes a heartbeat, and returns the time of its arrival by the store's clock.
    pub(crate) async fn arrival(&self) -> Result<chrono::DateTime<Utc>> {
        self.state.beat().await?;
        self.state.log.store.stored_at(&self.state.log.keys.heartbeat(self.state.lease)).await
    }

    /// Records the length of the log for the next holder.
    pub(crate) async fn known(&self, log: u64) -> Result<()> {
        self.state.known.store(log, Ordering::Relaxed);
        self.state.beat().await
    }
}

impl HeartbeatState {
    /// Returns the time since the beginning.
    fn age(&self) -> Duration {
        self.log.store.host.clock.monotonic() - self.begun
    }

    async fn beat(&self) -> Result<()> {
        let sent = self.age().as_millis() as u64;
        let beat = Heartbeat {
            beat: self.beat.fetch_add(1, Ordering::Relaxed) + 1,
            log: self.known.load(Ordering::Relaxed),
        };
        let key = self.log.keys.heartbeat(self.lease);
        self.log.store.put(ObjectKind::Heartbeat, &key, &beat).await?;
        self.arrived.fetch_max(sent, Ordering::Relaxed);
        Ok(())
    }
}

async fn heartbeat_loop(state: Arc<HeartbeatState>) {
    let clock = &state.log.store.host.clock;
    let mut begun = clock.monotonic();
    loop {
        // From the beginning of one to that of the next, if it arrives that soon.
        clock.sleep((begun + HEARTBEAT_INTERVAL).saturating_sub(clock.monotonic())).await;
        begun = clock.monotonic();
        if let Err(error) = state.beat().await {
            tracing::warn!("cannot write the heartbeat: {error}");
        }
    }
}

/// Describes this process as a holder.
fn this_process(host: &Host, operation: &str) -> Holder {
    let ProcessIdentity { host: name, machine, boot, pid, started } = host.identity.this_process();
    let since = host.clock.now();
    Holder { host: name, machine, boot, pid, started, operation: operation.to_owned(), since }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use backstop_host::SystemIdentity;

    use super::*;

    /// The processes of this machine, observed by another process.
    struct Observed(ProcessIdentity);

    impl Identity for Observed {
        fn this_process(&self) -> ProcessIdentity {
            self.0.clone()
        }

        fn start_ticks(&self, pid: u32) -> Option<u64> {
            SystemIdentity.start_ticks(pid)
        }
    }

    #[test]
    fn holder_is_dead_only_if_its_process_has_ended() {
        let me = this_process(&Host::system(), "backup");
        assert_eq!(judge_holder(&me, &SystemIdentity), HolderState::Unknown);
        let recycled = Holder { started: me.started + 1, ..me.clone() };
        assert_eq!(judge_holder(&recycled, &SystemIdentity), HolderState::Dead);
        let gone = Holder { pid: u32::MAX, ..me.clone() };
        assert_eq!(judge_holder(&gone, &SystemIdentity), HolderState::Dead);
        let before_reboot = Holder { boot: "other".into(), machine: "m".into(), ..me.clone() };
        let observer = Observed(ProcessIdentity { machine: "m".into(), ..SystemIdentity.this_process() });
        assert_eq!(judge_holder(&before_reboot, &observer), HolderState::Dead);
        let elsewhere = Holder { boot: "other".into(), machine: "n".into(), pid: u32::MAX, ..me.clone() };
        assert_eq!(judge_holder(&elsewhere, &observer), HolderState::Unknown);
        let container = Holder { host: "c1".into(), pid: u32::MAX, ..me.clone() };
        assert_eq!(judge_holder(&container, &SystemIdentity), HolderState::Unknown);
    }
}
