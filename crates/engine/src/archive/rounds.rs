//! Round after round: look at the shard and the archive, decide from whom and from where to stream, stream until that ends.

use std::time::Duration;

use backstop_binlog::{Acknowledge, AtEnd, Cutter, Segment};
use backstop_model::archiving::{Decision, GoOn, Line, StreamFrom, go_on, stream_from};
use backstop_model::fault::{Fault, Kind, Result};
use backstop_model::gtid::GtidSet;
use backstop_model::ids::{Endpoint, ServerUuid};
use backstop_model::report::{ArchivedFork, ArchivedGap};
use backstop_model::topology::{Member, current_primary};

use super::again;
use super::reused::{self, Parted};
use super::source::{Identity, Source};
use super::stream::{Ended, Reader};
use super::{Archiving, Beside, FIRST_RETRY, State, Until, drained, finish_file, resume, watch};

const LAST_RETRY: Duration = Duration::from_secs(5);
const REMIND: Duration = Duration::from_secs(60);
/// A server that lacks archived transactions is looked at again after this, unless it may use their numbers again.
const SURE: Duration = Duration::from_secs(2);
/// So many rounds in a row may end without a transaction more and be repeated at once: the source turns to a file's beginning, or shuts
/// down.
const FRUITLESS: u32 = 2;
/// A stream that ran for so long did not end at once.
const STEADY: Duration = Duration::from_secs(10);
/// After so many failures in a row a run that should end by itself does.
const IMPATIENT: u32 = 5;

/// Round after round: look, decide, stream.
pub(super) async fn rounds(a: &Archiving<'_>, beside: &Beside, state: &mut State) -> Result<()> {
    let mut suspected = None;
    loop {
        if let Some(fault) = beside.queue.given_up() {
            beside.trouble.is("spool file", &fault, REMIND);
            resume::from_the_archive(a, beside, state).await;
            // Not at once: the disk may need a moment, and the store may get on meanwhile.
            a.world.clock.sleep(state.retry).await;
            state.retry = (state.retry * 2).min(LAST_RETRY);
        }
        match round(a, beside, state, &mut suspected).await {
            Ok(Next::Again) => match again_without_progress(a, state) {
                None => {}
                Some(fault) if is_final(a, state, &fault) => return Err(fault),
                Some(fault) => again(a, beside, state, &fault).await,
            },
            Ok(Next::Wait(pause)) => a.world.clock.sleep(pause).await,
            Ok(Next::Done) => return Ok(()),
            Ok(Next::Refused(fault)) if a.until == Until::Stopped || state.failures < IMPATIENT => {
                again(a, beside, state, &fault).await;
            }
            Ok(Next::Refused(fault)) => return Err(fault),
            Err(_) if beside.queue.given_up().is_some() && !is_hopeless(a, state) => state.failures += 1,
            Err(fault) if is_final(a, state, &fault) => return Err(fault),
            Err(fault) => again(a, beside, state, &fault).await,
        }
    }
}

async fn again(a: &Archiving<'_>, beside: &Beside, state: &mut State, fault: &Fault) {
    state.failures += 1;
    beside.trouble.is("stream", fault, REMIND);
    a.world.clock.sleep(state.retry).await;
    state.retry = (state.retry * 2).min(LAST_RETRY);
}

/// Why a round that ended early is not repeated at once: it was not the first in a row that brought nothing.
fn again_without_progress(a: &Archiving<'_>, state: &mut State) -> Option<Fault> {
    state.fruitless += 1;
    (state.fruitless > FRUITLESS).then(|| {
        Fault::failed(format!(
            "archive shard {}: the stream ended {} times without a transaction more",
            a.shard, state.fruitless
        ))
        .hint("look at the source's error log; the archiver keeps trying, ever less often")
    })
}

/// What comes after a round.
enum Next {
    Again,
    /// The source could not send what was asked for: the next look at what it has says what to do.
    Refused(Fault),
    Wait(Duration),
    Done,
}

/// True if looking again does not help. A run that should end by itself does not wait for long.
fn is_final(a: &Archiving<'_>, state: &State, fault: &Fault) -> bool {
    let patient = a.until == Until::Stopped;
    match fault.kind {
        Kind::Held | Kind::Usage | Kind::Refused => true,
        Kind::Denied => !patient || state.report.source.is_none(),
        _ => !patient && state.failures >= IMPATIENT,
    }
}

/// True if a run that should end by itself has tried often enough.
fn is_hopeless(a: &Archiving<'_>, state: &State) -> bool {
    a.until == Until::CaughtUp && state.failures >= IMPATIENT
}

