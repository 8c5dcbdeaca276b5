//! Parses the arguments; reports faults in them, and answers requests for help.

use std::ffi::OsString;
use std::io::Write;

use backstop_types::error::{Error, ErrorKind};
use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue};

use crate::args::{CommandLine, GlobalArgs};
use crate::help;
use crate::output::Output;
use crate::terminal::{Colors, Terminal};

impl CommandLine {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// Returns the fault in them; also help and version, for printing.
    pub fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = help::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        Self::from_arg_matches(&matches).map_err(|wrong| wrong.format(&mut command))
    }
}

/// Prints clap's output: help on standard output, faults in the format of all errors. Returns the
/// exit code.
pub fn explain(mut said: clap::Error, arguments: &[OsString]) -> u8 {
    let for_people =
        matches!(said.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
    let json = !for_people && arguments.iter().any(|argument| argument == "--json");
    let terminal = Terminal::of(&GlobalArgs { json, ..GlobalArgs::default() });
    let output = Output::new(terminal);
    if for_people {
        output.text(&text(&said, terminal.stdout));
        return if output.is_lost() { ErrorKind::Failed.exit_code() } else { 0 };
    }
    let tip = dry_run(&said, arguments);
    if json {
        let error = Error::new(ErrorKind::Usage, first_line(&said));
        output.error(&error.hint(tip.unwrap_or("run the command with --help")));
        return ErrorKind::Usage.exit_code();
    }
    if let Some(tip) = tip {
        said.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    let _ = std::io::stderr().lock().write_all(text(&said, terminal.stderr).as_bytes());
    ErrorKind::Usage.exit_code()
}

fn text(said: &clap::Error, colors: Colors) -> String {
    let rendered = said.render();
    help::shown(&if colors == Colors::PLAIN { rendered.to_string() } else { rendered.ansi().to_string() })
}

fn first_line(said: &clap::Error) -> String {
    let text = said.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    first.split_whitespace().collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
}

/// Returns this command's equivalent of the option `--dry-run` of other programs.
fn dry_run(said: &clap::Error, arguments: &[OsString]) -> Option<&'static str> {
    let Some(ContextValue::String(unknown)) = said.get(ContextKind::InvalidArg) else { return None };
    if said.kind() != clap::error::ErrorKind::UnknownArgument || unknown != "--dry-run" {
        return None;
    }
    arguments.iter().skip(1).find_map(|argument| {
        Some(match argument.to_str()? {
            "recover" => "`recover --plan` shows the steps, and does nothing",
            "backup" | "archive" => "`backstop check` checks that it can run, and changes nothing",
            "prune" | "repair" => "without --apply the command only shows the changes",
            "check" => "without --fix nothing is changed",
            _ => return None,
        })
    })
}
