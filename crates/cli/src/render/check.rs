//! `check`.

use backstop_model::finding::Finding;
use backstop_model::report::CheckReport;

use super::findings;
use super::status::moments;
use crate::page::{Page, Screen};

impl Screen for CheckReport {
    fn draw(&self, page: &mut Page) {
        if !self.findings.is_empty() {
            findings(page, &self.findings);
        }
        for shard in &self.shards {
            page.gap();
            page.line(page.paint.strong(&format!("Shard {}", shard.shard)));
            if let Some(coverage) = &shard.coverage {
                page.fields([("recoverable", moments(coverage, |at| page.moment(at)))]);
            }
            findings(page, &shard.findings);
        }
        page.gap();
        page.line(match self.ok {
            true => page.paint.good("Nothing stands in the way of a backup or a recovery."),
            false => page.paint.bad("Something stands in the way: see what is marked WRONG."),
        });
        page.next(&next(self));
    }
}

fn next(report: &CheckReport) -> Vec<String> {
    let mut next = Vec::new();
    if report.findings.iter().any(|finding| finding.code == "no-repository") {
        next.push("backstop init".to_owned());
    }
    for shard in &report.shards {
        let mendable: Vec<&Finding> = shard.findings.iter().filter(|f| !f.fix.is_empty()).collect();
        let has = |code: &str| shard.findings.iter().any(|finding| finding.code == code);
        if !mendable.is_empty() {
            next.push(format!(
                "backstop check {} --fix shows and mends what can be mended on the server",
                shard.shard
            ));
        } else if report.ok && has("no-backup") {
            next.push(format!("backstop backup {}", shard.shard));
        }
        if has("schedule-not-active") {
            next.push(format!("backstop schedule {} --systemd", shard.shard));
        }
    }
    next
}
