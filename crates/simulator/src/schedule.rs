//! Schedule: everything that happens to a shard, its archivers, store and disks, as data. A schedule
//! that breaks a rule is shrunk by leaving parts of it out.

use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::disk::DiskFault;
use crate::store::RequestFault;

/// Number of archivers of the shard, each on a separate machine.
pub const ARCHIVERS: u64 = 2;
/// Number of keepers, each on a separate machine.
pub const KEEPERS: u64 = 2;
/// Number of servers of the shard.
pub const SERVERS: u64 = 2;

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimSchedule {
    /// Seed of delays and random numbers.
    pub seed: u64,
    /// Use of semi-synchronous replication.
    pub acknowledge: Acknowledge,
    /// True if backups are taken and deleted, and the archive is pruned.
    pub keeps: bool,
    /// Simulated time of the steps, in milliseconds.
    pub length: u64,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Faults of single requests.
    pub requests: Vec<PlannedRequestFault>,
    /// Faults of single calls of disks.
    pub calls: Vec<PlannedDiskFault>,
}

/// Use of semi-synchronous replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acknowledge {
    /// Commits do not wait.
    Nothing,
    /// An acknowledged commit is in the store.
    Store,
    /// An acknowledged commit is in the spool.
    Spool,
}

/// Something that happens at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Time since the beginning, in milliseconds.
    pub at: u64,
    /// What happens.
    pub action: Action,
}

/// An event of a schedule. Durations are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Action {
    Commit { count: u64, size: usize },
    Rotate,
    Purge { keep: usize },
    Disconnect,
    Stall { server: u64, for_ms: u64 },
    Crash { for_ms: u64, lost: usize },
    SwitchOver,
    FailOver { lossy: bool, back_after: u64 },
    Reset { sets_purged: bool },
    KillArchiver { archiver: u64 },
    StopArchiver { archiver: u64 },
    PauseArchiver { archiver: u64, for_ms: u64 },
    CutPower { archiver: u64, for_ms: u64 },
    CutOff { archiver: u64, for_ms: u64 },
    StepClock { archiver: u64, by_ms: i64 },
    FillDisk { archiver: u64, for_ms: u64 },
    Unmount { archiver: u64, for_ms: u64 },
    StoreDown { for_ms: u64 },
    KillKeeper { keeper: u64 },
    PauseKeeper { keeper: u64, for_ms: u64 },
}

impl Action {
    /// Returns true for a fault: a schedule without it is simpler.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Commit { .. } | Self::Rotate)
    }
}

/// Fault of a client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRequestFault {
    /// The client: the archivers, then the keepers.
    pub client: u64,
    /// Number of its request.
    pub request: u64,
    /// The fault.
    pub fault: RequestFault,
}

/// Fault of a call of a machine's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDiskFault {
    /// The archiver on the machine.
    pub archiver: u64,
    /// Number of the write or sync.
    pub call: u64,
    /// The fault.
    pub fault: DiskFault,
}

impl SimSchedule {
    /// Draws a schedule.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::of(seed, "schedule", 0);
        let acknowledge = match dice.below(10) {
            0 => Acknowledge::Nothing,
            1..=6 => Acknowledge::Store,
            _ => Acknowledge::Spool,
        };
        let length = 15_000 + dice.below(40_000);
        let mut steps = draw_commits(&mut dice, length);
        let faults = dice.below(9);
        for _ in 0..faults {
            let at = dice.below(length);
            steps.push(Step { at, action: draw_fault(&mut dice) });
        }
        steps.sort_by_key(|step| step.at);
        let requests = draw_request_faults(&mut dice);
        let calls = if acknowledge == Acknowledge::Spool || dice.chance(30) {
            draw_calls(&mut dice)
        } else {
            Vec::new()
        };
        let keeps = dice.chance(50);
        Self { seed, acknowledge, keeps, length, steps, requests, calls }
    }
}

