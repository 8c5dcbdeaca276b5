//! Archive: streams the binlog of a shard and keeps it, until it is stopped.
//!
//! A loop: look at the shard and at the archive, decide from whom and from where to stream
//! ([`backstop_model::archiving`]), stream until that ends, look again. Beside it what was streamed is archived and, if that is
//! wanted, acknowledged.

mod acknowledge;
mod health;
mod journal;
mod queue;
mod source;
mod spool;
mod stream;
mod sync;
mod trouble;
mod upload;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstop_binlog::{Acknowledge, AtEnd, Cutter, Segment};
use backstop_model::archiving::{Decision, GoOn, Line, StreamFrom, go_on, stream_from};
use backstop_model::credentials::Credentials;
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::ShardName;
use backstop_model::report::{ArchiveReport, ArchivedFork, ArchivedGap};
use backstop_model::settings::{ArchiveAck, ArchiveSettings};
use backstop_model::topology::{Member, current_primary};
use backstop_repo::ArchiveWriter;

pub use health::{ArchiveHealth, Archived, archive_health, check_archive};
pub use source::Identity;

use acknowledge::Acknowledging;
use queue::Queue;
use source::Source;
use spool::Spool;
use stream::{Durable, Ended, Reader};
use sync::Syncer;
use trouble::Trouble;
use upload::{Replacer, Uploader};

use crate::ports::Topology;
use crate::world::World;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
const REMIND: Duration = Duration::from_secs(60);
/// A server that lacks archived transactions is looked at again after this, unless it may use their numbers again.
const SURE: Duration = Duration::from_secs(2);
/// When it is stopped, what was streamed is archived within this time, or stays in the spool.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// What archiving a shard is made of.
pub struct Archiving<'a> {
    /// Which shard.
    pub shard: &'a ShardName,
    /// How it is archived.
    pub settings: &'a ArchiveSettings,
    /// Its members.
    pub topology: &'a dyn Topology,
    /// How to log in to them.
    pub credentials: &'a Credentials,
    /// Its archive.
    pub store: Arc<ArchiveWriter>,
    /// Whether what is stored is encrypted.
    pub encryption: Encryption,
    /// Names what is archived where: the source takes archivers with the same name for one.
    pub name: &'a str,
    /// Folder for what is not archived yet. Nobody else's.
    pub spool: PathBuf,
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
}

/// Where the loop is.
struct State {
    cutter: Option<(Cutter, backstop_model::ids::ServerUuid)>,
    spool: Spool,
    /// Everything of the line, streamed or archived; `None`: nothing yet.
    held: Option<GtidSet>,
    /// The last piece of each server that was archived or sealed, but for the one that is streamed.
    last: Vec<Segment>,
    report: ArchiveReport,
    retry: Duration,
}

