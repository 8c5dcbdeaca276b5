//! Archive: streams the binlog of a shard and keeps it, until it is stopped.
//!
//! A loop: look at the shard and at the archive, decide from whom and from where to stream
//! ([`backstop_model::archiving`]), stream until that ends, look again. Beside it what was streamed is archived and, if that is
//! wanted, acknowledged.

mod acknowledge;
mod admit;
mod again;
mod disk;
#[cfg(test)]
mod frozen;
mod health;
mod journal;
mod keep;
mod notes;
mod queue;
mod resume;
mod reused;
mod rounds;
#[cfg(test)]
mod sample;
mod source;
mod spool;
mod standing;
mod stream;
mod sync;
mod trouble;
mod upload;
mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_binlog::{Cutter, Segment};
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{ServerUuid, ShardName};
use backstop_model::report::ArchiveReport;
use backstop_model::settings::{ArchiveAck, ArchiveSettings};
use backstop_repo::ArchiveWriter;

pub use admit::admit;
pub use health::{ArchiveHealth, Archived, archive_health, check_archive};
pub use source::Identity;

use acknowledge::Acknowledging;
use disk::HostDisk;
use notes::Notes;
use queue::Queue;
use spool::Spool;
use standing::Standing;
use sync::Syncer;
use trouble::Trouble;
use upload::{Replacer, Uploader};

use crate::access::Access;
use crate::ports::Topology;
use crate::world::World;

const FIRST_RETRY: Duration = Duration::from_millis(200);
/// When it is stopped, what was streamed is archived within this time, or stays in the spool.
const LAST_WORDS: Duration = Duration::from_secs(60);
const LATER: &str = "start the archiver again when the store answers: it asks the source for what is missing";

/// What archiving a shard is made of.
pub struct Archiving<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// How it is archived.
    pub settings: &'a ArchiveSettings,
    /// Its members.
    pub topology: &'a dyn Topology,
    /// How to log in to them.
    pub access: &'a Access,
    /// Its archive.
    pub store: Arc<ArchiveWriter>,
    /// Whether what is stored is encrypted.
    pub encryption: Encryption,
    /// Names what is archived where: the source takes archivers with the same name for one.
    pub name: &'a str,
    /// Folder for what is not archived yet. No one else's: whoever calls holds it ([`crate::host`]).
    pub spool: PathBuf,
    /// Where older versions had it; it may be another repository's.
    pub old_spool: Option<PathBuf>,
    /// When it ends.
    pub until: Until,
    /// Time, reporter, stop.
    pub world: &'a World,
}

/// Whether what is stored is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Everything is.
    On,
    /// Nothing is.
    Off,
}

/// When archiving ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// When it is stopped.
    Stopped,
    /// When all that the source has now is archived.
    CaughtUp,
}

/// What goes on beside the loop.
struct Beside {
    queue: Arc<Queue>,
    acknowledging: Arc<Acknowledging>,
    trouble: Arc<Trouble>,
    standing: Standing,
}

/// Where the loop is.
struct State {
    cutter: Option<(Cutter, ServerUuid)>,
    spool: Spool,
    /// Everything of the line, streamed or archived; `None`: nothing yet.
    held: Option<GtidSet>,
    /// The last piece of each server that was archived or sealed, but for the one that is streamed.
    last: Vec<Segment>,
    /// Numbers of pieces that the archive lost and that no source has any more.
    gone: BTreeSet<u64>,
    report: ArchiveReport,
    retry: Duration,
    /// Rounds that failed, one after the other.
    failures: u32,
    /// Rounds that ended without a transaction more, one after the other.
    fruitless: u32,
}

/// Archives until it is stopped, or until all is archived, what [`admit`] let through. What it has streamed is archived when it returns `Ok`.
///
/// # Errors
/// [`Kind::Refused`] for a server that cannot be archived from: without GTIDs or binlog, encrypted into a repository that is not,
/// or of another shard, naming the difference; [`Kind::Held`] when another archiver has taken the shard over;
/// [`Kind::Damaged`] when the archive's newest entries are; [`Kind::Interrupted`] when it was stopped and the store
/// did not take what was left. A store or source that does not answer is waited for, and told.
pub async fn archive(a: &Archiving<'_>) -> Result<ArchiveReport> {
    let clock = Arc::clone(&a.world.clock);
    let beside = Beside {
        queue: Arc::new(Queue::default()),
        acknowledging: Arc::new(Acknowledging::default()),
        trouble: Arc::new(Trouble::new(clock, Arc::clone(&a.world.reporter))),
        standing: Standing::default(),
    };
    let left = resume::left_behind(&a.store, &a.spool, a.old_spool.as_deref(), &*a.world.reporter);
    a.world.unless_stopped(a.world.step("resume", left)).await?;
    let (held, last) = a.store.held().await;
    let mut state = State {
        cutter: None,
        spool: Spool::new(&a.spool, Arc::clone(&beside.queue), Arc::new(HostDisk))?,
        held: everything(held, &last),
        last,
        gone: BTreeSet::new(),
        report: ArchiveReport::new(a.shard.clone()),
        retry: FIRST_RETRY,
        failures: 0,
        fruitless: 0,
    };
    let (uploader, syncer, replacer) = workers(a, &beside);
    let upload = tokio::spawn(async move { uploader.run().await });
    let sync = tokio::spawn(async move { syncer.run().await });
    let replace = tokio::spawn(replacer.run());
    let abort = Abort(vec![upload.abort_handle(), sync.abort_handle(), replace.abort_handle()]);
    let begun = a.world.clock.monotonic();
    let mut upload = upload;
    let outcome = tokio::select! {
        ended = &mut upload => Err(gone(ended)),
        outcome = a.world.unless_stopped(rounds::rounds(a, &beside, &mut state)) => outcome,
        fault = watch::pulse(a, &beside) => Err(fault),
        fault = keep::kept(a, &beside) => Err(fault),
    };
    let outcome = match outcome {
        Err(fault) if fault.kind == Kind::Interrupted => Ok(()),
        outcome => outcome,
    };
    if outcome.as_ref().is_err_and(|fault| fault.kind == Kind::Held) {
        return Err(outcome.err().unwrap_or_else(|| Fault::failed("archive")));
    }
    let ended = tokio::select! {
        ended = &mut upload => Err(gone(ended)),
        ended = last_words(a, &beside, &mut state) => ended,
    };
    drop(abort);
    outcome.and(ended)?;
    let passed = beside.queue.passed();
    state.report.transactions = passed.archived;
    state.report.archived = beside.queue.archived().gtids;
    state.report.seconds = (a.world.clock.monotonic() - begun).as_secs_f64();
    Ok(state.report)
}

