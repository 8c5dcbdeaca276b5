//! Help output: all commands have the same form, text is wrapped once, to the terminal, and
//! commands are never broken.

#[cfg(test)]
mod first_day;
#[cfg(test)]
mod reference;

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory};

use crate::args::CommandLine;

/// Space at which clap does not break a line. [`shown`] replaces it by a common space.
const NO_BREAK_SPACE: &str = "\u{a0}";

/// Note below the examples of each command.
const GLOBAL_OPTIONS_NOTE: &str = "Options of every command: backstop --help";

/// Returns the command line with its help.
pub fn command() -> Command {
    let mut command = reworded(CommandLine::command());
    // After this call each command has the options of every command.
    command.build();
    command.mut_subcommands(brief)
}

/// Converts rendered help for printing.
pub fn shown(rendered: &str) -> String {
    rendered.replace(NO_BREAK_SPACE, " ")
}

/// Keeps commands on one line, and describes each value of an option.
fn reworded(command: Command) -> Command {
    let is_main = command.get_name() == "backstop";
    let below = command.get_after_help().map(|text| text.to_string()).map(|text| {
        let whole = |line: &str| match line.starts_with("    backstop ") {
            true => line.replace(' ', NO_BREAK_SPACE),
            false => line.to_owned(),
        };
        let lines = text.lines().map(whole).collect::<Vec<_>>().join("\n");
        if is_main { lines } else { format!("{lines}\n\n{GLOBAL_OPTIONS_NOTE}") }
    });
    command
        .after_help(below.unwrap_or_else(|| GLOBAL_OPTIONS_NOTE.to_owned()))
        .mut_args(explained)
        .mut_subcommands(reworded)
}

fn explained(arg: Arg) -> Arg {
    let values = arg.get_possible_values();
    let described: Vec<String> = values.iter().filter_map(value).collect();
    match arg.get_help().map(|help| help.to_string()) {
        Some(help) if !described.is_empty() => {
            arg.help(format!("{help}: {}", described.join(", "))).hide_possible_values(true)
        }
        _ => arg,
    }
}

/// Describes a value: `scheduled (a timer)`.
fn value(value: &PossibleValue) -> Option<String> {
    let means = value.get_help()?.to_string();
    let (first, rest) = means.split_at_checked(1)?;
    Some(format!("{} ({}{rest})", value.get_name(), first.to_lowercase()))
}

/// Hides the options that every command has.
fn brief(command: Command) -> Command {
    let hidden = |arg: Arg| if arg.is_global_set() { arg.hide(true) } else { arg };
    command.mut_args(hidden).mut_subcommands(brief)
}
