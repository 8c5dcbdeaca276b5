//! What `check` and `status` find.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ids::Endpoint;

/// The first word of a notice about a problem.
pub const ALARM: &str = "WARNING:";

/// One thing that was looked at and is worth saying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable, short name for programs: `clone-plugin-missing`, `schedule-not-active`, …
    pub code: Cow<'static, str>,
    /// What was found, in a sentence that names the thing.
    pub what: String,
    /// What to do about it: a sentence, or statements to paste.
    pub todo: Option<String>,
    /// What `check --fix` would run on the server, in order. Empty if it cannot be fixed that way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
    /// The server that `fix` is for; `None`: the one that is backed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Endpoint>,
}

/// How much a [`Finding`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, with a cost or a risk that is named.
    Warning,
    /// A backup or a recovery would fail or be refused.
    Problem,
}

impl Finding {
    /// Something that is as it should be.
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

    /// Something that works, with a cost or a risk.
    pub fn warning(code: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, todo: Some(todo.into()), ..Self::ok(code, what) }
    }

    /// Something that stands in the way.
    pub fn problem(code: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { severity: Severity::Problem, ..Self::warning(code, what, todo) }
    }

    /// The finding as one line of a narration: [`ALARM`] comes first if it is a problem.
    pub fn notice(&self) -> String {
        match self.severity {
            Severity::Ok | Severity::Warning => self.what.clone(),
            Severity::Problem => format!("{ALARM} {}", self.what),
        }
    }

    /// The same finding, to be mended on this server.
    #[must_use]
    pub fn on(mut self, endpoint: &Endpoint) -> Self {
        self.on = Some(endpoint.clone());
        self
    }

    /// The same finding with the statements that would mend it.
    #[must_use]
    pub fn fixed_by(mut self, statements: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.fix = statements.into_iter().map(Into::into).collect();
        self
    }
}
