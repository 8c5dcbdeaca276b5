//! Compares answers, errors and log events with `tests/frozen`: their bytes must not change.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use backstop_testkit::every;
use backstop_testkit::frozen::{frozen, lines, parsed};
use backstop_types::error::{Error, ErrorKind};
use lambda_runtime::Diagnostic;

use super::{CREATE_VARIABLE, InvocationError, REPOSITORY_ID_VARIABLE, REPOSITORY_VARIABLE, TAGS_VARIABLE};
use crate::lambda_event::Invocation;

#[test]
fn errors_and_variables_stay_the_same() {
    let kinds = every!(
        ErrorKind: ErrorKind::Failed, ErrorKind::Usage, ErrorKind::Store, ErrorKind::Held, ErrorKind::Denied, ErrorKind::Refused,
        ErrorKind::NotRecoverable, ErrorKind::Damaged, ErrorKind::Interrupted
    );
    let faults = kinds.into_iter().map(|kind| Error::new(kind, "it broke").hint("mend it"));
    let told = |error| {
        let Diagnostic { error_type, error_message } = Diagnostic::from(InvocationError(error));
        format!("{error_type}: {error_message}\n")
    };
    frozen("errors.txt", &faults.chain([Error::failed("it broke")]).map(told).collect::<String>());
    frozen(
        "variables.txt",
        &[REPOSITORY_VARIABLE, CREATE_VARIABLE, REPOSITORY_ID_VARIABLE, TAGS_VARIABLE]
            .map(|name| format!("{name}\n"))
            .concat(),
    );
}

#[test]
fn invocations() {
    let read = |event: &String| Invocation::parse(&parsed(event)).unwrap();
    let described = |one: Invocation| {
        let kind = serde_json::to_string(&one.kind).unwrap();
        format!("{} {kind} {}\n", one.secret_id, one.occasion("a-request"))
    };
    frozen(
        "invocations-read.txt",
        &lines("invocation.json").iter().map(read).map(described).collect::<String>(),
    );
}

/// Alarms depend on the names of events and of their fields.
#[test]
fn log_events_stay_the_same() {
    let sources = [
        include_str!("../invocation.rs"),
        include_str!("../completion.rs"),
        include_str!("../outcome.rs"),
        include_str!("../logging.rs"),
    ];
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