/// The shard's members may change at any time: while they do not fit, an archiver that was not told to end waits.
fn wanted(
    a: &Archiving<'_>,
    members: &[Member],
    current: Option<ServerUuid>,
    streamed: Option<&Endpoint>,
) -> Result<StreamFrom> {
    let fit = |from: StreamFrom| match streamed {
        // What is streamed from already is not given up: less would be archived. It is told all the same.
        Some(endpoint) if *endpoint == from.endpoint => Ok(from),
        _ => from.refuse_unfit().map(|()| from),
    };
    stream_from(a.settings.from, members, current).and_then(fit).map_err(|fault| match a.until {
        Until::Stopped if fault.kind == Kind::Refused => Fault { kind: Kind::Failed, ..fault },
        Until::Stopped | Until::CaughtUp => fault,
    })
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
    let from = wanted(a, &members, current, state.report.source.as_ref())?;
    let source = Source::open(&from, a.access).await?;
    source.refuse_plain_text(a.encryption, &from)?;
    again::again(a, &from, identity(a, &members), &mut state.gone).await?;
    match decide(state, &members, &from, &source)? {
        Decision::Behind(lacks) => {
            let what = format!("archive from {}: it has yet to replicate {lacks}", from.endpoint);
            let fault = Fault::failed(what).hint("see whether it replicates");
            state.failures += 1;
            if a.until == Until::CaughtUp && state.failures >= IMPATIENT {
                return Err(fault);
            }
            beside.trouble.is("source", &fault, REMIND);
            Ok(Next::Wait(SURE))
        }
        Decision::Continue { from: start, gap } => {
            beside.trouble.over("source");
            *suspected = None;
            let identity = identity(a, &members);
            if let Some(parted) = reused::parted(a, beside, state, &from, identity, false).await? {
                return part(a, beside, state, &from, source, &members, parted).await;
            }
            note_gap(a, beside, state, &gap);
            begin(beside, state, &from, start, &gap).await?;
            stream(a, beside, state, &from, source, &members).await
        }
        Decision::Fork { lacks, at_once: false, .. } if suspected.as_ref() != Some(&lacks) => {
            *suspected = Some(lacks);
            Ok(Next::Wait(SURE))
        }
        Decision::Fork { from: start, lacks, gap, at_once } => {
            *suspected = None;
            let identity = identity(a, &members);
            if let Some(parted) = reused::parted(a, beside, state, &from, identity, at_once).await? {
                return part(a, beside, state, &from, source, &members, parted).await;
            }
            fork(a, beside, state, &from, &lacks, &start).await?;
            note_gap(a, beside, state, &gap);
            begin(beside, state, &from, start, &gap).await?;
            stream(a, beside, state, &from, source, &members).await
        }
    }
}

/// The source has others under archived numbers: they are on another line.
async fn part(
    a: &Archiving<'_>,
    beside: &Beside,
    state: &mut State,
    from: &StreamFrom,
    source: Source,
    members: &[Member],
    parted: Parted,
) -> Result<Next> {
    a.world.reporter.notice(&format!(
        "{} has lost the end of its binlog, and has used its numbers again: what was archived as {} is not there",
        from.endpoint, parted.left
    ));
    let start = GoOn::With(parted.common.clone());
    fork(a, beside, state, from, &parted.left, &start).await?;
    let gap = source.history.purged.subtract(&parted.common);
    note_gap(a, beside, state, &gap);
    begin(beside, state, from, start, &gap).await?;
    stream(a, beside, state, from, source, members).await
}

fn identity(a: &Archiving<'_>, members: &[Member]) -> Identity {
    let taken: Vec<u32> =
        members.iter().filter_map(|member| Some(member.state.as_ref().ok()?.server_id)).collect();
    Identity::of(a.name, &taken)
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
    drained(a, beside).await?;
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
    let acknowledge = if a.settings.semi_sync { Acknowledge::Asked } else { Acknowledge::Never };
    let at_end = if a.until == Until::CaughtUp { AtEnd::Stop } else { AtEnd::Wait };
    cutter.based_on(&source.history.purged);
    let (mut stream, acknowledger) =
        source.stream(identity(a, members), cutter.held().clone(), acknowledge, at_end).await?;
    a.world.reporter.step("stream");
    a.world.reporter.remark(&format!("archiving from {}: {}", from.endpoint, from.reason));
    if state.fruitless <= FRUITLESS {
        beside.trouble.over("stream");
    }
    watch::suspicious(beside, from);
    if let Some(why) = &from.doubtful {
        a.world.reporter.notice(&format!("archiving from {}: {why}", from.endpoint));
    }
    state.report.source = Some(from.endpoint.clone());
    beside.acknowledging.connected(from.server_uuid, acknowledger).await;
    let reader =
        Reader { source: from.server_uuid, queue: &beside.queue, standing: &beside.standing, world: a.world };
    let begun = a.world.clock.monotonic();
    let before = beside.queue.passed().published;
    let ended = tokio::select! {
        ended = reader.read(&mut stream, cutter, spool) => Some(ended),
        () = watch::changed(a, beside, from) => None,
    };
    beside.acknowledging.disconnected().await;
    beside.standing.nowhere();
    if a.world.clock.monotonic() >= begun + STEADY {
        state.fruitless = 0;
    }
    state.held = Some(state.held.take().unwrap_or_default().union(cutter.held()));
    if beside.queue.passed().published > before {
        state.retry = FIRST_RETRY;
        state.failures = 0;
        state.fruitless = 0;
    }
    match ended {
        None => Ok(Next::Again),
        Some(Ok(Ended::AtEnd)) => {
            // A source that shuts down ends its stream in the same way.
            Source::open(from, a.access).await?;
            match a.until {
                Until::CaughtUp => Ok(Next::Done),
                Until::Stopped => Ok(Next::Again),
            }
        }
        Some(Ok(Ended::Refused(fault))) => Ok(Next::Refused(fault)),
        Some(Ok(Ended::Hole(previous))) => {
            state.cutter = Some((Cutter::new(from.server_uuid, previous), from.server_uuid));
            Ok(Next::Again)
        }
        Some(Err(fault)) => Err(fault),
    }
}
