//! Scheduled events of a server and their states.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::gtid::GtidSet;
use crate::ids::Endpoint;
use crate::topology::Role;

/// An event's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventName {
    /// Its schema.
    pub schema: String,
    /// Its name in the schema.
    pub event: String,
}

impl fmt::Display for EventName {
    /// Writes `schema.event`, with control characters escaped: names are data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| -> String {
            text.chars()
                .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
                .collect()
        };
        write!(f, "{}.{}", plain(&self.schema), plain(&self.event))
    }
}

/// State of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// It runs where the scheduler runs.
    Enabled,
    /// It does not run.
    Disabled,
    /// It does not run, since it was created on another server.
    ReplicaSideDisabled,
}

impl EventState {
    /// Parses the value of `information_schema.EVENTS`, in any version.
    pub fn of(status: &str) -> Self {
        match status {
            "ENABLED" => Self::Enabled,
            "DISABLED" => Self::Disabled,
            _ => Self::ReplicaSideDisabled,
        }
    }
}

/// An event and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEvent {
    /// Its name.
    #[serde(flatten)]
    pub name: EventName,
    /// Its state on the queried server.
    pub state: EventState,
}

/// All events of a server, as reported by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerEvents {
    /// `@@GLOBAL.event_scheduler`: `ON`, `OFF` or `DISABLED`.
    pub scheduler: String,
    /// The GTIDs it had executed before it reported its events.
    pub executed: GtidSet,
    /// The events.
    pub events: Vec<RecordedEvent>,
}

/// The events of a shard as recorded with a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEvents {
    /// The queried server.
    pub of: Endpoint,
    /// Its role in the shard. Only a primary knows which events are enabled.
    pub role: Role,
    /// Its report just after the snapshot, without events that changed during the snapshot.
    #[serde(flatten)]
    pub told: ServerEvents,
}

impl RecordedEvents {
    /// Keeps what a server reported both before and after the snapshot. An event whose state
    /// differs is dropped and is unknown.
    pub fn between(of: Endpoint, role: Role, before: &ServerEvents, mut after: ServerEvents) -> Self {
        after.events.retain(|event| before.events.contains(event));
        Self { of, role, told: after }
    }

    /// Returns a finding that the states of the shard's events are unknown, if there are events and
    /// no primary reported them.
    pub fn finding(&self) -> Option<Finding> {
        let first = self.told.events.first().filter(|_| self.role != Role::Primary)?;
        let what = format!(
            "no primary reported which events are enabled: {} and all other events of {} are recorded as unknown",
            first.name, self.of
        );
        Some(Finding::warning("event-states-unknown", what, "back up again when the primary answers"))
    }
}

/// Effect of a binlog statement on events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventChange {
    /// `CREATE EVENT`.
    Created {
        /// Its name.
        name: EventName,
        /// Its state.
        state: EventState,
        /// True for `IF NOT EXISTS`: an existing event is unchanged.
        unless_there: bool,
    },
    /// `ALTER EVENT`.
    Altered {
        /// Its name before.
        name: EventName,
        /// Its new name, if it is renamed.
        renamed: Option<EventName>,
        /// Its new state, if it changes.
        state: Option<EventState>,
    },
    /// `DROP EVENT`.
    Dropped {
        /// Its name.
        name: EventName,
    },
    /// `DROP DATABASE`: all its events are dropped.
    SchemaDropped {
        /// The schema.
        schema: String,
    },
    /// A statement on an event that could not be parsed.
    NotUnderstood {
        /// Its first characters.
        statement: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &[(&str, EventState)]) -> ServerEvents {
        let event = |(name, state): &(&str, EventState)| RecordedEvent {
            name: EventName { schema: "s".into(), event: (*name).to_owned() },
            state: *state,
        };
        ServerEvents {
            scheduler: "ON".into(),
            executed: GtidSet::new(),
            events: events.iter().map(event).collect(),
        }
    }

    #[test]
    fn events_changed_during_the_snapshot_are_not_recorded() {
        use EventState::{Disabled, Enabled};
        let before = told(&[("a", Enabled), ("b", Enabled)]);
        let after = told(&[("a", Enabled), ("b", Disabled), ("c", Enabled)]);
        let of = Endpoint::new("db1", 3306);
        let recorded = RecordedEvents::between(of.clone(), Role::Primary, &before, after);
        assert_eq!(recorded.told, told(&[("a", Enabled)]));
        assert_eq!(recorded.finding(), None);
        let unsure = RecordedEvents { role: Role::Candidate, ..recorded };
        assert!(unsure.finding().is_some_and(|finding| finding.what.contains("s.a")));
        assert_eq!(RecordedEvents { told: told(&[]), ..unsure }.finding(), None);
    }
}
