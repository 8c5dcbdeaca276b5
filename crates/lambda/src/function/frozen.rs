//! Answers, errors and events of the log stay what they are, byte for byte: `tests/frozen`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use backstop_model::fault::{Fault, Kind};
use backstop_testkit::every;
use backstop_testkit::frozen::frozen;
use lambda_runtime::Diagnostic;

use super::{CREATE, Failed, ID, REPOSITORY};

#[test]
fn errors() {
    let kinds = every!(
        Kind: Kind::Failed, Kind::Usage, Kind::Store, Kind::Held, Kind::Denied, Kind::Refused,
        Kind::NotRecoverable, Kind::Damaged, Kind::Interrupted
    );
    let faults = kinds.into_iter().map(|kind| Fault::new(kind, "it broke").hint("mend it"));
    let told = |fault| {
        let Diagnostic { error_type, error_message } = Diagnostic::from(Failed(fault));
        format!("{error_type}: {error_message}\n")
    };
    frozen("errors.txt", &faults.chain([Fault::failed("it broke")]).map(told).collect::<String>());
    frozen("variables.txt", &[REPOSITORY, CREATE, ID].map(|name| format!("{name}\n")).concat());
}

/// Alarms are set on the names of events and of their fields.
#[test]
fn events_of_the_log() {
    let sources =
        [include_str!("../function.rs"), include_str!("../outcome.rs"), include_str!("../narrate.rs")];
    let mut events = BTreeSet::new();
    for after in sources.iter().flat_map(|text| text.split("tracing::").skip(1)) {
        let (level, call) = after.split_once('(').unwrap();
        let parts =
            call.split(')').next().unwrap().split(',').map(str::trim).filter(|part| !part.starts_with('"'));
        let name = |part: &str| match part.strip_prefix("event =") {
            Some(_) => part.to_owned(),
            None => part.split(" =").next().unwrap_or_default().to_owned(),
        };
        let names: Vec<String> = parts.map(name).collect();
        if names[0].starts_with("event") {
            events.insert(format!("{level}: {}", names.join(", ")));
        }
    }
    frozen("log-events.txt", &events.iter().map(|event| format!("{event}\n")).collect::<String>());
}
