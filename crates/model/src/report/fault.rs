//! A fault as `--json` prints it.

use serde::Serialize;

use crate::fault::{Fault, Kind};

/// What `--json` prints when a command fails: `error`, the kind in words, the message, what to do, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    /// Which kind of fault: `failed`, `usage`, `store`, `held`, `denied`, `refused`, `not_recoverable`, `damaged`,
    /// `interrupted`.
    pub error: &'static str,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code of the process.
    pub exit_code: u8,
}

impl From<&Fault> for FaultReport {
    fn from(fault: &Fault) -> Self {
        let (message, hint) = (fault.message.clone(), fault.hint.clone());
        Self { error: name(fault.kind), message, hint, exit_code: fault.kind.exit_code() }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Failed => "failed",
        Kind::Usage => "usage",
        Kind::Store => "store",
        Kind::Held => "held",
        Kind::Denied => "denied",
        Kind::Refused => "refused",
        Kind::NotRecoverable => "not_recoverable",
        Kind::Damaged => "damaged",
        Kind::Interrupted => "interrupted",
    }
}
