//! What is recorded with a backup besides its data: the states of the shard's events, and the source's plugins.

use backstop_model::events::{RecordedEvents, ToldEvents};
use backstop_model::finding::Finding;
use backstop_model::ids::Endpoint;
use backstop_model::plugins::Plugin;
use backstop_model::topology::{Choice, Role};

use crate::ports::Schemas;
use crate::world::World;

/// Who tells the events of a shard, and what it told before the snapshot.
pub struct Before {
    of: Endpoint,
    role: Role,
    told: ToldEvents,
}

/// Asks for the events before the snapshot: the primary, or the source if no primary answers. No backup fails for it.
pub async fn before(choice: &Choice, schemas: &dyn Schemas, world: &World) -> Option<Before> {
    let source = (&choice.endpoint, choice.role);
    let primary = choice.primary.as_ref().map(|primary| (primary, Role::Primary));
    for (of, role) in primary.into_iter().chain([source]) {
        match schemas.events(of).await {
            Ok(told) => return Some(Before { of: of.clone(), role, told }),
            Err(fault) => world.reporter.notice(&format!("the events of {of} are not recorded: {fault}")),
        }
    }
    None
}

/// Asks again after the snapshot, and gives what is recorded.
pub async fn after(before: Option<Before>, schemas: &dyn Schemas, world: &World) -> Option<RecordedEvents> {
    let Before { of, role, told } = before?;
    match schemas.events(&of).await {
        Ok(after) => Some(RecordedEvents::between(of, role, &told, after)),
        Err(fault) => {
            world.reporter.notice(&format!("the events of {of} are not recorded: {fault}"));
            None
        }
    }
}

/// Says what a recovery will not know of the events.
pub fn finding(recorded: Option<&RecordedEvents>) -> Option<Finding> {
    match recorded {
        Some(recorded) => recorded.finding(),
        None => Some(Finding::warning(
            "event-states-unknown",
            "the states of the shard's events were not recorded",
            "back up again when the primary answers; the account needs the privilege EVENT",
        )),
    }
}

/// Asks the source for the plugins that it loads from libraries.
pub async fn plugins(choice: &Choice, schemas: &dyn Schemas, world: &World) -> Vec<Plugin> {
    schemas.plugins(&choice.endpoint).await.unwrap_or_else(|fault| {
        world.reporter.notice(&format!("the plugins of {} are not recorded: {fault}", choice.endpoint));
        Vec::new()
    })
}
