//! The command `backstop completions`.

use backstop_types::error::Result;
use clap::CommandFactory;

use super::CommandOutcome;
use crate::args::{CommandLine, CompletionsArgs};
use crate::output::Output;

/// Prints completions for a shell.
///
/// # Errors
/// Never fails.
pub fn run(args: &CompletionsArgs, output: &Output) -> Result<CommandOutcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "backstop", &mut script);
    output.text(&String::from_utf8_lossy(&script));
    Ok(CommandOutcome::Well)
}
