//! Plans the events of a new primary: to enable, to disable, or to leave to its operator.

use backstop_types::finding::Finding;
use backstop_types::scheduled_events::{EventName, EventState, RecordedEvents};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{EventHistory, PresentEvent, list_events};

/// Handling of events in a recovery as primary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventsSetting {
    /// Enables those that were enabled on the primary, and turns the scheduler on if it was on.
    #[default]
    Enable,
    /// Prints the statements for this without executing them.
    Print,
}

/// Plan for the events of a recovered server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsPlan {
    /// Events with the states to set.
    pub set: Vec<(PresentEvent, EventState)>,
    /// Events that were enabled and whose schedule has ended: if enabled, they could run once more.
    pub over: Vec<PresentEvent>,
    /// Events whose state on the primary is unknown.
    pub unknown: Vec<PresentEvent>,
    /// Events that run once the plan is carried out and the scheduler runs.
    pub enabled: Vec<EventName>,
    /// Events that were disabled on the primary and remain disabled.
    pub disabled: Vec<EventName>,
    /// Reasons why states are unknown, other than that they were not recorded.
    pub doubts: Vec<String>,
}

/// Resulting states of the events of a recovered server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsReport {
    /// Events that run, or would if the scheduler ran.
    pub enabled: Vec<EventName>,
    /// Events that do not run.
    pub disabled: Vec<EventName>,
    /// Events that do not run and whose state on the primary is unknown.
    pub unknown: Vec<EventName>,
    /// True if the scheduler runs.
    pub scheduler: bool,
    /// Statements that were not executed and that would enable what was enabled on the primary.
    pub statements: Vec<String>,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// Decides the state of each event of a server, so that it equals the state on the primary.
pub fn plan_events(history: &EventHistory, present: Vec<PresentEvent>, now: DateTime<Utc>) -> EventsPlan {
    let mut plan = EventsPlan { doubts: history.doubts().to_vec(), ..EventsPlan::default() };
    for event in present {
        let name = event.name.clone();
        match (history.state(&name), event.state) {
            (Some(EventState::Enabled), state) => {
                if state == EventState::Enabled {
                    plan.enabled.push(name);
                } else if event.last.is_some_and(|last| last <= now) {
                    plan.over.push(event);
                } else {
                    plan.enabled.push(name);
                    plan.set.push((event, EventState::Enabled));
                }
            }
            (Some(wanted), state) => {
                plan.disabled.push(name);
                if wanted != state {
                    plan.set.push((event, wanted));
                }
            }
            // A backup of the primary itself has the state in its data.
            (None, EventState::Enabled) => plan.enabled.push(name),
            (None, EventState::Disabled | EventState::ReplicaSideDisabled) => plan.unknown.push(event),
        }
    }
    plan
}

impl EventsPlan {
    /// True if the recorded scheduler was on, or nothing was recorded: MySQL's default is on.
    pub fn scheduler(recorded: Option<&RecordedEvents>) -> bool {
        recorded.is_none_or(|recorded| recorded.told.scheduler == "ON")
    }

