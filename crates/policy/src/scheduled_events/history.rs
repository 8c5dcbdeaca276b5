//! States of a primary's events, tracked through the statements of its binlog.

use std::collections::BTreeMap;

use backstop_types::scheduled_events::{EventChange, EventName, EventState, RecordedEvents};
use backstop_types::server::RecordedSettings;
use backstop_types::topology::Role;

/// Case sensitivity of schema names. Event names are never case-sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaNames {
    /// Schema names are case-sensitive.
    Exact,
    /// Schema names are not case-sensitive.
    AnyCase,
}

impl SchemaNames {
    /// Returns the case sensitivity by a server's `lower_case_table_names`.
    pub fn of(settings: &RecordedSettings) -> Self {
        match settings.get("lower_case_table_names").map(String::as_str) {
            None | Some("0") => Self::Exact,
            Some(_) => Self::AnyCase,
        }
    }
}

/// States of a primary's events at some moment, as far as known.
#[derive(Debug, Clone)]
pub struct EventHistory {
    schemas: SchemaNames,
    states: BTreeMap<(String, String), EventState>,
    /// True if an event that is not in `states` does not exist.
    complete: bool,
    doubts: Vec<String>,
}

impl EventHistory {
    /// Returns the states recorded with a backup, if its primary reported them; otherwise none is
    /// known.
    pub fn recorded(recorded: Option<&RecordedEvents>, schemas: SchemaNames) -> Self {
        let mut history = Self { schemas, states: BTreeMap::new(), complete: false, doubts: Vec::new() };
        if let Some(recorded) = recorded.filter(|recorded| recorded.role == Role::Primary) {
            history.complete = true;
            for event in &recorded.told.events {
                history.states.insert(history.key(&event.name), event.state);
            }
        }
        history
    }

    /// Applies a change.
    pub fn apply(&mut self, change: &EventChange) {
        match change {
            EventChange::Created { name, state, unless_there } => {
                let key = self.key(name);
                match (self.states.contains_key(&key), self.complete) {
                    (true, _) | (_, false) if *unless_there => {}
                    _ => {
                        self.states.insert(key, *state);
                    }
                }
            }
            EventChange::Altered { name, renamed, state } => {
                self.altered(name, renamed.as_ref(), *state);
            }
            EventChange::Dropped { name } => {
                self.states.remove(&self.key(name));
            }
            EventChange::SchemaDropped { schema } => {
                let schema = self.schema(schema);
                self.states.retain(|(of, _), _| *of != schema);
            }
            EventChange::NotUnderstood { statement } => {
                self.lose(format!("a statement of the archive cannot be read: {statement}"));
            }
        }
    }

    /// Forgets the states of the events that a change affects: the recorded state is from after the
    /// change, the recovered state from before it.
    pub fn doubt(&mut self, change: &EventChange) {
        match change {
            EventChange::Created { name, .. } | EventChange::Dropped { name } => {
                self.states.remove(&self.key(name));
            }
            EventChange::Altered { name, renamed, .. } => {
                for name in [Some(name), renamed.as_ref()].into_iter().flatten() {
                    self.states.remove(&self.key(name));
                }
            }
            EventChange::SchemaDropped { .. } => {}
            EventChange::NotUnderstood { .. } => self.apply(change),
        }
    }

    fn altered(&mut self, name: &EventName, renamed: Option<&EventName>, state: Option<EventState>) {
        let (old, new) = (self.key(name), self.key(renamed.unwrap_or(name)));
        let before = self.states.remove(&old);
        // The archive contains the rename that the recorded state already includes.
        let known = before.or_else(|| self.states.get(&new).copied());
        if known.is_none() && self.complete {
            self.lose(format!("the archive alters event {name}, which is unknown"));
        }
        if let Some(state) = state.or(known) {
            self.states.insert(new, state);
        }
    }

    /// Forgets all states and records the reason.
    pub fn lose(&mut self, why: String) {
        self.states.clear();
        self.complete = false;
        self.doubts.push(why);
    }

    /// Returns an event's state, if known.
    pub fn state(&self, name: &EventName) -> Option<EventState> {
        self.states.get(&self.key(name)).copied()
    }

    /// Returns the reasons why states were forgotten.
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    fn key(&self, name: &EventName) -> (String, String) {
        (self.schema(&name.schema), name.event.to_lowercase())
    }

    fn schema(&self, schema: &str) -> String {
        match self.schemas {
            SchemaNames::Exact => schema.to_owned(),
            SchemaNames::AnyCase => schema.to_lowercase(),
        }
    }
}

