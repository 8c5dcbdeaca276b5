//! The events of a new primary. On a replica they are all disabled, so they get the states back that they had at the primary: as they were
//! recorded with the backup, and followed through the archive's statements up to the recovered moment.

use backstop_binlog::event_changes;
use backstop_model::archive::ArchivedSegment;
use backstop_model::events::{
    EventChange, EventHistory, EventsPlan, EventsReport, EventsWish, SchemaNames, plan,
};
use backstop_model::fault::{Kind, Result};
use backstop_model::gtid::{Gtid, GtidSet};
use backstop_model::topology::Role;
use backstop_repo::Manifest;
use futures::{StreamExt, TryStreamExt};

use super::{Decided, Recover};
use crate::piece;
use crate::ports::RecoveredSession;

/// Pieces of the archive that are read at once.
const PARALLEL: usize = 4;

/// Decides what is to be done. Changes nothing, and reads the archive only if there are events.
pub(super) async fn planned(
    r: &Recover<'_>,
    session: &mut dyn RecoveredSession,
    manifest: &Manifest,
    decided: &Decided,
) -> Result<EventsPlan> {
    let present = session.events().await?;
    if present.is_empty() {
        return Ok(EventsPlan::default());
    }
    let history = history(r, manifest, decided).await?;
    Ok(plan(&history, present, r.world.clock.now()))
}

/// Carries a plan out, or gives the statements that would.
pub(super) async fn give_back(
    r: &Recover<'_>,
    session: &mut dyn RecoveredSession,
    manifest: &Manifest,
    plan: &EventsPlan,
) -> Result<EventsReport> {
    let runs = EventsPlan::scheduler(manifest.facts.events.as_ref());
    if r.request.events == EventsWish::Print {
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

/// True if the server that is handed over has its event scheduler on.
pub(super) fn scheduler(r: &Recover<'_>, manifest: &Manifest) -> bool {
    r.request.events == EventsWish::Enable && EventsPlan::scheduler(manifest.facts.events.as_ref())
}

/// The states at the recovered moment.
async fn history(r: &Recover<'_>, manifest: &Manifest, decided: &Decided) -> Result<EventHistory> {
    let facts = &manifest.facts;
    let recorded = facts.events.as_ref().filter(|recorded| recorded.role == Role::Primary);
    let mut history = EventHistory::recorded(recorded, SchemaNames::of(&facts.settings));
    let Some(replay) = &decided.replay else { return Ok(history) };
    let reached = replay.reached();
    let told = recorded.map_or(&facts.gtid_executed, |recorded| &recorded.told.executed);
    let (since, later) = (reached.subtract(told), told.subtract(&reached));
    match changes(r, replay.line, &since.union(&later)).await {
        Ok(changes) => {
            for (gtid, change) in &changes {
                if since.contains(gtid) {
                    history.apply(change);
                } else {
                    history.doubt(change);
                }
            }
        }
        Err(fault) if fault.kind == Kind::Damaged => history.lose(fault.to_string()),
        Err(fault) => return Err(fault.during("follow the events through the archive")),
    }
    Ok(history)
}

/// The changes that the archive's statements among these transactions make to events, in their order.
async fn changes(r: &Recover<'_>, line: u32, wanted: &GtidSet) -> Result<Vec<(Gtid, EventChange)>> {
    let mut seen = GtidSet::new();
    let mut pieces = Vec::new();
    for segment in r.archive.contents().await?.all_of(line) {
        let own = segment.gtids.subtract(&seen).intersect(wanted);
        seen = seen.union(&segment.gtids);
        if !own.is_empty() {
            pieces.push((segment, own));
        }
    }
    let reads = pieces.into_iter().map(|(segment, own)| of_piece(r, segment, own));
    let changes: Vec<Vec<_>> = futures::stream::iter(reads).buffered(PARALLEL).try_collect().await?;
    Ok(changes.into_iter().flatten().collect())
}

async fn of_piece(
    r: &Recover<'_>,
    segment: ArchivedSegment,
    own: GtidSet,
) -> Result<Vec<(Gtid, EventChange)>> {
    let input = r.archive.open(&segment).await?;
    let (start, end) = (segment.start, segment.end);
    let changes = piece::read(input, move |bytes| {
        let mut changes = Vec::new();
        let mut each = |gtid: Gtid, change| {
            if own.contains(&gtid) {
                changes.push((gtid, change));
            }
        };
        event_changes(bytes, start, end, &mut each)?;
        Ok(changes)
    });
    changes.await.map_err(|fault| fault.during(&segment.object))
}