/// Archives until it is stopped, or until all is archived. What it has streamed is archived when it returns `Ok`.
///
/// # Errors
/// [`Kind::Refused`] for a server that cannot be archived from: without GTIDs or binlog, encrypted into a repository that is not,
/// or of another shard, naming the difference; [`Kind::Held`] when another archiver has taken the shard over;
/// [`Kind::Damaged`] when the archive's newest entries are; [`Kind::Interrupted`] when it was stopped and the store
/// did not take what was left. A store or source that does not answer is waited for, and told.
pub async fn archive(a: &Archiving<'_>) -> Result<ArchiveReport> {
    refuse_spool_beside_the_source(a).await?;
    let clock = Arc::clone(&a.world.clock);
    let beside = Beside {
        queue: Arc::new(Queue::default()),
        acknowledging: Arc::new(Acknowledging::default()),
        trouble: Arc::new(Trouble::new(clock, Arc::clone(&a.world.reporter))),
    };
    a.world.step("resume", left_behind(a)).await?;
    let (held, last) = a.store.held().await;
    let mut state = State {
        cutter: None,
        spool: Spool::new(&a.spool, Arc::clone(&beside.queue))?,
        held: everything(held, &last),
        last,
        report: ArchiveReport::new(a.shard.clone()),
        retry: FIRST_RETRY,
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
        outcome = a.world.unless_stopped(rounds(a, &beside, &mut state)) => outcome,
        fault = watch::pulse(a, &beside) => Err(fault),
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

/// Archives what a killed archiver had acknowledged from its spool, and makes segments of the tail it left.
async fn left_behind(a: &Archiving<'_>) -> Result<()> {
    let (held, last) = a.store.held().await;
    for left in journal::left(&a.spool)? {
        let piece = &left.segment;
        let behind = |last: &Segment| (last.file.as_str(), last.end) <= (piece.file.as_str(), piece.start);
        let missing = !held.as_ref().is_some_and(|held| piece.gtids.is_subset_of(held));
        if missing && last.iter().find(|last| last.source == piece.source).is_none_or(behind) {
            a.store.put_tail(piece, &left.bytes()?).await?;
        } else if missing {
            return Err(Fault::failed(format!(
                "archive what is in the spool {}: transactions {} were acknowledged and do not fit the archive",
                a.spool.display(),
                piece.gtids
            ))
            .hint("move the spool away to go on without them; it can be read with mysqlbinlog"));
        }
    }
    a.store.seal_tail().await?;
    journal::clear(&a.spool)
}

/// All that need not be asked for again: what is archived, and what was missing when it was.
fn everything(held: Option<GtidSet>, last: &[Segment]) -> Option<GtidSet> {
    Some(last.iter().fold(held?, |all, segment| all.union(&segment.held_after())))
}

/// Round after round: look, decide, stream.
async fn rounds(a: &Archiving<'_>, beside: &Beside, state: &mut State) -> Result<()> {
    let mut suspected = None;
    loop {
        match round(a, beside, state, &mut suspected).await {
            Ok(Next::Again) => {}
            Ok(Next::Wait(pause)) => a.world.clock.sleep(pause).await,
            Ok(Next::Done) => return Ok(()),
            Err(fault) if is_final(a, &fault) => return Err(fault),
            Err(fault) => {
                beside.trouble.is("stream", &fault, REMIND);
                a.world.clock.sleep(state.retry).await;
                state.retry = (state.retry * 2).min(LAST_RETRY);
            }
        }
    }
}

/// What comes after a round.
enum Next {
    Again,
    Wait(Duration),
    Done,
}

/// A run that should end by itself does not wait for what is missing.
fn is_final(a: &Archiving<'_>, fault: &Fault) -> bool {
    match fault.kind {
        Kind::Held | Kind::Usage => true,
        // Error 1236 is told by the source; a look at what it has says what to do.
        Kind::Refused => !fault.message.contains("(error 1236)"),
        _ => a.until == Until::CaughtUp && fault.kind == Kind::Denied,
    }
}

async fn round(
    a: &Archiving<'_>,
    beside: &Beside,
    state: &mut State,
    suspected: &mut Option<GtidSet>,
) -> Result<Next> {
    a.world.reporter.step("look");
    let members = a.topology.look().await?;
    let current = state.cutter.as_ref().map(|(_, source)| *source);
    let from = stream_from(a.settings.from, &members, current)?;
    let source = Source::open(&from, a.credentials).await?;
    refuse_plain_text_of_encrypted(a, &source, &from)?;
    match decide(state, &members, &from, &source)? {
        Decision::Behind(lacks) => {
            let what = format!("archive from {}: it has yet to replicate {lacks}", from.endpoint);
            beside.trouble.is("source", &Fault::failed(what), REMIND);
            Ok(Next::Wait(SURE))
        }
        Decision::Continue { from: start, gap } => {
            beside.trouble.over("source");
            *suspected = None;
            note_gap(a, beside, state, &gap);
            begin(beside, state, &from, start, &gap).await?;
            stream(a, beside, state, &from, source, &members).await
        }
        Decision::Fork { lacks, at_once: false, .. } if suspected.as_ref() != Some(&lacks) => {
            *suspected = Some(lacks);
            Ok(Next::Wait(SURE))
        }
        Decision::Fork { from: start, lacks, gap, .. } => {
            *suspected = None;
            fork(a, beside, state, &from, &lacks, &start).await?;
            note_gap(a, beside, state, &gap);
            begin(beside, state, &from, start, &gap).await?;
            stream(a, beside, state, &from, source, &members).await
        }
    }
}

fn decide(state: &State, members: &[Member], from: &StreamFrom, source: &Source) -> Result<Decision> {
    let last = state.last.iter().find(|segment| segment.source == from.server_uuid);
    let archived = last.map(Segment::held_after);
    let of_server = match &state.cutter {
        Some((cutter, uuid)) if *uuid == from.server_uuid => Some(cutter.held()),
        _ => archived.as_ref(),
    };
    let line = Line { held: state.held.as_ref(), of_server };
    let primary = current_primary(members).ok().map(|(_, primary)| &primary.gtid_executed);
    go_on(from, &source.history, line, primary)
}

/// Says what nobody can archive any more. The archive itself shows it: what came before the next piece is not in it.
fn note_gap(a: &Archiving<'_>, beside: &Beside, state: &mut State, gap: &GtidSet) {
    if gap.is_empty() {
        return;
    }
    a.world.reporter.notice(&format!(
        "a gap: transactions {gap} were purged from the source before they were archived; to the archive they are lost \
         (take a backup now; keep binlogs longer)"
    ));
    state.report.gaps.push(ArchivedGap { gtids: gap.clone(), at: a.world.clock.now() });
    beside.queue.force();
}

/// Everything of the old line is archived, then the new one begins.
async fn fork(
    a: &Archiving<'_>,
    beside: &Beside,
    state: &mut State,
    from: &StreamFrom,
    lacks: &GtidSet,
    start: &GoOn,
) -> Result<()> {
    finish_file(state).await?;
    drained(a, beside).await;
    let common = match start {
        GoOn::With(set) => set.clone(),
        GoOn::Behind => GtidSet::new(),
    };
    a.store.begin_line(from.server_uuid, &common, lacks, a.world.clock.now()).await?;
    a.world.reporter.notice(&format!(
        "a fork: {} lacks the archived transactions {lacks}; a new line begins, and the old one keeps them \
         (`backstop status {}` shows the lines)",
        from.endpoint, a.shard
    ));
    state.report.forks.push(ArchivedFork {
        source: from.server_uuid,
        lacks: lacks.clone(),
        at: a.world.clock.now(),
    });
    state.held = Some(common);
    state.last.clear();
    beside.queue.force();
    Ok(())
}

async fn finish_file(state: &mut State) -> Result<()> {
    if let Some((mut cutter, _)) = state.cutter.take() {
        cutter.cut(&mut state.spool).await?;
        for segment in state.spool.sealed() {
            state.last.retain(|last| last.source != segment.source);
            state.last.push(segment.clone());
        }
        state.held = Some(state.held.take().unwrap_or_default().union(cutter.held()));
    }
    Ok(())
}

async fn drained(a: &Archiving<'_>, beside: &Beside) {
    while !beside.queue.is_drained() {
        let changed = beside.queue.changed.notified();
        tokio::select! {
            () = changed => {}
            () = a.world.clock.sleep(FIRST_RETRY) => {}
        }
    }
}

/// A cutter that goes on where it was decided.
async fn begin(
    beside: &Beside,
    state: &mut State,
    from: &StreamFrom,
    start: GoOn,
    gap: &GtidSet,
) -> Result<()> {
    let uuid = from.server_uuid;
    let same = state.cutter.as_ref().is_some_and(|(_, source)| *source == uuid);
    if same && start == GoOn::Behind {
        return Ok(());
    }
    finish_file(state).await?;
    let last = state.last.iter().find(|segment| segment.source == uuid);
    let cutter = match (start, last) {
        (GoOn::Behind, Some(last)) => Cutter::after(last),
        (GoOn::Behind, None) => Cutter::new(uuid, state.held.clone().unwrap_or_default()),
        (GoOn::With(set), _) => Cutter::new(uuid, set),
    };
    if let Some(held) = &mut state.held {
        *held = held.union(gap);
    }
    if last.is_none() {
        beside.queue.force();
    }
    state.cutter = Some((cutter, uuid));
    Ok(())
}

async fn stream(
    a: &Archiving<'_>,
    beside: &Beside,
    state: &mut State,
    from: &StreamFrom,
    source: Source,
    members: &[Member],
) -> Result<Next> {
    let State { cutter: Some((cutter, _)), spool, .. } = state else { return Ok(Next::Again) };
    let taken: Vec<u32> =
        members.iter().filter_map(|member| Some(member.state.as_ref().ok()?.server_id)).collect();
    let acknowledge = if a.settings.semi_sync { Acknowledge::Asked } else { Acknowledge::Never };
    let at_end = if a.until == Until::CaughtUp { AtEnd::Stop } else { AtEnd::Wait };
    let identity = Identity::of(a.name, &taken);
    let (mut stream, acknowledger) =
        source.stream(identity, cutter.held().clone(), acknowledge, at_end).await?;
    a.world.reporter.step("stream");
    a.world.reporter.notice(&format!("archiving from {}: {}", from.endpoint, from.reason));
    beside.trouble.over("stream");
    state.report.source = Some(from.endpoint.clone());
    beside.acknowledging.connected(from.server_uuid, acknowledger).await;
    let durable = match (a.settings.semi_sync, a.settings.ack) {
        (false, _) => Durable::Never,
        (true, ArchiveAck::Store) => Durable::Archived,
        (true, ArchiveAck::Spool) => Durable::Synced,
    };
    let reader = Reader {
        source: from.server_uuid,
        queue: &beside.queue,
        acknowledging: &beside.acknowledging,
        durable,
        world: a.world,
    };
    let before = beside.queue.passed().published;
    let ended = tokio::select! {
        ended = reader.read(&mut stream, cutter, spool) => Some(ended),
        () = watch::changed(a, beside, from) => None,
    };
    beside.acknowledging.disconnected().await;
    state.held = Some(state.held.take().unwrap_or_default().union(cutter.held()));
    if beside.queue.passed().published > before {
        state.retry = FIRST_RETRY;
    }
    match ended {
        None => Ok(Next::Again),
        Some(Ok(Ended::AtEnd)) => Ok(Next::Done),
        Some(Ok(Ended::Hole(previous))) => {
            state.cutter = Some((Cutter::new(from.server_uuid, previous), from.server_uuid));
            Ok(Next::Again)
        }
        Some(Err(fault)) => Err(fault),
    }
}

/// Archives what was streamed, within bounds.
async fn last_words(a: &Archiving<'_>, beside: &Beside, state: &mut State) -> Result<()> {
    a.world.reporter.step("seal");
    finish_file(state).await?;
    beside.queue.hurry();
    tokio::select! {
        () = drained(a, beside) => {}
        () = a.world.clock.sleep(LAST_WORDS) => {
            let why = beside.trouble.all().unwrap_or_else(|| "the store is slow".to_owned());
            return Err(Fault::new(Kind::Interrupted, format!("archive what was streamed before the end: {why}"))
                .hint("start the archiver again when the store answers: it asks the source for what is missing"));
        }
    }
    watch::farewell(a, beside).await
}

fn refuse_plain_text_of_encrypted(a: &Archiving<'_>, source: &Source, from: &StreamFrom) -> Result<()> {
    if !source.encrypted || a.encryption == Encryption::On {
        return Ok(());
    }
    Err(Fault::refused(format!(
        "archive from {}: it encrypts its binlog, and the repository is not encrypted: the archive would be plain text",
        from.endpoint
    ))
    .hint("use a repository with encryption_key"))
}

/// A spool on the source's own disk is lost with it.
async fn refuse_spool_beside_the_source(a: &Archiving<'_>) -> Result<()> {
    if !(a.settings.semi_sync && a.settings.ack == ArchiveAck::Spool) {
        return Ok(());
    }
    let members = a.world.unless_stopped(a.topology.look()).await?;
    match members.iter().find(|member| is_here(&member.endpoint.host)) {
        None => Ok(()),
        Some(member) => Err(Fault::refused(format!(
            "acknowledge from the spool: {} is on this machine, and the spool would be lost with it",
            member.endpoint
        ))
        .hint("run the archiver on a machine of its own, or set archive.ack = \"store\"")),
    }
}

/// True if a host is this machine: one of its addresses can be listened on.
fn is_here(host: &str) -> bool {
    use std::net::{TcpListener, ToSocketAddrs};
    let Ok(addresses) = (host, 0).to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpListener::bind(address).is_ok())
}
