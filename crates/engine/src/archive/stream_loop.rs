//! Stream loop: each round looks at the shard and the archive, decides from which server and
//! position to stream, and streams until that ends.

use std::time::Duration;

use backstop_binlog::{AtBinlogEnd, Segment, Segmenter, SemiSyncMode};
use backstop_policy::stream_or_fork::{
    StartPosition, StreamDecision, StreamFrom, TimelineEnd, resume_or_fork, stream_from,
};
use backstop_policy::topology::current_primary;
use backstop_types::error::{Error, ErrorKind, Result};
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{Endpoint, ServerUuid};
use backstop_types::topology::Member;

use super::binlog_source::{BinlogSource, ReplicaIdentity};
use super::gtid_divergence::{self, Divergence};
use super::stream::{StreamEnd, StreamReader};
use super::{
    ArchiveUntil, Archiver, FIRST_RETRY_DELAY, Shared, StreamState, finish_file, monitor, refetch,
    spool_recovery, wait_until_drained,
};
use crate::report::{ArchivedFork, ArchivedGap};

const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Delay before a fork is confirmed, for a server that lacks archived transactions. If it may reuse
/// their GTIDs, the fork is confirmed immediately.
const FORK_CONFIRM_DELAY: Duration = Duration::from_secs(2);
/// Consecutive rounds that may end without a new transaction and are repeated immediately: the
/// source switches to a new file, or shuts down.
const MAX_EMPTY_STREAMS: u32 = 2;
/// Duration after which a stream counts as steady, so that its end is no failure.
const STEADY_STREAM_DURATION: Duration = Duration::from_secs(10);
/// Consecutive failures after which a run until caught up fails.
const MAX_FAILURES_UNTIL_CAUGHT_UP: u32 = 5;

/// Runs rounds of look, decide, stream.
pub(super) async fn stream_loop(
    archiver: &Archiver<'_>,
    shared: &Shared,
    state: &mut StreamState,
) -> Result<()> {
    let mut suspected = None;
    loop {
        if let Some(error) = shared.queue.given_up() {
            shared.alerts.raise("spool file", &error, REMINDER_INTERVAL);
            spool_recovery::resume_from_archive(archiver, shared, state).await;
            // Delay the retry: disk and store may recover in between.
            archiver.ctx.host.clock.sleep(state.retry_delay).await;
            state.retry_delay = (state.retry_delay * 2).min(MAX_RETRY_DELAY);
        }
        match run_round(archiver, shared, state, &mut suspected).await {
            Ok(AfterRound::Again) => match empty_stream_error(archiver, state) {
                None => {}
                Some(error) if is_final(archiver, state, &error) => return Err(error),
                Some(error) => retry_after(archiver, shared, state, &error).await,
            },
            Ok(AfterRound::Wait(pause)) => archiver.ctx.host.clock.sleep(pause).await,
            Ok(AfterRound::Done) => return Ok(()),
            Ok(AfterRound::Refused(error))
                if archiver.until == ArchiveUntil::Stopped
                    || state.failures < MAX_FAILURES_UNTIL_CAUGHT_UP =>
            {
                retry_after(archiver, shared, state, &error).await;
            }
            Ok(AfterRound::Refused(error)) => return Err(error),
            Err(_) if shared.queue.given_up().is_some() && !has_failed_too_often(archiver, state) => {
                state.failures += 1
            }
            Err(error) if is_final(archiver, state, &error) => return Err(error),
            Err(error) => retry_after(archiver, shared, state, &error).await,
        }
    }
}

async fn retry_after(archiver: &Archiver<'_>, shared: &Shared, state: &mut StreamState, error: &Error) {
    state.failures += 1;
    shared.alerts.raise("stream", error, REMINDER_INTERVAL);
    archiver.ctx.host.clock.sleep(state.retry_delay).await;
    state.retry_delay = (state.retry_delay * 2).min(MAX_RETRY_DELAY);
}

/// Returns the reason why a round that ended early is not repeated immediately: more than
/// [`MAX_EMPTY_STREAMS`] consecutive rounds ended without a new transaction.
fn empty_stream_error(archiver: &Archiver<'_>, state: &mut StreamState) -> Option<Error> {
    state.empty_streams += 1;
    (state.empty_streams > MAX_EMPTY_STREAMS).then(|| {
        Error::failed(format!(
            "cannot archive shard {}: the stream ended {} times without a new transaction",
            archiver.shard, state.empty_streams
        ))
        .hint("check the source's error log; the archiver retries at growing intervals")
    })
}

