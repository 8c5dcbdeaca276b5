//! Claiming a shard, showing life while holding it, and telling a dead holder from a living one.

#![allow(
    clippy::disallowed_methods,
    reason = "claims and heartbeats measure silence by their own clock, below the port of the stories"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstop_model::fault::{Fault, Kind, Result};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

use crate::catalog::Holder;
use crate::keys;
use crate::log::{Claim, Entry, Event, Log, State};
use crate::object::{Expected, ObjectFault, ObjectKind};

/// A holder that shows no sign of life for this long, by its observer's clock, may be superseded.
pub(crate) const TTL: Duration = Duration::from_secs(15);
const BEAT: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(500);
const ATTEMPTS: usize = 10;

/// The sign of life of a holder: an object it overwrites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// Grows with each beat.
    pub(crate) beat: u64,
    /// The newest log entry the holder knows of: a log that ends before it has lost entries.
    pub(crate) log: u64,
}

/// Who held a shard before a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// No one: it was given back, or never claimed.
    Free,
    /// The claim of this number, whose process is gone.
    Dead(u64),
    /// The claim of this number, which showed no life: it may sleep.
    Silent,
}

/// Claims a shard. Waits up to [`TTL`] for a sign of life of another holder.
pub(crate) async fn claim(log: &Log, operation: &str) -> Result<Claim> {
    Ok(claim_after(log, operation).await?.0)
}

/// As [`claim`], and tells who held it before.
pub(crate) async fn claim_after(log: &Log, operation: &str) -> Result<(Claim, Before)> {
    let holder = here(operation);
    for _ in 0..ATTEMPTS {
        let newest = log.newest().await?;
        let number = newest.as_ref().map_or(0, |entry| entry.number);
        let current = newest.as_ref().and_then(|entry| entry.state.claim.clone());
        complete(log, number).await?;
        let before = match &current {
            Some(current) => supersede(log, current).await?,
            None => Before::Free,
        };
        let mut state = newest.map_or_else(|| empty(log), |entry| entry.state);
        let claim = Claim { number: number + 1, holder: holder.clone() };
        state.claim = Some(claim.clone());
        if log.append(number, Event::Claim, state).await?.is_some() {
            return Ok((claim, before));
        }
    }
    Err(Fault::new(Kind::Held, format!("claim shard {}: others keep claiming it", log.shard)))
}

/// The state of a shard that has nothing.
pub(crate) fn empty(log: &Log) -> State {
    State { shard: log.shard.clone(), claim: None, backups: Vec::new(), condemned: Vec::new(), adopted: None }
}

/// Refuses to build on a log whose end is missing: every holder leaves behind how long it was.
pub(crate) async fn complete(log: &Log, newest: u64) -> Result<()> {
    let Some(known) = known_length(log).await? else { return Ok(()) };
    // A living holder may have appended since the log was read: what a heartbeat tells is stored before it.
    if known <= newest || log.numbers().await?.last().is_some_and(|last| known <= *last) {
        return Ok(());
    }
    let missing = log.keys.log(known);
    Err(Fault::new(
        Kind::Damaged,
        format!("read {missing}: it is missing: the log of shard {} has lost its end", log.shard),
    )
    .hint(format!(
        "`backstop repair {}` shows what can be rebuilt, or bring the object back from a copy",
        log.shard
    )))
}

/// Ok if no living run holds a log whose end is lost: neither the holder that its newest readable entry names, nor one that only left a
/// heartbeat.
pub(crate) async fn free(log: &Log, newest: Option<&Entry>) -> Result<()> {
    let known = newest.and_then(|entry| entry.state.claim.as_ref());
    if let Some(current) = known {
        supersede(log, current).await?;
    }
    let beats = log.shelf.list(&log.keys.heartbeats()).await?;
    let Some(last) = beats.iter().filter_map(|(key, _)| keys::claim_of(&log.keys, key)).max() else {
        return Ok(());
    };
    let settled = newest.is_some_and(|entry| last <= entry.number);
    if !settled && watch(log, last).await? {
        let message =
            format!("shard {} is held by a run whose claim was lost with the end of its log", log.shard);
        return Err(Fault::new(Kind::Held, message).hint("wait for it to end, or stop it"));
    }
    Ok(())
}

