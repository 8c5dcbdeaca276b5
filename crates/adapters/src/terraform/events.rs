//! Terraform's output with `-json`: one object per line.

use std::path::Path;

use backstop_engine::ports::InfrastructureChanges;
use backstop_types::error::{Error, ErrorKind};
use serde::Deserialize;

use crate::command::last_lines;

/// Summary of the output up to now.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Changes that are planned or were made.
    pub(super) changes: InfrastructureChanges,
    /// Errors, each in one line.
    pub(super) errors: Vec<String>,
}

#[derive(Deserialize)]
struct EventLine {
    #[serde(rename = "@message", default)]
    message: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    changes: Option<Summary>,
    #[serde(default)]
    diagnostic: Option<Diagnostic>,
}

#[derive(Deserialize)]
struct Summary {
    add: u64,
    change: u64,
    remove: u64,
}

#[derive(Deserialize)]
struct Diagnostic {
    severity: String,
    summary: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    address: Option<String>,
}

impl Events {
    /// Reads a line; returns the part of it that an operator should see. Lines that are not an event
    /// are skipped here: the log has them.
    pub(super) fn take(&mut self, line: &str) -> Option<String> {
        let line: EventLine = serde_json::from_str(line).ok()?;
        match (line.kind.as_str(), line.changes, line.diagnostic) {
            ("change_summary", Some(summary), _) => {
                (self.changes.add, self.changes.change, self.changes.destroy) =
                    (summary.add, summary.change, summary.remove);
                Some(line.message)
            }
            ("planned_change", _, _) => {
                self.changes.told.push(line.message);
                None
            }
            ("apply_start" | "apply_complete" | "apply_errored", _, _) => Some(line.message),
            ("diagnostic", _, Some(diagnostic)) if diagnostic.severity == "error" => {
                self.errors.push(diagnostic.in_words());
                None
            }
            _ => None,
        }
    }
}

impl Diagnostic {
    fn in_words(&self) -> String {
        let detail = self.detail.split_whitespace().collect::<Vec<_>>().join(" ");
        let address = self.address.as_ref().map(|address| format!(" ({address})")).unwrap_or_default();
        if detail.is_empty() {
            return format!("{}{address}", self.summary);
        }
        format!("{}{address}: {detail}", self.summary)
    }
}

/// Returns the error for a failed run.
pub(super) fn terraform_error(doing: &str, log: &Path, said: &str, errors: &[String]) -> Error {
    let why = if errors.is_empty() { last_lines(said, 8) } else { errors.join("; ") };
    let any = |words: &[&str]| words.iter().any(|word| why.contains(word));
    let log = format!("see Terraform's output in {}", log.display());
    let (kind, hint) = if any(&["Error acquiring the state lock"]) {
        (
            ErrorKind::Held,
            format!(
                "wait for its holder; if the holder has ended, run `terraform force-unlock` with the named id; {log}"
            ),
        )
    } else if any(&[
        "UnauthorizedOperation",
        "AccessDenied",
        "is not authorized",
        "No valid credential",
        "ExpiredToken",
    ]) {
        (ErrorKind::Denied, format!("grant this role the named permissions (docs/aws.md); {log}"))
    } else if any(&["precondition failed", "postcondition failed", "Invalid value for variable"]) {
        (ErrorKind::Refused, log)
    } else {
        (ErrorKind::Failed, log)
    };
    Error::new(kind, format!("cannot {doing}: {why}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE_OUTPUT: &str = r#"{"@level":"info","@message":"Terraform 1.11.4","type":"version"}
{"@message":"aws_instance.mysql: Plan to create","type":"planned_change","change":{}}
{"@message":"Plan: 5 to add, 0 to change, 1 to destroy.","type":"change_summary","changes":{"add":5,"change":0,"import":0,"remove":1,"operation":"plan"}}
{"@message":"aws_instance.mysql: Creating...","type":"apply_start","hook":{}}
not an event
{"@message":"Error: x","type":"diagnostic","diagnostic":{"severity":"error","summary":"creating EC2 Instance","detail":"UnauthorizedOperation:\n  You are not","address":"aws_instance.mysql"}}"#;

    #[test]
    fn changes_progress_and_errors_are_extracted() {
        let mut events = Events::default();
        let told: Vec<_> = SAMPLE_OUTPUT.lines().filter_map(|line| events.take(line)).collect();
        assert_eq!(told, ["Plan: 5 to add, 0 to change, 1 to destroy.", "aws_instance.mysql: Creating..."]);
        assert_eq!((events.changes.add, events.changes.destroy), (5, 1));
        assert_eq!(events.changes.told, ["aws_instance.mysql: Plan to create"]);
        let error = terraform_error("apply", Path::new("/l"), SAMPLE_OUTPUT, &events.errors);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert_eq!(
            error.message,
            "cannot apply: creating EC2 Instance (aws_instance.mysql): UnauthorizedOperation: You are not"
        );
    }
}