/// Result of a round.
enum AfterRound {
    Again,
    /// The source could not send the requested transactions: the next round compares its GTID set
    /// again.
    Refused(Error),
    Wait(Duration),
    Done,
}

/// True if another round does not help. A run until caught up does not wait for long.
fn is_final(archiver: &Archiver<'_>, state: &StreamState, error: &Error) -> bool {
    let patient = archiver.until == ArchiveUntil::Stopped;
    match error.kind {
        ErrorKind::Held | ErrorKind::Usage | ErrorKind::Refused => true,
        ErrorKind::Denied => !patient || state.report.source.is_none(),
        _ => !patient && state.failures >= MAX_FAILURES_UNTIL_CAUGHT_UP,
    }
}

/// True if a run until caught up has failed too often.
fn has_failed_too_often(archiver: &Archiver<'_>, state: &StreamState) -> bool {
    archiver.until == ArchiveUntil::CaughtUp && state.failures >= MAX_FAILURES_UNTIL_CAUGHT_UP
}

/// Chooses the server to stream from. The shard's members may change at any time: while none fits,
/// an archiver without an end condition waits.
fn choose_stream_source(
    archiver: &Archiver<'_>,
    members: &[Member],
    current: Option<ServerUuid>,
    streamed: Option<&Endpoint>,
) -> Result<StreamFrom> {
    let fit = |from: StreamFrom| match streamed {
        // The current source is not given up, because less would be archived, but the alert is
        // raised.
        Some(endpoint) if *endpoint == from.endpoint => Ok(from),
        _ => from.refuse_unfit().map(|()| from),
    };
    stream_from(archiver.settings.from, members, current).and_then(fit).map_err(|error| {
        match archiver.until {
            ArchiveUntil::Stopped if error.kind == ErrorKind::Refused => {
                Error { kind: ErrorKind::Failed, ..error }
            }
            ArchiveUntil::Stopped | ArchiveUntil::CaughtUp => error,
        }
    })
}

async fn run_round(
    archiver: &Archiver<'_>,
    shared: &Shared,
    state: &mut StreamState,
    suspected: &mut Option<GtidSet>,
) -> Result<AfterRound> {
    archiver.ctx.reporter.step("look");
    let members = archiver.topology.members().await?;
    let current = state.segmenter.as_ref().map(|(_, source)| *source);
    let from = choose_stream_source(archiver, &members, current, state.report.source.as_ref())?;
    let source = BinlogSource::open(&from, archiver.access).await?;
    source.refuse_plain_text(archiver.encryption, &from)?;
    refetch::refetch_lost(archiver, &from, replica_identity(archiver, &members), &mut state.unrecoverable)
        .await?;
    match decide(state, &members, &from, &source)? {
        StreamDecision::Behind(lacks) => {
            let what = format!("cannot archive from {}: it has not yet replicated {lacks}", from.endpoint);
            let error = Error::failed(what).hint("check that it replicates");
            state.failures += 1;
            if archiver.until == ArchiveUntil::CaughtUp && state.failures >= MAX_FAILURES_UNTIL_CAUGHT_UP {
                return Err(error);
            }
            shared.alerts.raise("source", &error, REMINDER_INTERVAL);
            Ok(AfterRound::Wait(FORK_CONFIRM_DELAY))
        }
        StreamDecision::Continue { from: start, gap } => {
            shared.alerts.clear("source");
            *suspected = None;
            let identity = replica_identity(archiver, &members);
            if let Some(parted) =
                gtid_divergence::find_divergence(archiver, shared, state, &from, identity, false).await?
            {
                return follow_divergence(archiver, shared, state, &from, source, &members, parted).await;
            }
            report_gap(archiver, shared, state, &gap);
            begin_segmenter(shared, state, &from, start, &gap).await?;
            stream(archiver, shared, state, &from, source, &members).await
        }
        StreamDecision::Fork { lacks, at_once: false, .. } if suspected.as_ref() != Some(&lacks) => {
            *suspected = Some(lacks);
            Ok(AfterRound::Wait(FORK_CONFIRM_DELAY))
        }
        StreamDecision::Fork { from: start, lacks, gap, at_once } => {
            *suspected = None;
            let identity = replica_identity(archiver, &members);
            if let Some(parted) =
                gtid_divergence::find_divergence(archiver, shared, state, &from, identity, at_once).await?
            {
                return follow_divergence(archiver, shared, state, &from, source, &members, parted).await;
            }
            begin_timeline(archiver, shared, state, &from, &lacks, &start).await?;
            report_gap(archiver, shared, state, &gap);
            begin_segmenter(shared, state, &from, start, &gap).await?;
            stream(archiver, shared, state, &from, source, &members).await
        }
    }
}