/// How long the log was, as the last holder that left a heartbeat knew it.
pub(crate) async fn known_length(log: &Log) -> Result<Option<u64>> {
    let beats = log.shelf.list(&log.keys.heartbeats()).await?;
    let own = |(key, _): &&(String, u64)| keys::claim_of(&log.keys, key).is_some();
    let Some((key, _)) = beats.iter().rfind(own) else { return Ok(None) };
    match read(log, key).await {
        Ok(beat) => Ok(Some(beat.log)),
        Err(ObjectFault::Store(fault)) => Err(fault),
        // Only a hint: a damaged one says nothing.
        Err(_) => Ok(None),
    }
}

/// Ok if the holder is dead, or silent.
async fn supersede(log: &Log, current: &Claim) -> Result<Before> {
    match judge(&current.holder, &here("")) {
        Verdict::Dead => return Ok(Before::Dead(current.number)),
        Verdict::Unknown => {}
    }
    if watch(log, current.number).await? {
        return Err(Fault::new(Kind::Held, format!("shard {} is held by {}", log.shard, current.holder))
            .hint("wait for it to end, or stop it"));
    }
    Ok(Before::Silent)
}

/// What can be said of a holder without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Dead,
    Unknown,
}

/// A holder of this machine is dead if the machine was booted since, or its process is gone. Its number may
/// have been given to another process, which then was started at another time.
fn judge(holder: &Holder, observer: &Holder) -> Verdict {
    let same_machine =
        !holder.machine.is_empty() && holder.machine == observer.machine && holder.host == observer.host;
    let same_boot = !holder.boot.is_empty() && holder.boot == observer.boot;
    let dead = match (same_boot, same_machine) {
        (true, _) => started(holder.pid) != Some(holder.started) && same_pid_space(holder),
        (false, true) => !holder.boot.is_empty() && !observer.boot.is_empty(),
        (false, false) => false,
    };
    if dead { Verdict::Dead } else { Verdict::Unknown }
}

/// Containers of one machine share its boot id but not their process numbers; they have other host names.
fn same_pid_space(holder: &Holder) -> bool {
    holder.host == host()
}

