//! Compares the documents with the command line. `BLESS=1` rewrites those that are
//! generated.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};

const MAX_COLUMNS: usize = 100;

const INTRODUCTION: &str = "\
# Options

Every command with its arguments and options, generated from the program. [commands.md](commands.md)
explains what the commands do, their output and their exit codes.
";

pub(super) fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// Returns every command that does something, with its full name.
fn commands() -> Vec<(String, Command)> {
    let mut all = Vec::new();
    for command in super::command().get_subcommands() {
        let name = command.get_name().to_owned();
        if name == "help" {
            continue;
        }
        let inner: Vec<&Command> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
        if inner.is_empty() {
            all.push((name, command.clone()));
        } else {
            all.extend(inner.into_iter().map(|one| (format!("{name} {}", one.get_name()), one.clone())));
        }
    }
    all
}

fn own_arguments(command: &Command) -> Vec<&Arg> {
    command.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help").collect()
}

/// Returns an argument as an item of a list.
fn item(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let values = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let choices: Vec<_> = arg.get_possible_values().iter().map(|one| one.get_name().to_owned()).collect();
    let takes_value = arg.get_action().takes_values();
    let value = match (takes_value, choices.is_empty()) {
        (false, _) => String::new(),
        (true, true) => values,
        (true, false) => choices.join("|"),
    };
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), Some(short)) => format!("-{short}, --{long} {value}"),
        (Some(long), None) => format!("--{long} {value}"),
        (None, _) => value,
    };
    let mut text = format!("- `{}`: {}", name.trim_end(), arg.get_help().unwrap());
    if arg.is_required_set() && arg.get_long().is_some() {
        text.push_str(" (required)");
    }
    for alias in arg.get_visible_aliases().unwrap_or_default() {
        let _ = write!(text, " (also `--{alias}`)");
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|one| one.to_string_lossy()).collect();
    if takes_value && !defaults.is_empty() {
        let _ = write!(text, " [default: {}]", defaults.join(" "));
    }
    wrapped(&text.replace('\u{a0}', " "))
}

/// Breaks an item at spaces outside of backticks.
pub(super) fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    let mut quoted = false;
    let mut word = String::new();
    let mut put = |word: &mut String| {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > MAX_COLUMNS {
            lines.push(format!("  {word}"));
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
        word.clear();
    };
    for character in text.chars() {
        quoted ^= character == '`';
        if character.is_whitespace() && !quoted {
            if !word.is_empty() {
                put(&mut word);
            }
        } else {
            word.push(character);
        }
    }
    put(&mut word);
    lines.join("\n") + "\n"
}

fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (name, command) in commands() {
        let about = command.get_about().unwrap().to_string();
        let _ = write!(page, "\n## {name}\n\n{about}.\n\n```\n{}\n```\n", usage(&command));
        let arguments = own_arguments(&command);
        if !arguments.is_empty() {
            page.push('\n');
            page.extend(arguments.into_iter().map(item));
        }
    }
    page.push_str("\n## Options of every command\n\n");
    let main = super::command();
    page.extend(main.get_arguments().filter(|arg| arg.is_global_set()).map(item));
    page
}

/// Fails unless the document is this page.
pub(super) fn assert_generated(name: &str, page: &str) {
    let path = document(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let line = kept.lines().zip(page.lines()).take_while(|(kept, now)| kept == now).count();
    assert!(kept == page, "docs/{name}, line {}: run this test with BLESS=1", line + 1);
}

#[test]
fn options_document_is_generated_from_the_program() {
    assert_generated("options.md", &reference());
}

#[test]
fn commands_document_explains_every_option_of_a_command() {
    let text = std::fs::read_to_string(document("commands.md")).unwrap();
    for (name, command) in commands() {
        let section = text.split("\n## ").find(|section| section.lines().next() == Some(&name));
        let section = section.unwrap_or_else(|| panic!("commands.md has no section on {name}"));
        for long in own_arguments(&command).iter().filter_map(|arg| arg.get_long()) {
            assert!(section.contains(&format!("`--{long}")), "commands.md, {name}: --{long} is missing");
        }
    }
}
