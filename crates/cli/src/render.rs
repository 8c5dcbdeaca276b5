//! Text output of results for people. Programs get the same values as JSON.

mod archive;
mod backup;
mod check;
mod check_account;
mod demo;
mod find;
mod init;
mod keys;
mod plan;
mod prune;
mod recover;
mod recover_ebs;
mod repair;
mod rescue;
mod schedule;
mod shard;
mod status;
mod verify;

pub use prune::PruneReports;
pub use recover_ebs::{EbsRecoveryPlanned, VolumeLoading};
pub use rescue::{RescuePage, Situations};
pub(crate) use status::moments;

use backstop_types::finding::{Finding, Severity};

use crate::text::TextWriter;

/// Writes findings, the worst first, each with its hint.
fn findings(out: &mut TextWriter, findings: &[Finding]) {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in sorted {
        out.prose([(mark(finding.severity), finding.what.clone())]);
        if let Some(todo) = finding.todo.as_ref().filter(|_| finding.severity > Severity::Ok) {
            out.prose([("       ", format!("-> {todo}"))]);
        }
    }
}

fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok     ",
        Severity::Warning => "warning",
        Severity::Problem => "PROBLEM",
    }
}
