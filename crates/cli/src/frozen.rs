//! Tests that the `--json` output of commands, and the set of commands and options, stay the same,
//! byte for byte: `tests/frozen`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod backups;
mod hosts;
mod recoveries;
mod shards;

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::str::FromStr;

use backstop_testkit::every;
use backstop_testkit::frozen::{frozen, lines, names, parsed};
use backstop_types::error::ErrorKind;
use backstop_types::finding::Finding;
use backstop_types::gtid::GtidSet;
use backstop_types::ids::{BackupId, Endpoint};
use chrono::{DateTime, Utc};
use clap::CommandFactory;
use serde::Serialize;

use crate::args::CommandLine;
use crate::commands::CommandOutcome;
use crate::output;
use crate::text::RenderText;

/// Fails unless a command prints exactly this. `name` is the command's name and its arguments.
fn printed<R: Serialize + RenderText>(name: &str, reports: &[R]) {
    let text = reports.iter().map(|report| output::json(report).unwrap());
    frozen(&format!("{name}.json"), &text.collect::<String>());
}

fn of<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn gtids(numbers: &str) -> GtidSet {
    of(&format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{numbers}"))
}

fn at() -> DateTime<Utc> {
    of("2026-11-23T02:21:33.25Z")
}

fn id() -> BackupId {
    of("20261123T022133Z-9f3a04c1")
}

fn server(host: &str) -> Endpoint {
    Endpoint { host: host.into(), port: 3306 }
}

/// Returns one finding of each severity with every field, and one without the optional fields.
fn findings() -> Vec<Finding> {
    let all = include_str!("../../policy/tests/frozen/finding.json");
    all.lines().map(parsed).collect()
}

/// Commands that print no report.
const TEXT_ONLY: [&str; 2] = ["completions", "help"];

#[test]
fn every_command_has_a_frozen_report() {
    let mut commands = BTreeSet::new();
    for command in CommandLine::command().get_subcommands() {
        let name = command.get_name();
        let inner = command.get_subcommands().map(|inner| format!("{name}-{}", inner.get_name()));
        let inner: Vec<String> = inner.collect();
        commands.extend(if inner.is_empty() { vec![name.to_owned()] } else { inner });
    }
    commands.retain(|name| !TEXT_ONLY.contains(&name.as_str()));
    let files: Vec<String> =
        names(".json").iter().map(|name| name.trim_end_matches(".json").to_owned()).collect();
    let has = |command: &String| files.iter().any(|file| file.split('.').next() == Some(command));
    let without: Vec<&String> = commands.iter().filter(|command| !has(command)).collect();
    assert!(without.is_empty(), "no report of these commands is frozen: {without:?}");
    for file in files {
        let command = file.split('.').next().unwrap_or_default();
        assert!(commands.contains(command), "{file}.json is of no command");
        assert!(
            lines(&format!("{file}.json")).iter().all(|line| line.starts_with("{\"version\":1,")),
            "{file}"
        );
    }
}

#[test]
fn commands_and_options_stay_the_same() {
    let mut text = String::new();
    described(&CommandLine::command(), "backstop", &mut text);
    frozen("command-line.txt", &text);
}

fn described(command: &clap::Command, path: &str, text: &mut String) {
    writeln!(text, "{path}").unwrap();
    for argument in command.get_arguments() {
        let long = argument.get_long().map_or_else(String::new, |long| format!(" --{long}"));
        let short = argument.get_short().map_or_else(String::new, |short| format!(" -{short}"));
        let env = argument.get_env().map_or_else(String::new, |env| format!(" env {}", env.display()));
        let takes = argument.get_action().takes_values();
        // The list of shells comes from clap, not from Backstop.
        let choices = takes && command.get_name() != "completions";
        let values = if choices { argument.get_possible_values() } else { Vec::new() };
        let values = values.iter().map(|value| format!(" {}", value.get_name())).collect::<String>();
        let aliases = argument.get_all_aliases().unwrap_or_default();
        let aliases = aliases.iter().map(|alias| format!(" --{alias}")).collect::<String>();
        let value = if takes {
            argument.get_value_names().unwrap_or_default().iter().map(|name| format!(" {name}")).collect()
        } else {
            String::new()
        };
        let required = if argument.is_required_set() { " required" } else { "" };
        writeln!(text, " {short}{long}{aliases}{value}{required}{env}{values}").unwrap();
    }
    for inner in command.get_subcommands() {
        described(inner, &format!("{path} {}", inner.get_name()), text);
    }
}

#[test]
fn exit_codes_stay_the_same() {
    let kinds = every!(
        ErrorKind: ErrorKind::Failed, ErrorKind::Usage, ErrorKind::Store, ErrorKind::Held, ErrorKind::Denied, ErrorKind::Refused,
        ErrorKind::NotRecoverable, ErrorKind::Damaged, ErrorKind::Interrupted
    );
    let codes: Vec<u8> = kinds.into_iter().map(ErrorKind::exit_code).collect();
    assert_eq!(codes, [1, 2, 10, 11, 12, 20, 21, 22, 130]);
    let ends = every!(CommandOutcome: CommandOutcome::Well, CommandOutcome::Attention, CommandOutcome::Absent, CommandOutcome::Damaged);
    let codes: Vec<u8> = ends.into_iter().map(CommandOutcome::exit_code).collect();
    assert_eq!(codes, [0, 1, 21, 22]);
}
