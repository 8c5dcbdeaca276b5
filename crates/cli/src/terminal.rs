//! Terminal capabilities, output format and verbosity.

use std::fmt;
use std::io::IsTerminal;

use crate::args::GlobalArgs;
use crate::escape;

/// Terminal capabilities, output format and verbosity of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Format of results and progress.
    pub format: OutputFormat,
    /// Amount of output.
    pub level: Verbosity,
    /// Colours on standard output.
    pub stdout: Colors,
    /// Colours on standard error.
    pub stderr: Colors,
    /// True if standard error is a terminal on which lines can be redrawn.
    pub live: bool,
}

/// Format of results and progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Text, for people.
    Text,
    /// JSON, for programs.
    Json,
}

/// Amount of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Results, and messages that require action.
    Quiet,
    /// Also progress.
    Normal,
    /// Also the steps that are taken (`-v`).
    Verbose,
    /// Also the reasons (`-vv`).
    Debug,
}

impl Terminal {
    /// Determines the output from the flags, the environment and the process's files.
    pub fn of(global: &GlobalArgs) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let colours = set("NO_COLOR").is_none() && !dumb && !global.json;
        let (stdout, stderr) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Self {
            format: if global.json { OutputFormat::Json } else { OutputFormat::Text },
            level: match (global.quiet, global.verbose) {
                (true, _) => Verbosity::Quiet,
                (_, 0) => Verbosity::Normal,
                (_, 1) => Verbosity::Verbose,
                _ => Verbosity::Debug,
            },
            stdout: Colors { on: colours && stdout },
            stderr: Colors { on: colours && stderr },
            live: stderr && !dumb && !global.json,
        }
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colors {
    on: bool,
}

impl Colors {
    /// No colours.
    pub const PLAIN: Self = Self { on: false };

    /// Colours text that reports success.
    pub fn good(self, text: &str) -> ColoredText {
        self.wrap("32", text)
    }

    /// Colours a warning.
    pub fn warn(self, text: &str) -> ColoredText {
        self.wrap("33", text)
    }

    /// Colours an error.
    pub fn bad(self, text: &str) -> ColoredText {
        self.wrap("31;1", text)
    }

    /// Emphasizes text.
    pub fn strong(self, text: &str) -> ColoredText {
        self.wrap("1", text)
    }

    /// Dims text.
    pub fn faint(self, text: &str) -> ColoredText {
        self.wrap("2", text)
    }

    fn wrap(self, code: &'static str, text: &str) -> ColoredText {
        ColoredText { text: text.to_owned(), code: self.on.then_some(code) }
    }
}

/// Text with its colour. Only the colour can control the terminal; the text's content cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColoredText {
    text: String,
    code: Option<&'static str>,
}

impl<T: Into<String>> From<T> for ColoredText {
    fn from(text: T) -> Self {
        Self { text: text.into(), code: None }
    }
}

impl fmt::Display for ColoredText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = escape::line(self.text.trim_end());
        match self.code {
            Some(code) => write!(f, "\x1b[{code}m{text}\x1b[0m"),
            None => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_control_the_terminal() {
        assert_eq!(Colors { on: true }.good("a\x1b[2J").to_string(), "\x1b[32ma\\u{1b}[2J\x1b[0m");
        assert_eq!(ColoredText::from("a\x1b[2J").to_string(), "a\\u{1b}[2J");
    }
}
