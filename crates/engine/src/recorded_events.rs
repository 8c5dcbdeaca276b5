//! Records beside a backup's data: the states of the shard's events, and the source's plugins.

use backstop_types::finding::Finding;
use backstop_types::ids::Endpoint;
use backstop_types::plugins::Plugin;
use backstop_types::scheduled_events::{RecordedEvents, ServerEvents};
use backstop_types::topology::{Role, SourceChoice};

use crate::context::RunContext;
use crate::ports::Schemas;

/// The server that was asked for the shard's events, and its answer before the snapshot.
pub struct EventsBefore {
    of: Endpoint,
    role: Role,
    events: ServerEvents,
}

/// Reads the events before the snapshot: from the primary, or from the source if no primary
/// answers. A backup does not fail if it cannot read them.
pub async fn events_before(
    choice: &SourceChoice,
    schemas: &dyn Schemas,
    ctx: &RunContext,
) -> Option<EventsBefore> {
    let source = (&choice.endpoint, choice.role);
    let primary = choice.primary.as_ref().map(|primary| (primary, Role::Primary));
    for (of, role) in primary.into_iter().chain([source]) {
        match schemas.events(of).await {
            Ok(events) => return Some(EventsBefore { of: of.clone(), role, events }),
            Err(error) => ctx.reporter.notice(&format!("the events of {of} are not recorded: {error}")),
        }
    }
    None
}

/// Reads the events again after the snapshot, and returns the record.
pub async fn events_after(
    before: Option<EventsBefore>,
    schemas: &dyn Schemas,
    ctx: &RunContext,
) -> Option<RecordedEvents> {
    let EventsBefore { of, role, events } = before?;
    match schemas.events(&of).await {
        Ok(after) => Some(RecordedEvents::between(of, role, &events, after)),
        Err(error) => {
            ctx.reporter.notice(&format!("the events of {of} are not recorded: {error}"));
            None
        }
    }
}

/// Returns a finding if a recovery will not know all states of the events.
pub fn finding(recorded: Option<&RecordedEvents>) -> Option<Finding> {
    match recorded {
        Some(recorded) => recorded.finding(),
        None => Some(Finding::warning(
            "event-states-unknown",
            "the states of the shard's events were not recorded",
            "back up again when the primary answers; the account needs the EVENT privilege",
        )),
    }
}

/// Reads the plugins that the source loads from libraries.
pub async fn plugins(choice: &SourceChoice, schemas: &dyn Schemas, ctx: &RunContext) -> Vec<Plugin> {
    schemas.plugins(&choice.endpoint).await.unwrap_or_else(|error| {
        ctx.reporter.notice(&format!("the plugins of {} are not recorded: {error}", choice.endpoint));
        Vec::new()
    })
}