/// Begins another timeline, because the source has other transactions under archived GTIDs.
async fn follow_divergence(
    archiver: &Archiver<'_>,
    shared: &Shared,
    state: &mut StreamState,
    from: &StreamFrom,
    source: BinlogSource,
    members: &[Member],
    parted: Divergence,
) -> Result<AfterRound> {
    archiver.ctx.reporter.notice(&format!(
        "{} lost the end of its binlog and reused its transaction numbers: it lacks the archived transactions {}",
        from.endpoint, parted.left
    ));
    let start = StartPosition::ExceptGtids(parted.common.clone());
    begin_timeline(archiver, shared, state, from, &parted.left, &start).await?;
    let gap = source.history.purged.subtract(&parted.common);
    report_gap(archiver, shared, state, &gap);
    begin_segmenter(shared, state, from, start, &gap).await?;
    stream(archiver, shared, state, from, source, members).await
}

fn replica_identity(archiver: &Archiver<'_>, members: &[Member]) -> ReplicaIdentity {
    let taken: Vec<u32> =
        members.iter().filter_map(|member| Some(member.state.as_ref().ok()?.server_id)).collect();
    ReplicaIdentity::of(archiver.name, &taken)
}

fn decide(
    state: &StreamState,
    members: &[Member],
    from: &StreamFrom,
    source: &BinlogSource,
) -> Result<StreamDecision> {
    let last = state.last.iter().find(|segment| segment.source == from.server_uuid);
    let archived = last.map(Segment::held_after);
    let of_server = match &state.segmenter {
        Some((segmenter, uuid)) if *uuid == from.server_uuid => Some(segmenter.held()),
        _ => archived.as_ref(),
    };
    let timeline = TimelineEnd { held: state.held.as_ref(), of_server };
    let primary = current_primary(members).ok().map(|(_, primary)| &primary.gtid_executed);
    resume_or_fork(from, &source.history, timeline, primary)
}

/// Reports transactions that can no longer be archived. The archive itself shows the gap: the next
/// segment's previous set is not in it.
fn report_gap(archiver: &Archiver<'_>, shared: &Shared, state: &mut StreamState, gap: &GtidSet) {
    if gap.is_empty() {
        return;
    }
    archiver.ctx.reporter.notice(&format!(
        "gap: transactions {gap} were purged from the source before they were archived, and the archive lacks them \
         (take a backup now; keep binlogs longer)"
    ));
    state.report.gaps.push(ArchivedGap { gtids: gap.clone(), at: archiver.ctx.host.clock.now() });
    shared.queue.force_upload();
}

/// Archives everything of the old timeline, then begins the new one.
async fn begin_timeline(
    archiver: &Archiver<'_>,
    shared: &Shared,
    state: &mut StreamState,
    from: &StreamFrom,
    lacks: &GtidSet,
    start: &StartPosition,
) -> Result<()> {
    finish_file(state).await?;
    wait_until_drained(archiver, shared).await?;
    let common = match start {
        StartPosition::ExceptGtids(set) => set.clone(),
        StartPosition::AfterLastSegment => GtidSet::new(),
    };
    archiver.store.begin_timeline(from.server_uuid, &common, lacks, archiver.ctx.host.clock.now()).await?;
    archiver.ctx.reporter.notice(&format!(
        "fork: {} lacks the archived transactions {lacks}; a new timeline begins, and the old one keeps them \
         (`backstop status {}` shows the timelines)",
        from.endpoint, archiver.shard
    ));
    state.report.forks.push(ArchivedFork {
        source: from.server_uuid,
        lacks: lacks.clone(),
        at: archiver.ctx.host.clock.now(),
    });
    state.held = Some(common);
    state.last.clear();
    shared.queue.force_upload();
    Ok(())
}

