//! Text output of `check`.

use backstop_engine::report::CheckReport;
use backstop_types::finding::Finding;

use super::findings;
use super::status::moments;
use crate::text::{RenderText, TextWriter};

impl RenderText for CheckReport {
    fn render_text(&self, out: &mut TextWriter) {
        if !self.findings.is_empty() {
            findings(out, &self.findings);
        }
        for shard in &self.shards {
            out.blank_line();
            out.line(out.colors.strong(&format!("Shard {}", shard.shard)));
            if let Some(coverage) = &shard.coverage {
                out.fields([("recoverable", moments(coverage, |at| out.moment(at)))]);
            }
            findings(out, &shard.findings);
        }
        out.blank_line();
        out.line(match self.ok {
            true => out.colors.good("No problem prevents a backup or a recovery."),
            false => out.colors.bad("A backup or a recovery may fail: see the findings marked PROBLEM."),
        });
        out.next(&next(self));
    }
}

fn next(report: &CheckReport) -> Vec<String> {
    let mut next = Vec::new();
    if report.findings.iter().any(|finding| finding.code == "no-repository") {
        next.push("backstop init".to_owned());
    }
    for shard in &report.shards {
        let fixable: Vec<&Finding> = shard.findings.iter().filter(|f| !f.fix.is_empty()).collect();
        let has = |code: &str| shard.findings.iter().any(|finding| finding.code == code);
        if !fixable.is_empty() {
            next.push(format!("backstop check {} --fix      corrects findings on the server", shard.shard));
        } else if report.ok && has("no-backup") {
            next.push(format!("backstop backup {}", shard.shard));
        }
        if has("schedule-not-active") {
            next.push(format!("backstop schedule {} --systemd", shard.shard));
        }
    }
    next
}
