//! `status`.

use std::cmp::Reverse;

use backstop_model::finding::Severity;
use backstop_model::report::{Coverage, MemberStatus, ShardStatus, StatusReport};
use backstop_model::runs::Run;
use backstop_model::topology::Role;
use chrono::{DateTime, Utc};

use super::findings;
use crate::human;
use crate::page::{Page, Screen};

impl Screen for StatusReport {
    fn draw(&self, page: &mut Page) {
        for shard in &self.shards {
            page.gap();
            page.line(page.paint.strong(&format!("Shard {}", shard.shard)));
            page.fields(fields(shard, page));
            findings(page, &shard.findings);
            if self.shards.len() == 1 {
                runs(page, &shard.runs);
            }
        }
        findings(page, &self.findings);
        page.gap();
        if !self.ok {
            page.line(page.paint.bad("Something needs attention: see what is marked WRONG."));
            return;
        }
        let warned = |shard: &ShardStatus| shard.findings.iter().any(|f| f.severity == Severity::Warning);
        match self.shards.iter().any(warned) {
            true => page.line(page.paint.strong("No problem was found: see what is marked warn.")),
            false => page.line(page.paint.good("All is well.")),
        }
        page.line(LOOKED_AT);
    }
}

/// So many of the last runs are shown.
const RUNS_SHOWN: usize = 8;

/// The last runs of all operations, newest first.
fn runs(page: &mut Page, runs: &[Run]) {
    if runs.is_empty() {
        return;
    }
    let mut newest: Vec<&Run> = runs.iter().collect();
    newest.sort_by_key(|run| Reverse(run.started));
    page.gap();
    page.line(page.paint.strong("Last runs"));
    let row = |run: &&Run| {
        let took = run.ended.and_then(|ended| (ended - run.started).to_std().ok());
        let outcome = match (&run.failure, &run.result) {
            (Some(failure), _) => format!("exit code {}: {}", failure.exit_code, failure.message),
            (None, _) if run.ended.is_none() => "is running, or was killed".to_owned(),
            (None, result) => result.clone().unwrap_or_else(|| "done".to_owned()),
        };
        let took = took.map_or_else(String::new, |took| human::seconds(took.as_secs_f64()));
        vec![human::moment(run.started), run.operation.to_string(), run.host.clone(), took, outcome]
    };
    page.table(
        &["BEGAN", "COMMAND", "HOST", "TOOK", "RESULT"],
        newest.iter().take(RUNS_SHOWN).map(row).collect(),
    );
}

/// What "well" rests on.
const LOOKED_AT: &str = "Looked at: the members, the newest backup's age, what is archived and how old that is. Not read: the contents of what is stored (`backstop verify --content`).";

fn fields(shard: &ShardStatus, page: &Page) -> Vec<(&'static str, String)> {
    let last = match &shard.last_backup {
        Some(backup) => format!("{} from {}", backup.backup_id, backup.source.endpoint),
        None => "none".to_owned(),
    };
    let seconds = |value: Option<f64>| value.map_or("not known".to_owned(), human::seconds);
    vec![
        ("members", members(&shard.members)),
        ("last backup", last),
        ("recoverable", moments(&shard.coverage, |at| page.moment(at))),
        ("would be lost", seconds(shard.rpo_seconds)),
        ("recovery takes", seconds(shard.rto_seconds)),
    ]
}

/// `db1:3306 primary, db2:3306 candidate (0 s behind), db3:3306 SILENT`.
fn members(members: &[MemberStatus]) -> String {
    let one = |member: &MemberStatus| {
        let part = match member.role {
            Some(Role::Primary) => "primary",
            Some(Role::Candidate) => "candidate",
            Some(Role::Replica) => "replica",
            None => "SILENT",
        };
        let lag = match (member.role, member.lag_seconds) {
            (Some(Role::Candidate | Role::Replica), Some(lag)) => format!(" ({lag:.0} s behind)"),
            (Some(Role::Candidate | Role::Replica), None) => " (lag not known)".to_owned(),
            _ => String::new(),
        };
        format!("{} {part}{lag}", member.endpoint)
    };
    if members.is_empty() {
        return "not known".to_owned();
    }
    members.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The moments that can be recovered, each in the words of `show`.
pub(crate) fn moments(coverage: &Coverage, show: impl Fn(DateTime<Utc>) -> String) -> String {
    let windows = &coverage.windows;
    match (windows.first(), windows.last()) {
        (Some(first), Some(last)) if windows.len() > 1 => {
            let count = human::count(windows.len() as u64, "moment");
            format!("{count} from {} to {}", show(first.from), show(last.to))
        }
        (Some(only), _) if only.from == only.to => show(only.from),
        (Some(only), _) => format!("{} to {}", show(only.from), show(only.to)),
        _ => "nothing".to_owned(),
    }
}
