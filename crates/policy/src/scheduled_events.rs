//! Scheduled events: their states at a shard's primary, and the states to restore on a recovered
//! server.
//!
//! A replica has every event of its primary as `REPLICA_SIDE_DISABLED`, so its data no longer
//! distinguishes enabled from disabled events. Each backup records their states; a recovery tracks
//! them through the replayed binlog and sets them on a new primary.

mod history;
mod plan;

use backstop_types::scheduled_events::{EventName, EventState};
use chrono::{DateTime, Utc};

pub use history::{EventHistory, SchemaNames};
pub use plan::{EventsPlan, EventsReport, EventsSetting, plan_events};

/// Number of events named in one sentence.
const MAX_NAMED_EVENTS: usize = 5;

/// An event of a recovered server, with the attributes that `ALTER EVENT` must not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentEvent {
    /// Its name.
    pub name: EventName,
    /// Its state.
    pub state: EventState,
    /// Its definer, `user@host`.
    pub definer: String,
    /// `character_set_client` and `collation_connection` of the session that created it: the server
    /// parses its body with them.
    pub charsets: (String, String),
    /// True if its schema's collation has changed since it was created: every `ALTER EVENT` also
    /// sets the present collation.
    pub recollated: bool,
    /// The end of its schedule: the time of a one-time event, or the end of a recurring one.
    pub last: Option<DateTime<Utc>>,
}

impl PresentEvent {
    /// Returns the statement that sets its state. The statement names the definer, since otherwise
    /// the session's user would become the definer.
    pub fn statement(&self, state: EventState) -> String {
        let (user, host) = self.definer.rsplit_once('@').unwrap_or((&self.definer, "%"));
        let state = match state {
            EventState::Enabled => "ENABLE",
            EventState::Disabled => "DISABLE",
            EventState::ReplicaSideDisabled => "DISABLE ON REPLICA",
        };
        let name = &self.name;
        format!(
            "ALTER DEFINER = {}@{} EVENT {}.{} {state}",
            quoted(user),
            quoted(host),
            quoted(&name.schema),
            quoted(&name.event)
        )
    }

    /// True if its name can be written in UTF-8 by a client: `ALTER EVENT` needs the event's own
    /// character set.
    fn is_pasted(&self) -> bool {
        self.charsets.0.starts_with("utf8") || self.statement(EventState::Enabled).is_ascii()
    }

    /// Returns the same statement for an operator's client, in two statements: `ALTER EVENT` also
    /// takes the session's character set.
    pub fn script(&self, state: EventState) -> String {
        let (client, connection) = &self.charsets;
        format!(
            "SET character_set_client = '{}', collation_connection = '{}'; {};",
            identifier(client),
            identifier(connection),
            self.statement(state)
        )
    }
}

/// Names the first events of a list, and counts the others.
pub(crate) fn list_events<'a>(names: impl ExactSizeIterator<Item = &'a EventName>) -> String {
    let all = names.len();
    let mut text = names.take(MAX_NAMED_EVENTS).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if all > MAX_NAMED_EVENTS {
        text.push_str(&format!(" and {} more", all - MAX_NAMED_EVENTS));
    }
    text
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Returns the name of a character set or collation, reduced to letters.
fn identifier(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_keep_definer_and_quote_names() {
        let event = PresentEvent {
            name: EventName { schema: "a`b".into(), event: "ü \"x".into() },
            state: EventState::Disabled,
            definer: "it's@me@%".into(),
            charsets: ("latin1".into(), "latin1_swedish_ci".into()),
            recollated: false,
            last: None,
        };
        assert!(!event.is_pasted());
        assert_eq!(
            event.script(EventState::Enabled),
            "SET character_set_client = 'latin1', collation_connection = 'latin1_swedish_ci'; \
             ALTER DEFINER = `it's@me`@`%` EVENT `a``b`.`ü \"x` ENABLE;"
        );
    }
}