/// Begins a segmenter at the decided position.
async fn begin_segmenter(
    shared: &Shared,
    state: &mut StreamState,
    from: &StreamFrom,
    start: StartPosition,
    gap: &GtidSet,
) -> Result<()> {
    let uuid = from.server_uuid;
    let same = state.segmenter.as_ref().is_some_and(|(_, source)| *source == uuid);
    if same && start == StartPosition::AfterLastSegment {
        return Ok(());
    }
    finish_file(state).await?;
    let last = state.last.iter().find(|segment| segment.source == uuid);
    let segmenter = match (start, last) {
        (StartPosition::AfterLastSegment, Some(last)) => Segmenter::after(last),
        (StartPosition::AfterLastSegment, None) => {
            Segmenter::new(uuid, state.held.clone().unwrap_or_default())
        }
        (StartPosition::ExceptGtids(set), _) => Segmenter::new(uuid, set),
    };
    if let Some(held) = &mut state.held {
        *held = held.union(gap);
    }
    if last.is_none() {
        shared.queue.force_upload();
    }
    state.segmenter = Some((segmenter, uuid));
    Ok(())
}

async fn stream(
    archiver: &Archiver<'_>,
    shared: &Shared,
    state: &mut StreamState,
    from: &StreamFrom,
    source: BinlogSource,
    members: &[Member],
) -> Result<AfterRound> {
    let StreamState { segmenter: Some((segmenter, _)), spool, .. } = state else {
        return Ok(AfterRound::Again);
    };
    let acknowledge = if archiver.settings.semi_sync { SemiSyncMode::Asked } else { SemiSyncMode::Never };
    let at_end = if archiver.until == ArchiveUntil::CaughtUp { AtBinlogEnd::Stop } else { AtBinlogEnd::Wait };
    segmenter.based_on(&source.history.purged);
    let (mut stream, acknowledger) = source
        .stream(replica_identity(archiver, members), segmenter.held().clone(), acknowledge, at_end)
        .await?;
    archiver.ctx.reporter.step("stream");
    archiver.ctx.reporter.remark(&format!("archiving from {}: {}", from.endpoint, from.reason));
    if state.empty_streams <= MAX_EMPTY_STREAMS {
        shared.alerts.clear("stream");
    }
    monitor::alert_unfit_source(shared, from);
    if let Some(why) = &from.doubtful {
        archiver.ctx.reporter.notice(&format!("archiving from {}: {why}", from.endpoint));
    }
    state.report.source = Some(from.endpoint.clone());
    shared.semi_sync_ack.connect(from.server_uuid, acknowledger).await;
    let reader = StreamReader {
        source: from.server_uuid,
        queue: &shared.queue,
        stream_position: &shared.stream_position,
        ctx: archiver.ctx,
    };
    let begun = archiver.ctx.host.clock.monotonic();
    let before = shared.queue.counts().published;
    let ended = tokio::select! {
        ended = reader.read(&mut stream, segmenter, spool) => Some(ended),
        () = monitor::until_source_changes(archiver, shared, from) => None,
    };
    shared.semi_sync_ack.disconnect().await;
    shared.stream_position.reset();
    if archiver.ctx.host.clock.monotonic() >= begun + STEADY_STREAM_DURATION {
        state.empty_streams = 0;
    }
    state.held = Some(state.held.take().unwrap_or_default().union(segmenter.held()));
    if shared.queue.counts().published > before {
        state.retry_delay = FIRST_RETRY_DELAY;
        state.failures = 0;
        state.empty_streams = 0;
    }
    match ended {
        None => Ok(AfterRound::Again),
        Some(Ok(StreamEnd::AtEnd)) => {
            // Reconnect, since a source that shuts down ends its stream in the same way.
            BinlogSource::open(from, archiver.access).await?;
            match archiver.until {
                ArchiveUntil::CaughtUp => Ok(AfterRound::Done),
                ArchiveUntil::Stopped => Ok(AfterRound::Again),
            }
        }
        Some(Ok(StreamEnd::Refused(error))) => Ok(AfterRound::Refused(error)),
        Some(Ok(StreamEnd::Hole(previous))) => {
            state.segmenter = Some((Segmenter::new(from.server_uuid, previous), from.server_uuid));
            Ok(AfterRound::Again)
        }
        Some(Err(error)) => Err(error),
    }
}
