//! Output of results, errors and questions.

use std::io::{BufRead, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backstop_engine::report::{ErrorReport, VersionedReport};
use backstop_types::error::Error;
use chrono_tz::Tz;
use serde::Serialize;

use crate::escape;
use crate::progress::ProgressOutput;
use crate::terminal::{OutputFormat, Terminal};
use crate::text::{RenderText, TextWriter};

/// Prints results and errors in the requested format.
pub struct Output {
    terminal: Terminal,
    progress_output: Option<Arc<dyn ProgressOutput>>,
    /// True if a result could not be written to standard output.
    lost: AtomicBool,
}

impl Output {
    /// Creates an output for this terminal.
    pub fn new(terminal: Terminal) -> Self {
        Self { terminal, progress_output: None, lost: AtomicBool::new(false) }
    }

    /// Adds a progress output, which ends before anything is printed.
    #[must_use]
    pub fn beside(self, progress_output: Arc<dyn ProgressOutput>) -> Self {
        Self { progress_output: Some(progress_output), ..self }
    }

    /// Shows lines and a question on standard error, and waits for an answer. Returns true if it is
    /// yes.
    pub fn ask(&self, shown: &[String], question: &str) -> bool {
        matches!(self.question(shown, question).as_str(), "y" | "Y" | "yes")
    }

    /// Shows lines and a question on standard error, and returns the answer without blanks around
    /// it; empty if there is none.
    pub fn question(&self, shown: &[String], question: &str) -> String {
        self.settle();
        let lines: String = shown.iter().map(|line| format!("{}\n", escape::line(line))).collect();
        let _ = std::io::stderr().lock().write_all(format!("{lines}{question} ").as_bytes());
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        if read.is_ok() { answer.trim().to_owned() } else { String::new() }
    }

    /// Prints a command's result, the only thing on standard output.
    pub fn report<R: Serialize + RenderText>(&self, report: &R) {
        self.report_in(report, None);
    }

    /// Prints a command's result, with times for people in a time zone beside UTC.
    pub fn report_in<R: Serialize + RenderText>(&self, report: &R, zone: Option<Tz>) {
        match self.terminal.format {
            OutputFormat::Json => self.print(json(report)),
            OutputFormat::Text => {
                let mut out = TextWriter::new(self.terminal.stdout, zone);
                report.render_text(&mut out);
                self.text(&out.into_text());
            }
        }
    }

    /// Prints text unchanged.
    pub fn text(&self, text: &str) {
        self.settle();
        let mut out = std::io::stdout().lock();
        let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
        // A person who closed standard output does not want the rest; a program that did has half
        // an object.
        if error.kind() == ErrorKind::BrokenPipe && self.terminal.format == OutputFormat::Text {
            return;
        }
        self.lost.store(true, Ordering::Relaxed);
        self.tell(&Error::failed(format!("cannot write the result to standard output: {error}")));
    }

    /// Returns true if a result could not be written to standard output: then the exit code must
    /// not be a success.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Prints an error: for people on standard error, for programs on standard output.
    pub fn error(&self, error: &Error) {
        self.settle();
        if self.terminal.format == OutputFormat::Json {
            return self.print(json(&ErrorReport::from(error)));
        }
        self.tell(error);
    }

    /// Reports a defect to programs; the panic hook reports it to people.
    pub fn defect(&self) {
        if self.terminal.format == OutputFormat::Json {
            self.error(&Error::failed("internal error, see standard error").hint("please report it"));
        }
    }

    fn tell(&self, error: &Error) {
        let colors = self.terminal.stderr;
        let mut text = format!("{} {}\n", colors.bad("error:"), escape::lines(&error.message));
        if let Some(hint) = &error.hint {
            text.push_str(&format!("{} {}\n", colors.strong("hint:"), escape::lines(hint)));
        }
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Ends the progress output.
    fn settle(&self) {
        if let Some(progress_output) = &self.progress_output {
            progress_output.end();
        }
    }

    fn print(&self, json: serde_json::Result<String>) {
        match json {
            Ok(text) => self.text(&text),
            Err(error) => tracing::error!("cannot format a result as JSON: {error}"),
        }
    }
}

/// Formats a report as `--json` prints it, in one line.
///
/// # Errors
/// Returns an error if the report cannot be JSON.
pub(crate) fn json<R: Serialize>(report: &R) -> serde_json::Result<String> {
    let text = serde_json::to_string(&VersionedReport::new(report))?;
    Ok(format!("{}\n", escape::json(&text)))
}
