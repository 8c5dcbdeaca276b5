//! Text output of `demo`.

use backstop_engine::report::{BackupReport, DemoReport};

use super::backup::freeze;
use crate::demo::{DemoResult, KeptDemo};
use crate::format;
use crate::text::{RenderText, TextWriter};

impl RenderText for DemoResult {
    fn render_text(&self, out: &mut TextWriter) {
        let rows = self.report.steps.iter();
        out.table(
            &["STEP", "TOOK", "RESULT"],
            rows.map(|step| vec![step.name.clone(), format::seconds(step.seconds), step.what.clone()])
                .collect(),
        );
        out.blank_line();
        out.fields(fields(&self.report));
        out.blank_line();
        out.line(match self.report.ok {
            true => out.colors.good("Nothing was lost: the rebuilt servers hold every acknowledged commit."),
            false => out.colors.bad("The demonstration failed: the rebuilt server differs from the primary."),
        });
        match &self.kept {
            Some(kept) => render_kept(kept, out),
            None => out.next(&["backstop demo --keep leaves the servers running for inspection"]),
        }
    }
}

fn render_kept(kept: &KeptDemo, out: &mut TextWriter) {
    out.blank_line();
    out.line(out.colors.strong("Kept for inspection:"));
    // Lines for copying are not wrapped.
    for (server, command) in &kept.connect {
        out.line(format!("  {server:9}  {command}"));
    }
    out.line(format!("  status     {}", kept.status));
    out.line(format!("  remove     {}", kept.remove));
}

fn fields(report: &DemoReport) -> Vec<(&'static str, String)> {
    let gaps: Vec<String> = report.longest_gaps_ms.iter().map(|gap| format::millis(*gap)).collect();
    let sizes = |report: &BackupReport| {
        format!(
            "{} stored of {} of data",
            format::bytes(report.sizes.stored_bytes),
            format::bytes(report.sizes.data_bytes)
        )
    };
    let mut fields = vec![
        ("acknowledged commits", format::thousands(report.acknowledged_commits)),
        ("lost commits", format::thousands(report.lost_commits)),
        ("full backup", sizes(&report.first_backup)),
        ("increment", sizes(&report.backup)),
        ("writes on the source", freeze(&report.backup.freeze)),
        (
            "longest gaps",
            format!("{} between two commits on the primary, one for each backup", gaps.join(" and ")),
        ),
        ("recovery", format!("{} from nothing to caught up", format::seconds(report.recover.seconds.total))),
    ];
    if let Some(loss) = &report.total_loss {
        let (commits, lost) = (format::thousands(loss.acknowledged_commits), loss.lost_commits);
        fields.push(("RPO", format!("{lost} of {commits} acknowledged commits lost with all servers")));
        fields.push((
            "RTO",
            format!("{} from the loss to a primary that takes writes", format::seconds(loss.rto_seconds)),
        ));
    }
    fields
}
