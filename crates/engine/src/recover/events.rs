//! Restores the states of events on a new primary. On a replica all events are disabled, so they
//! get the states that they had at the primary: as recorded with the backup, and followed through
//! the archive's statements up to the recovered moment.

use backstop_binlog::event_changes;
use backstop_policy::scheduled_events::{
    EventHistory, EventsPlan, EventsReport, EventsSetting, SchemaNames, plan_events,
};
use backstop_repo::Manifest;
use backstop_types::archive::ArchivedSegment;
use backstop_types::error::{ErrorKind, Result};
use backstop_types::gtid::{Gtid, GtidSet};
use backstop_types::scheduled_events::EventChange;
use backstop_types::topology::Role;
use futures::{StreamExt, TryStreamExt};

use super::{Recovery, RecoveryDecision};
use crate::ports::AdminSession;
use crate::read_segment;

/// Number of segments that are read concurrently.
const PARALLEL_SEGMENT_READS: usize = 4;

/// Decides which event states to set. Changes nothing, and reads the archive only if events exist.
pub(super) async fn decide_events(
    recovery: &Recovery<'_>,
    session: &mut dyn AdminSession,
    manifest: &Manifest,
    decided: &RecoveryDecision,
) -> Result<EventsPlan> {
    let present = session.events().await?;
    if present.is_empty() {
        return Ok(EventsPlan::default());
    }
    let history = history(recovery, manifest, decided).await?;
    Ok(plan_events(&history, present, recovery.ctx.host.clock.now()))
}

/// Carries a plan out, or returns the statements that would.
pub(super) async fn restore_events(
    recovery: &Recovery<'_>,
    session: &mut dyn AdminSession,
    manifest: &Manifest,
    plan: &EventsPlan,
) -> Result<EventsReport> {
    let runs = EventsPlan::scheduler(manifest.facts.events.as_ref());
    if recovery.request.events == EventsSetting::Print {
        return Ok(plan.printed(runs));
    }
    let mut failed = Vec::new();
    for (event, state) in &plan.set {
        if let Some(why) = session.set_event(event, *state).await? {
            failed.push((event.name.clone(), why));
        }
    }
    Ok(EventsReport { scheduler: runs, ..plan.report(&failed) })
}

/// True if the server has its event scheduler on after the hand-over.
pub(super) fn scheduler(recovery: &Recovery<'_>, manifest: &Manifest) -> bool {
    recovery.request.events == EventsSetting::Enable && EventsPlan::scheduler(manifest.facts.events.as_ref())
}

/// Returns the states at the recovered moment.
async fn history(
    recovery: &Recovery<'_>,
    manifest: &Manifest,
    decided: &RecoveryDecision,
) -> Result<EventHistory> {
    let facts = &manifest.facts;
    let recorded = facts.events.as_ref().filter(|recorded| recorded.role == Role::Primary);
    let mut history = EventHistory::recorded(recorded, SchemaNames::of(&facts.settings));
    let Some(replay) = &decided.replay else { return Ok(history) };
    let reached = replay.reached();
    let told = recorded.map_or(&facts.gtid_executed, |recorded| &recorded.told.executed);
    let (since, later) = (reached.subtract(told), told.subtract(&reached));
    match changes(recovery, replay.timeline, &since.union(&later)).await {
        Ok(changes) => {
            for (gtid, change) in &changes {
                if since.contains(gtid) {
                    history.apply(change);
                } else {
                    history.doubt(change);
                }
            }
        }
        Err(error) if error.kind == ErrorKind::Damaged => history.lose(error.to_string()),
        Err(error) => return Err(error.during("cannot follow the events through the archive")),
    }
    Ok(history)
}

/// Returns the changes that the archive's statements among these transactions make to events, in
/// their order.
async fn changes(
    recovery: &Recovery<'_>,
    timeline: u32,
    wanted: &GtidSet,
) -> Result<Vec<(Gtid, EventChange)>> {
    let mut seen = GtidSet::new();
    let mut pieces = Vec::new();
    for segment in recovery.archive.contents().await?.segments_on(timeline) {
        let own = segment.gtids.subtract(&seen).intersect(wanted);
        seen = seen.union(&segment.gtids);
        if !own.is_empty() {
            pieces.push((segment, own));
        }
    }
    let reads = pieces.into_iter().map(|(segment, own)| of_piece(recovery, segment, own));
    let changes: Vec<Vec<_>> =
        futures::stream::iter(reads).buffered(PARALLEL_SEGMENT_READS).try_collect().await?;
    Ok(changes.into_iter().flatten().collect())
}

async fn of_piece(
    recovery: &Recovery<'_>,
    segment: ArchivedSegment,
    own: GtidSet,
) -> Result<Vec<(Gtid, EventChange)>> {
    let input = recovery.archive.open(&segment).await?;
    let (start, end) = (segment.start, segment.end);
    let changes = read_segment::read_segment(input, move |bytes| {
        let mut changes = Vec::new();
        let mut each = |gtid: Gtid, change| {
            if own.contains(&gtid) {
                changes.push((gtid, change));
            }
        };
        event_changes(bytes, start, end, &mut each)?;
        Ok(changes)
    });
    changes.await.map_err(|error| error.during(&segment.object))
}
