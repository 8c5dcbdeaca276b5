//! Text output of `prune`.

use backstop_engine::report::PruneReport;
use backstop_policy::retention::{RetentionVerdict, RetentionVote};
use serde::Serialize;

use crate::format;
use crate::text::{RenderText, TextWriter};

/// Output of `prune --json`: every shard that was inspected.
#[derive(Debug, Serialize)]
pub struct PruneReports {
    /// By shard.
    pub shards: Vec<PruneReport>,
}

impl RenderText for PruneReports {
    fn render_text(&self, out: &mut TextWriter) {
        for report in &self.shards {
            out.blank_line();
            shard(report, out);
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
        out.next(&next);
    }
}

fn shard(report: &PruneReport, out: &mut TextWriter) {
    let deleted = report.deleted().count() as u64;
    let title = match report.applied {
        false => format!(
            "Shard {}: {} would be deleted (a plan: nothing was deleted)",
            report.shard,
            format::count(deleted, "backup")
        ),
        true => format!("Shard {}: deleted {}", report.shard, format::count(deleted, "backup")),
    };
    out.line(out.colors.strong(&title));
    if !report.undone.is_empty() {
        let back: Vec<&str> = report.undone.iter().map(|id| id.as_str()).collect();
        out.line(format!("  restored: {}", back.join(", ")));
        out.line("  the next prune deletes them again, unless the retention rules are changed");
    }
    if report.archive.forgotten + report.archive.kept > 0 {
        out.line(format!("  {}", archive(report)));
    }
    if report.backups.is_empty() {
        out.line("  no backups");
        return;
    }
    out.table(&["  BACKUP", "TAKEN AT", "", "WHY"], report.backups.iter().map(row).collect());
    for each in &report.condemned {
        out.line(format!(
            "  {} was deleted at {}; `backstop prune {} --undo` undoes that until {}",
            each.backup_id,
            format::moment(each.deleted_at),
            report.shard,
            format::moment(each.until)
        ));
    }
    if report.applied {
        let (objects, bytes) =
            (format::count(report.removed_objects, "object"), format::bytes(report.freed_bytes));
        out.line(format!("  removed {objects}, {bytes}"));
        if !report.removed_snapshots.is_empty() {
            out.line(format!("  deleted EBS snapshots {}", report.removed_snapshots.join(", ")));
        }
        out.line(
            "  objects that only the deleted backups needed are removed by a prune an hour from now or later",
        );
    }
}

fn archive(report: &PruneReport) -> String {
    let (gone, archive) = (if report.applied { "deleted" } else { "would be deleted" }, &report.archive);
    let from = archive.kept_from.map_or(String::new(), |from| format!(", from {} on", format::moment(from)));
    format!(
        "archive: {} ({}) {gone}, {} kept{from}",
        format::count(archive.forgotten, "segment"),
        format::bytes(archive.forgotten_bytes),
        format::count(archive.kept, "segment"),
    )
}

fn row(vote: &RetentionVote) -> Vec<String> {
    let (word, why) = match &vote.verdict {
        RetentionVerdict::Keep { reasons } => ("keep", reasons.join("; ")),
        RetentionVerdict::Delete { reason } => ("DELETE", reason.clone()),
    };
    vec![format!("  {}", vote.id), format::moment(vote.taken_at), word.to_owned(), why]
}