    /// Returns the findings of a plan, independent of who carries it out.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(first) = self.unknown.first() {
            let names = list_events(self.unknown.iter().map(|event| &event.name));
            let why = self.doubts.first().map_or(String::new(), |why| format!(" ({why})"));
            findings.push(Finding::warning(
                "event-states-unknown",
                format!("it is not known whether these events were enabled on the primary, so they do not fire: {names}{why}"),
                format!("for each event that should fire, run: {}", first.script(EventState::Enabled)),
            ));
        }
        let recollated: Vec<_> = self.set.iter().filter(|(event, _)| event.recollated).collect();
        if !recollated.is_empty() {
            let names = list_events(recollated.iter().map(|(event, _)| &event.name));
            findings.push(Finding::warning(
                "events-recollated",
                format!("the collation of their schema was changed after these events were created, and ALTER EVENT assigns it to them: {names}"),
                "check whether they compare declared text",
            ));
        }
        if let Some(first) = self.over.first() {
            let names = list_events(self.over.iter().map(|event| &event.name));
            findings.push(Finding::warning(
                "events-over",
                format!("the execution time of these events is over, so they were not enabled: {names}"),
                format!(
                    "check whether they ran before the loss; if enabled, they run now: {}",
                    first.script(EventState::Enabled)
                ),
            ));
        }
        findings
    }

    /// Returns the report for a plan that is left to the operator. `scheduler`: the scheduler is to
    /// run.
    pub fn printed(&self, scheduler: bool) -> EventsReport {
        let to_set = |name: &&EventName| self.set.iter().any(|(event, _)| event.name == **name);
        let (pasted, other): (Vec<_>, Vec<_>) = self.set.iter().partition(|(event, _)| event.is_pasted());
        let mut statements: Vec<String> = pasted.iter().map(|(event, state)| event.script(*state)).collect();
        if scheduler {
            statements.push("SET PERSIST event_scheduler = ON;".to_owned());
        }
        let mut report = self.report(&[]);
        report.findings.extend(other.iter().map(|(event, _)| {
            let what = format!(
                "no statement can be printed for event {}: its name is not ASCII, and its character set is {}",
                event.name, event.charsets.0
            );
            Finding::warning("event-not-set", what, "alter it in a session of that character set")
        }));
        let (on, off) = (&self.enabled, report.disabled);
        EventsReport {
            enabled: on.iter().filter(|name| !to_set(name)).cloned().collect(),
            disabled: on.iter().filter(to_set).cloned().chain(off).collect(),
            statements,
            ..report
        }
    }

    /// Returns the report for a plan that was carried out, except for the events in `failed`.
    pub fn report(&self, failed: &[(EventName, String)]) -> EventsReport {
        let did = |name: &&EventName| !failed.iter().any(|(failed, _)| failed == *name);
        let over = self.over.iter().map(|event| &event.name);
        let mut findings = self.findings();
        findings.extend(failed.iter().map(|(name, why)| {
            let todo = "enable or disable it with ALTER EVENT, as it was on the primary";
            Finding::warning("event-not-set", format!("cannot set the state of event {name}: {why}"), todo)
        }));
        EventsReport {
            enabled: self.enabled.iter().filter(did).cloned().collect(),
            disabled: self.disabled.iter().chain(over).cloned().collect(),
            unknown: self.unknown.iter().map(|event| event.name.clone()).collect(),
            scheduler: false,
            statements: Vec::new(),
            findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use EventState::{Disabled, Enabled, ReplicaSideDisabled};
    use backstop_types::gtid::GtidSet;
    use backstop_types::ids::Endpoint;
    use backstop_types::scheduled_events::{RecordedEvent, ServerEvents};
    use backstop_types::topology::Role;

    use super::super::SchemaNames;
    use super::*;

    fn name(event: &str) -> EventName {
        EventName { schema: "s".into(), event: event.into() }
    }

    fn present(event: &str, state: EventState, last: Option<i64>) -> PresentEvent {
        PresentEvent {
            name: name(event),
            state,
            definer: "u@%".into(),
            charsets: ("utf8mb4".into(), "utf8mb4_0900_ai_ci".into()),
            recollated: event == "later",
            last: last.and_then(|at| DateTime::from_timestamp(at, 0)),
        }
    }

    #[test]
    fn events_get_the_state_they_had_at_the_primary() {
        let known =
            [("on", Enabled), ("off", Disabled), ("once", Enabled), ("later", Enabled), ("is", Enabled)];
        let events = known.map(|(event, state)| RecordedEvent { name: name(event), state });
        let recorded = RecordedEvents {
            of: Endpoint::new("db1", 3306),
            role: Role::Primary,
            told: ServerEvents { scheduler: "OFF".into(), executed: GtidSet::new(), events: events.to_vec() },
        };
        let history = EventHistory::recorded(Some(&recorded), SchemaNames::Exact);
        let events = vec![
            present("on", ReplicaSideDisabled, None),
            present("off", ReplicaSideDisabled, None),
            present("once", ReplicaSideDisabled, Some(10)),
            present("later", ReplicaSideDisabled, Some(30)),
            present("is", Enabled, None),
            present("new", ReplicaSideDisabled, None),
        ];
        let now = DateTime::from_timestamp(20, 0).unwrap_or_default();
        let plan = plan_events(&history, events, now);
        let set: Vec<_> = plan.set.iter().map(|(event, state)| (event.name.event.as_str(), *state)).collect();
        assert_eq!(set, [("on", Enabled), ("off", Disabled), ("later", Enabled)]);
        assert_eq!(plan.enabled, ["on", "later", "is"].map(name));
        let report = plan.report(&[(name("later"), "no".into())]);
        assert_eq!(
            (report.enabled, report.disabled),
            (["on", "is"].map(name).to_vec(), ["off", "once"].map(name).to_vec())
        );
        assert_eq!(report.unknown, [name("new")]);
        let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code.as_ref()).collect();
        assert_eq!(codes, ["event-states-unknown", "events-recollated", "events-over", "event-not-set"]);
        let printed = plan.printed(true);
        assert_eq!(printed.enabled, [name("is")]);
        assert_eq!(printed.disabled, ["on", "later", "off", "once"].map(name));
        assert!(printed.statements[0].ends_with("EVENT `s`.`on` ENABLE;"), "{printed:?}");
        assert_eq!(printed.statements[3], "SET PERSIST event_scheduler = ON;");
        assert!(!EventsPlan::scheduler(Some(&recorded)) && EventsPlan::scheduler(None));
    }
}
