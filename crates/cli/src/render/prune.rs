//! `prune`.

use backstop_model::report::PruneReport;
use backstop_model::retention::{Verdict, Vote};
use serde::Serialize;

use crate::human;
use crate::page::{Page, Screen};

/// `prune --json`: every shard that was looked at.
#[derive(Debug, Serialize)]
pub struct PruneReports {
    /// By shard.
    pub shards: Vec<PruneReport>,
}

impl Screen for PruneReports {
    fn draw(&self, page: &mut Page) {
        for report in &self.shards {
            page.gap();
            shard(report, page);
        }
        let planned = |report: &&PruneReport| {
            !report.applied && (report.deleted().next().is_some() || report.archive.forgotten > 0)
        };
        let next: Vec<String> = self
            .shards
            .iter()
            .filter(planned)
            .map(|report| format!("backstop prune {} --apply deletes them", report.shard))
            .collect();
        page.next(&next);
    }
}

fn shard(report: &PruneReport, page: &mut Page) {
    let deleted = report.deleted().count() as u64;
    let title = match report.applied {
        false => format!(
            "Shard {}: {} may go (a plan: nothing was deleted)",
            report.shard,
            human::count(deleted, "backup")
        ),
        true => format!("Shard {}: deleted {}", report.shard, human::count(deleted, "backup")),
    };
    page.line(page.paint.strong(&title));
    if !report.undone.is_empty() {
        let back: Vec<&str> = report.undone.iter().map(|id| id.as_str()).collect();
        page.line(format!("  taken back: {}", back.join(", ")));
        page.line("  the next prune deletes them again, unless the retention rules are changed");
    }
    if report.archive.forgotten + report.archive.kept > 0 {
        page.line(format!("  {}", archive(report)));
    }
    if report.backups.is_empty() {
        page.line("  it has no backup");
        return;
    }
    page.table(&["  BACKUP", "TAKEN AT", "", "WHY"], report.backups.iter().map(row).collect());
    for each in &report.condemned {
        page.line(format!(
            "  {} was deleted at {}; `backstop prune {} --undo` takes that back until {}",
            each.backup_id,
            human::moment(each.deleted_at),
            report.shard,
            human::moment(each.until)
        ));
    }
    if report.applied {
        let (objects, bytes) =
            (human::count(report.removed_objects, "object"), human::bytes(report.freed_bytes));
        page.line(format!("  removed {objects}, {bytes}"));
        if !report.removed_snapshots.is_empty() {
            page.line(format!("  deleted EBS snapshots {}", report.removed_snapshots.join(", ")));
        }
        page.line(
            "  what the deleted backups alone needed goes with the next prune, an hour from now or later",
        );
    }
}

fn archive(report: &PruneReport) -> String {
    let (gone, archive) = (if report.applied { "deleted" } else { "may go" }, &report.archive);
    let from = archive.kept_from.map_or(String::new(), |from| format!(", from {} on", human::moment(from)));
    format!(
        "archive: {} ({}) {gone}, {} stay{from}",
        human::count(archive.forgotten, "piece"),
        human::bytes(archive.forgotten_bytes),
        human::count(archive.kept, "piece"),
    )
}

fn row(vote: &Vote) -> Vec<String> {
    let (word, why) = match &vote.verdict {
        Verdict::Keep { reasons } => ("keep", reasons.join("; ")),
        Verdict::Delete { reason } => ("DELETE", reason.clone()),
    };
    vec![format!("  {}", vote.id), human::moment(vote.taken_at), word.to_owned(), why]
}
