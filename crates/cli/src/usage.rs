//! Wrong arguments, and requests for help.

use std::ffi::OsString;

use backstop_model::fault::{Fault, Kind};
use clap::error::ErrorKind;

use crate::args::Global;
use crate::output::Output;
use crate::terminal::Terminal;

/// Prints what the command line's reader says: help on standard output, faults as every other fault. Gives the exit
/// code.
pub fn explain(said: &clap::Error, arguments: &[OsString]) -> u8 {
    let json = arguments.iter().any(|argument| argument == "--json");
    let for_people = matches!(said.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if for_people || !json {
        // Who closed the file wants to read no more.
        let _ = said.print();
        return u8::try_from(said.exit_code()).unwrap_or(Kind::Usage.exit_code());
    }
    let text = said.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    let message = words.join(" ").trim_start_matches("error: ").to_owned();
    let terminal = Terminal::of(&Global { json: true, ..Global::default() });
    let fault = Fault::new(Kind::Usage, message).hint("run the command with --help");
    Output::new(terminal).fault(&fault);
    Kind::Usage.exit_code()
}