#[cfg(test)]
mod tests {
    use EventState::{Disabled, Enabled, ReplicaSideDisabled};
    use backstop_types::gtid::GtidSet;
    use backstop_types::ids::Endpoint;
    use backstop_types::scheduled_events::{RecordedEvent, ServerEvents};

    use super::*;

    fn name(text: &str) -> EventName {
        let (schema, event) = text.split_once('.').unwrap_or(("s", text));
        EventName { schema: schema.into(), event: event.into() }
    }

    fn recorded(role: Role, events: &[(&str, EventState)]) -> RecordedEvents {
        let events = events.iter().map(|(event, state)| RecordedEvent { name: name(event), state: *state });
        RecordedEvents {
            of: Endpoint::new("db1", 3306),
            role,
            told: ServerEvents { scheduler: "ON".into(), executed: GtidSet::new(), events: events.collect() },
        }
    }

    fn history(schemas: SchemaNames) -> EventHistory {
        let recorded = recorded(Role::Primary, &[("s.on", Enabled), ("s.off", Disabled), ("t.on", Enabled)]);
        EventHistory::recorded(Some(&recorded), schemas)
    }

    fn altered(old: &str, new: Option<&str>, state: Option<EventState>) -> EventChange {
        EventChange::Altered { name: name(old), renamed: new.map(name), state }
    }

    fn created(event: &str, state: EventState, unless_there: bool) -> EventChange {
        EventChange::Created { name: name(event), state, unless_there }
    }

    #[test]
    fn event_states_follow_the_statements() {
        let mut history = history(SchemaNames::Exact);
        for change in [
            altered("s.ON", Some("t.moved"), None),
            altered("s.off", None, Some(Enabled)),
            created("s.new", Disabled, false),
            created("s.off", Disabled, true),
            created("s.other", ReplicaSideDisabled, true),
            EventChange::Dropped { name: name("t.on") },
        ] {
            history.apply(&change);
        }
        let of = |event| history.state(&name(event));
        assert_eq!((of("s.on"), of("T.moved"), of("t.Moved")), (None, None, Some(Enabled)));
        assert_eq!((of("s.off"), of("s.new"), of("t.on")), (Some(Enabled), Some(Disabled), None));
        assert_eq!((of("s.other"), history.doubts().len()), (Some(ReplicaSideDisabled), 0));
        history.apply(&EventChange::SchemaDropped { schema: "t".into() });
        assert_eq!(history.state(&name("t.moved")), None);
    }

    #[test]
    fn schema_names_follow_lower_case_table_names() {
        assert_eq!(history(SchemaNames::Exact).state(&name("S.on")), None);
        assert_eq!(history(SchemaNames::AnyCase).state(&name("S.on")), Some(Enabled));
    }

    #[test]
    fn states_are_unknown_after_an_unreadable_statement() {
        for change in
            [EventChange::NotUnderstood { statement: "ALTER EVENT ?".into() }, altered("s.ón", None, None)]
        {
            let mut history = history(SchemaNames::Exact);
            history.apply(&change);
            assert_eq!((history.state(&name("s.off")), history.doubts().len()), (None, 1), "{change:?}");
            history.apply(&created("s.on", Disabled, true));
            assert_eq!(history.state(&name("s.on")), None);
            history.apply(&altered("s.on", None, Some(Enabled)));
            assert_eq!(history.state(&name("s.on")), Some(Enabled));
        }
    }

    #[test]
    fn states_recorded_after_the_target_are_doubted() {
        let mut history = history(SchemaNames::Exact);
        history.doubt(&altered("s.before", Some("s.ON"), None));
        history.doubt(&EventChange::Dropped { name: name("t.on") });
        let of = |event| history.state(&name(event));
        assert_eq!((of("s.on"), of("t.on"), of("s.off")), (None, None, Some(Disabled)));
        history.doubt(&EventChange::NotUnderstood { statement: "?".into() });
        assert_eq!((history.state(&name("s.off")), history.doubts().len()), (None, 1));
    }

    #[test]
    fn states_recorded_at_a_replica_are_doubted() {
        let recorded = recorded(Role::Candidate, &[("s.on", Enabled)]);
        let mut history = EventHistory::recorded(Some(&recorded), SchemaNames::Exact);
        assert_eq!(history.state(&name("s.on")), None);
        history.apply(&created("s.new", Enabled, false));
        assert_eq!((history.state(&name("s.new")), history.doubts().len()), (Some(Enabled), 0));
    }
}
