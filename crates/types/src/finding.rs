//! Findings of `check` and `status`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ids::Endpoint;

/// The first word of a notice about a problem.
pub const ALARM: &str = "WARNING:";

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// A stable, short name for programs: `clone-plugin-missing`, `schedule-not-active`, …
    pub code: Cow<'static, str>,
    /// The result, in a sentence that names the object.
    pub what: String,
    /// The remedy: a sentence, or statements to paste.
    pub todo: Option<String>,
    /// Statements that `check --fix` would execute on the server, in order. Empty if they cannot
    /// fix it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
    /// The server for `fix`; `None`: the source of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Endpoint>,
}

/// Severity of a [`Finding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As expected.
    Ok,
    /// Works, with the described cost or risk.
    Warning,
    /// A backup or a recovery would fail or be refused.
    Problem,
}

impl Finding {
    /// Returns a finding that all is as expected.
    pub fn ok(code: &'static str, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Ok,
            code: Cow::Borrowed(code),
            what: what.into(),
            todo: None,
            fix: Vec::new(),
            on: None,
        }
    }

    /// Returns a finding that something works with a cost or a risk.
    pub fn warning(code: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, todo: Some(todo.into()), ..Self::ok(code, what) }
    }

    /// Returns a finding that would make a backup or a recovery fail.
    pub fn problem(code: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, ..Self::warning(code, what, todo) }
    }

    /// Formats the finding as one line of progress output, after [`ALARM`] if it is a problem.
    pub fn notice(&self) -> String {
        match self.severity {
            Severity::Ok | Severity::Warning => self.what.clone(),
            Severity::Problem => format!("{ALARM} {}", self.what),
        }
    }

    /// Returns the same finding, to be fixed on this server.
    #[must_use]
    pub fn on(mut self, endpoint: &Endpoint) -> Self {
        self.on = Some(endpoint.clone());
        self
    }

    /// Returns the same finding with the statements that fix it.
    #[must_use]
    pub fn fixed_by(mut self, statements: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.fix = statements.into_iter().map(Into::into).collect();
        self
    }
}