fn draw_commits(dice: &mut Dice, length: u64) -> Vec<Step> {
    let pace = dice.pick(&[40, 200, 700, 2_000]);
    let rotates = dice.pick(&[3, 8, 25]);
    let (mut at, mut steps) = (dice.below(500), Vec::new());
    while at < length {
        let action = match dice.below(100) {
            draw if draw < rotates => Action::Rotate,
            _ => Action::Commit { count: 1 + dice.below(4), size: dice.below(200) as usize },
        };
        steps.push(Step { at, action });
        at += 1 + dice.below(2 * pace);
        if dice.chance(2) {
            at += dice.below(8_000);
        }
    }
    steps
}

fn draw_fault(dice: &mut Dice) -> Action {
    let (archiver, server) = (dice.below(ARCHIVERS), dice.below(SERVERS));
    let for_ms = dice.pick(&[300, 2_000, 7_000, 18_000, 40_000]);
    let for_ms = 1 + dice.below(for_ms);
    match dice.below(30) {
        0..=3 => Action::KillArchiver { archiver },
        4..=6 => Action::PauseArchiver { archiver, for_ms },
        7 => Action::StopArchiver { archiver },
        8..=9 => Action::CutPower { archiver, for_ms },
        10..=11 => Action::CutOff { archiver, for_ms },
        12 => Action::StepClock { archiver, by_ms: dice.below(400_000) as i64 - 200_000 },
        13 => Action::FillDisk { archiver, for_ms },
        14 => Action::Unmount { archiver, for_ms },
        15..=16 => Action::StoreDown { for_ms },
        17 => Action::Disconnect,
        18 => Action::Stall { server, for_ms },
        19 => Action::Purge { keep: 1 + dice.below(3) as usize },
        20..=21 => Action::Crash { for_ms, lost: if dice.chance(50) { dice.below(5) as usize } else { 0 } },
        22 => Action::SwitchOver,
        23..=24 => Action::FailOver { lossy: dice.chance(60), back_after: for_ms },
        25..=27 => Action::KillKeeper { keeper: dice.below(KEEPERS) },
        28 => Action::PauseKeeper { keeper: dice.below(KEEPERS), for_ms },
        _ => Action::Reset { sets_purged: dice.chance(40) },
    }
}

fn draw_request_faults(dice: &mut Dice) -> Vec<PlannedRequestFault> {
    use RequestFault::{
        BrokenAnswer, FlippedBody, Late, LostAnswer, LostRequest, Refused, Repeated, ShortBody, Slow,
    };
    let kinds =
        [Refused, LostRequest, LostAnswer, BrokenAnswer, Repeated, Slow, Late, ShortBody, FlippedBody];
    let count = dice.pick(&[0, 0, 4, 12, 40]);
    let within = dice.pick(&[60, 300, 900]);
    let mut faults: Vec<_> = (0..count)
        .map(|_| PlannedRequestFault {
            client: dice.below(ARCHIVERS + KEEPERS),
            request: dice.below(within),
            fault: dice.pick(&kinds),
        })
        .collect();
    faults.sort_by_key(|fault| (fault.client, fault.request));
    faults.dedup_by_key(|fault| (fault.client, fault.request));
    faults
}

fn draw_calls(dice: &mut Dice) -> Vec<PlannedDiskFault> {
    let kinds =
        [DiskFault::ShortWrite, DiskFault::FailedWrite, DiskFault::FailedSync, DiskFault::DroppedSync];
    let count = dice.below(6);
    let draw = |_| PlannedDiskFault {
        archiver: dice.below(ARCHIVERS),
        call: dice.below(200),
        fault: dice.pick(&kinds),
    };
    let mut faults: Vec<_> = (0..count).map(draw).collect();
    faults.sort_by_key(|fault| (fault.archiver, fault.call));
    faults.dedup_by_key(|fault| (fault.archiver, fault.call));
    faults
}
