//! The real program, called as a separate process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

mod check_fix;
mod completions;
mod demo;
mod escape;
mod help;
mod init;
mod key;
mod repair;
mod rescue;
mod schedule;
mod usage;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Path of the program.
const BACKSTOP: &str = env!("CARGO_BIN_EXE_backstop");

/// Returns the program with arguments, in a given folder and without environment variables that
/// would configure it.
fn backstop(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(BACKSTOP);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BACKSTOP_") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).args(arguments.split_whitespace());
    command
}

/// Runs the program to its end.
fn run(dir: &Path, arguments: &str) -> Output {
    backstop(dir, arguments).output().expect("run backstop")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Returns the one JSON object on standard output.
fn json(output: &Output) -> Value {
    let text = stdout(output);
    assert_eq!(text.lines().count(), 1, "one object: {text}{}", stderr(output));
    serde_json::from_str(&text).expect("JSON")
}
