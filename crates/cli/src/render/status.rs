//! Text output of `status`.

use std::cmp::Reverse;

use backstop_engine::report::{MemberStatus, ShardStatus, StatusReport};
use backstop_policy::coverage::Coverage;
use backstop_types::finding::Severity;
use backstop_types::run_history::RunRecord;
use backstop_types::topology::Role;
use chrono::{DateTime, Utc};

use super::findings;
use crate::format;
use crate::text::{RenderText, TextWriter};

impl RenderText for StatusReport {
    fn render_text(&self, out: &mut TextWriter) {
        for shard in &self.shards {
            out.blank_line();
            out.line(out.colors.strong(&format!("Shard {}", shard.shard)));
            out.fields(fields(shard, out));
            findings(out, &shard.findings);
            if self.shards.len() == 1 {
                runs(out, &shard.runs);
            }
        }
        findings(out, &self.findings);
        out.blank_line();
        if !self.ok {
            out.line(out.colors.bad("Something needs attention: see the findings marked PROBLEM."));
            return;
        }
        let warned = |shard: &ShardStatus| shard.findings.iter().any(|f| f.severity == Severity::Warning);
        match self.shards.iter().any(warned) {
            true => out.line(out.colors.strong("No problem was found: see the findings marked warning.")),
            false => out.line(out.colors.good("All is well.")),
        }
        out.line(STATUS_SCOPE);
    }
}

/// Limit for the last runs that are shown.
const MAX_RUNS_SHOWN: usize = 8;

/// Writes the last runs of all operations, newest first.
fn runs(out: &mut TextWriter, runs: &[RunRecord]) {
    if runs.is_empty() {
        return;
    }
    let mut newest: Vec<&RunRecord> = runs.iter().collect();
    newest.sort_by_key(|run| Reverse(run.started));
    out.blank_line();
    out.line(out.colors.strong("Last runs"));
    let row = |run: &&RunRecord| {
        let took = run.ended.and_then(|ended| (ended - run.started).to_std().ok());
        let outcome = match (&run.failure, &run.result) {
            (Some(failure), _) => format!("exit code {}: {}", failure.exit_code, failure.message),
            (None, _) if run.ended.is_none() => "running, or killed".to_owned(),
            (None, result) => result.clone().unwrap_or_else(|| "done".to_owned()),
        };
        let took = took.map_or_else(String::new, |took| format::seconds(took.as_secs_f64()));
        vec![format::moment(run.started), run.operation.to_string(), run.host.clone(), took, outcome]
    };
    out.table(
        &["BEGAN", "COMMAND", "HOST", "TOOK", "RESULT"],
        newest.iter().take(MAX_RUNS_SHOWN).map(row).collect(),
    );
}

/// Scope of the result "well".
const STATUS_SCOPE: &str = "Examined: the members, the age of the newest backup, the archive and its age. Not read: the contents of stored objects (`backstop verify --content`).";

fn fields(shard: &ShardStatus, out: &TextWriter) -> Vec<(&'static str, String)> {
    let last = match &shard.last_backup {
        Some(backup) => format!("{} from {}", backup.backup_id, backup.source.endpoint),
        None => "none".to_owned(),
    };
    let seconds = |value: Option<f64>| value.map_or("unknown".to_owned(), format::seconds);
    vec![
        ("members", members(&shard.members)),
        ("last backup", last),
        ("recoverable", moments(&shard.coverage, |at| out.moment(at))),
        ("possible loss", seconds(shard.rpo_seconds)),
        ("recovery time", seconds(shard.rto_seconds)),
    ]
}

/// Formats the members: `db1:3306 primary, db2:3306 candidate (0 s behind), db3:3306 NO ANSWER`.
fn members(members: &[MemberStatus]) -> String {
    let one = |member: &MemberStatus| {
        let part = match member.role {
            Some(Role::Primary) => "primary",
            Some(Role::Candidate) => "candidate",
            Some(Role::Replica) => "replica",
            None => "NO ANSWER",
        };
        let lag = match (member.role, member.lag_seconds) {
            (Some(Role::Candidate | Role::Replica), Some(lag)) => format!(" ({lag:.0} s behind)"),
            (Some(Role::Candidate | Role::Replica), None) => " (lag unknown)".to_owned(),
            _ => String::new(),
        };
        format!("{} {part}{lag}", member.endpoint)
    };
    if members.is_empty() {
        return "unknown".to_owned();
    }
    members.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Formats the recoverable moments; `show` formats each of them.
pub(crate) fn moments(coverage: &Coverage, show: impl Fn(DateTime<Utc>) -> String) -> String {
    let windows = &coverage.windows;
    match (windows.first(), windows.last()) {
        (Some(first), Some(last)) if windows.len() > 1 => {
            let count = format::count(windows.len() as u64, "moment");
            format!("{count} from {} to {}", show(first.from), show(last.to))
        }
        (Some(only), _) if only.from == only.to => show(only.from),
        (Some(only), _) => format!("{} to {}", show(only.from), show(only.to)),
        _ => "nothing".to_owned(),
    }
}
