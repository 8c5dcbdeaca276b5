//! Error report of `--json`.

use backstop_types::error::{Error, ErrorKind};
use serde::Serialize;

/// Output of `--json` when a command fails: `error`, the kind in words, the message, the hint, and
/// the exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorReport {
    /// Kind of error: `failed`, `usage`, `store`, `held`, `denied`, `refused`, `not_recoverable`,
    /// `damaged`, `interrupted`.
    pub error: &'static str,
    /// The error message.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
    /// The exit code of the process.
    pub exit_code: u8,
}

impl From<&Error> for ErrorReport {
    fn from(failure: &Error) -> Self {
        let (message, hint) = (failure.message.clone(), failure.hint.clone());
        Self { error: name(failure.kind), message, hint, exit_code: failure.kind.exit_code() }
    }
}

fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Failed => "failed",
        ErrorKind::Usage => "usage",
        ErrorKind::Store => "store",
        ErrorKind::Held => "held",
        ErrorKind::Denied => "denied",
        ErrorKind::Refused => "refused",
        ErrorKind::NotRecoverable => "not_recoverable",
        ErrorKind::Damaged => "damaged",
        ErrorKind::Interrupted => "interrupted",
    }
}