/// True as soon as the heartbeat changes; false if it does not for [`TTL`].
async fn watch(log: &Log, claim: u64) -> Result<bool> {
    let key = log.keys.heartbeat(claim);
    let first = beat_of(log, &key).await?;
    let until = Instant::now() + TTL;
    while Instant::now() < until {
        sleep(LOOK).await;
        if beat_of(log, &key).await? != first {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn beat_of(log: &Log, key: &str) -> Result<Option<u64>> {
    match read(log, key).await {
        Ok(beat) => Ok(Some(beat.beat)),
        Err(ObjectFault::Store(fault)) => Err(fault),
        Err(_) => Ok(None),
    }
}

async fn read(log: &Log, key: &str) -> Result<Heartbeat, ObjectFault> {
    log.shelf.get(Expected { kind: ObjectKind::Heartbeat, key, reference: None }).await
}

/// Shows life in the background until it is dropped.
pub(crate) struct Life {
    pulse: Arc<Pulse>,
    task: JoinHandle<()>,
}

struct Pulse {
    log: Log,
    claim: u64,
    beat: AtomicU64,
    known: AtomicU64,
    begun: Instant,
    /// Milliseconds after `begun` when the last beat that arrived was sent.
    arrived: AtomicU64,
}

impl Life {
    /// Begins to show life. The first beat has arrived when this returns.
    pub(crate) async fn begin(log: &Log, claim: u64) -> Result<Self> {
        let pulse = Arc::new(Pulse {
            log: log.clone(),
            claim,
            beat: AtomicU64::new(0),
            known: AtomicU64::new(claim),
            begun: Instant::now(),
            arrived: AtomicU64::new(0),
        });
        pulse.beat().await?;
        let task = tokio::spawn(keep_beating(pulse.clone()));
        Ok(Self { pulse, task })
    }

    /// Another may rightly take this run for dead once no beat has arrived for [`TTL`].
    pub(crate) fn shown(&self) -> Result<()> {
        let silent =
            self.pulse.begun.elapsed() - Duration::from_millis(self.pulse.arrived.load(Ordering::Relaxed));
        if silent <= TTL {
            return Ok(());
        }
        let message = format!(
            "hold shard {}: no sign of life reached the store for {silent:.0?}",
            self.pulse.log.shard
        );
        Err(Fault::new(Kind::Held, message)
            .hint("check that the repository's store can be reached, then repeat"))
    }

    /// Shows life, and gives the time at which that arrived, by the store's clock.
    pub(crate) async fn arrival(&self) -> Result<chrono::DateTime<Utc>> {
        self.pulse.beat().await?;
        self.pulse.log.shelf.stored_at(&self.pulse.log.keys.heartbeat(self.pulse.claim)).await
    }

    /// Tells how long the log is, for whoever comes next.
    pub(crate) async fn known(&self, log: u64) -> Result<()> {
        self.pulse.known.store(log, Ordering::Relaxed);
        self.pulse.beat().await
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pulse {
    async fn beat(&self) -> Result<()> {
        let sent = self.begun.elapsed().as_millis() as u64;
        let beat = Heartbeat {
            beat: self.beat.fetch_add(1, Ordering::Relaxed) + 1,
            log: self.known.load(Ordering::Relaxed),
        };
        let key = self.log.keys.heartbeat(self.claim);
        self.log.shelf.put(ObjectKind::Heartbeat, &key, &beat).await?;
        self.arrived.fetch_max(sent, Ordering::Relaxed);
        Ok(())
    }
}

async fn keep_beating(pulse: Arc<Pulse>) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    beats.tick().await;
    loop {
        beats.tick().await;
        if let Err(fault) = pulse.beat().await {
            tracing::warn!("show life: {fault}");
        }
    }
}

/// This process as a holder.
pub(crate) fn here(operation: &str) -> Holder {
    let pid = std::process::id();
    Holder {
        host: host(),
        machine: line("/etc/machine-id"),
        boot: line("/proc/sys/kernel/random/boot_id"),
        pid,
        started: started(pid).unwrap_or(0),
        operation: operation.to_owned(),
        since: Utc::now(),
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn line(file: &str) -> String {
    std::fs::read_to_string(file).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// When a process was started, in clock ticks since boot; `None` if there is no such process.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold anything; what follows the last one is numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_is_dead() {
        let me = here("backup");
        assert_eq!(judge(&me, &me), Verdict::Unknown);
        let recycled = Holder { started: me.started + 1, ..me.clone() };
        assert_eq!(judge(&recycled, &me), Verdict::Dead);
        let gone = Holder { pid: u32::MAX, ..me.clone() };
        assert_eq!(judge(&gone, &me), Verdict::Dead);
        let before_reboot = Holder { boot: "other".into(), machine: "m".into(), ..me.clone() };
        let observer = Holder { machine: "m".into(), ..me.clone() };
        assert_eq!(judge(&before_reboot, &observer), Verdict::Dead);
        let elsewhere = Holder { boot: "other".into(), machine: "n".into(), pid: u32::MAX, ..me.clone() };
        assert_eq!(judge(&elsewhere, &observer), Verdict::Unknown);
        let container = Holder { host: "c1".into(), pid: u32::MAX, ..me.clone() };
        assert_eq!(judge(&container, &me), Verdict::Unknown);
    }
}