fn workers(a: &Archiving<'_>, beside: &Beside) -> (Uploader, Syncer, Replacer) {
    let (replacer, segments) = tokio::sync::mpsc::unbounded_channel();
    let ack = a.settings.semi_sync.then_some(a.settings.ack);
    if ack == Some(ArchiveAck::Store) {
        beside.queue.hurry();
    }
    if ack == Some(ArchiveAck::Spool) {
        beside.queue.watch_syncs();
    }
    let uploader = Uploader {
        store: Arc::clone(&a.store),
        queue: Arc::clone(&beside.queue),
        acknowledging: Arc::clone(&beside.acknowledging),
        replacer,
        ack,
        trouble: Arc::clone(&beside.trouble),
        world: a.world.clone(),
    };
    let syncer = Syncer {
        queue: Arc::clone(&beside.queue),
        acknowledging: Arc::clone(&beside.acknowledging),
        trouble: Arc::clone(&beside.trouble),
        notes: Arc::new(Mutex::new(Notes::new(Arc::new(HostDisk)))),
        world: a.world.clone(),
    };
    let replacer = Replacer {
        store: Arc::clone(&a.store),
        queue: Arc::clone(&beside.queue),
        trouble: Arc::clone(&beside.trouble),
        segments,
        world: a.world.clone(),
    };
    (uploader, syncer, replacer)
}

/// Ends tasks when it is dropped.
struct Abort(Vec<tokio::task::AbortHandle>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

fn gone(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Fault {
    match ended {
        Ok(Err(fault)) => fault,
        Ok(Ok(())) => Fault::failed("archive: what stores has ended"),
        Err(error) => Fault::failed(format!("archive: what stores has ended: {error}")),
    }
}

/// All that need not be asked for again: what is archived, and what was missing when it was.
fn everything(held: Option<GtidSet>, last: &[Segment]) -> Option<GtidSet> {
    Some(last.iter().fold(held?, |all, segment| all.union(&segment.held_after())))
}

/// Archives what was streamed, within bounds.
async fn last_words(a: &Archiving<'_>, beside: &Beside, state: &mut State) -> Result<()> {
    a.world.reporter.step("seal");
    finish_file(state).await?;
    beside.queue.hurry();
    tokio::select! {
        ended = drained(a, beside) => ended.map_err(|fault| Fault::new(Kind::Interrupted, fault.message).hint(LATER))?,
        () = a.world.clock.sleep(LAST_WORDS) => {
            let why = beside.trouble.all().unwrap_or_else(|| "the store is slow".to_owned());
            return Err(Fault::new(Kind::Interrupted, format!("archive what was streamed before the end: {why}"))
                .hint(LATER));
        }
    }
    watch::farewell(a, beside).await
}

async fn finish_file(state: &mut State) -> Result<()> {
    if let Some((mut cutter, source)) = state.cutter.take() {
        if let Err(fault) = cutter.cut(&mut state.spool).await {
            // What it holds is not written yet: it continues with it.
            state.cutter = Some((cutter, source));
            return Err(fault);
        }
        for segment in state.spool.sealed() {
            state.last.retain(|last| last.source != segment.source);
            state.last.push(segment.clone());
        }
        state.held = Some(state.held.take().unwrap_or_default().union(cutter.held()));
    }
    Ok(())
}

/// Waits until all that was streamed is archived.
///
/// # Errors
/// When what is spooled was given up.
async fn drained(a: &Archiving<'_>, beside: &Beside) -> Result<()> {
    while !beside.queue.is_drained() {
        if let Some(fault) = beside.queue.given_up() {
            return Err(fault);
        }
        let changed = beside.queue.changed.notified();
        tokio::select! {
            () = changed => {}
            () = a.world.clock.sleep(FIRST_RETRY) => {}
        }
    }
    Ok(())
}
