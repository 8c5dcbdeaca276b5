//! Text output of `backup` and `backups`.

use backstop_engine::report::{
    BackupOutcome, BackupReport, BackupRow, BackupsReport, EbsSnapshots, TaggedReport,
};
use backstop_types::backup::{BackupState, VolumeState};
use backstop_types::freeze::{FreezeMode, FreezeReport};

use crate::format;
use crate::text::{RenderText, TextWriter};

impl RenderText for BackupOutcome {
    fn render_text(&self, out: &mut TextWriter) {
        match self {
            Self::Made(report) => report.render_text(out),
            Self::Skipped(skipped) => {
                let title = format!("No backup of shard {} was made: {}.", skipped.shard, skipped.reason);
                out.line(out.colors.strong(&title));
                out.next(&[format!("backstop backups {}                  lists the backups", skipped.shard)]);
            }
        }
    }
}

impl RenderText for BackupReport {
    fn render_text(&self, out: &mut TextWriter) {
        let pending = self.ebs.as_ref().is_some_and(|ebs| ebs.state == Some(VolumeState::Pending));
        let end = if pending { "is taken; EC2 is still storing its blocks" } else { "is complete" };
        let title = format!("Backup {} of shard {} {end}.", self.backup_id, self.shard);
        out.line(out.colors.strong(&title));
        out.fields(fields(self, out));
        super::findings(out, &self.findings);
        out.next(&[
            format!("backstop backups {}                  lists the backups", self.shard),
            format!("backstop recover {} --to latest --into DIR --join", self.shard),
        ]);
    }
}

/// Returns the facts of a backup, by name.
fn fields(report: &BackupReport, out: &TextWriter) -> Vec<(&'static str, String)> {
    vec![
        ("source", format!("{}: {}", report.source.endpoint, report.source_reason)),
        ("taken at", out.moment(report.taken_at)),
        ("kind", kind(report)),
        ("stored", stored(report)),
        ("writes", freeze(&report.freeze)),
        ("gtid_executed", report.gtid_executed.to_string()),
        ("took", format::seconds(report.seconds)),
    ]
}

fn kind(report: &BackupReport) -> String {
    match &report.parent {
        Some(parent) => format!("increment of {parent}"),
        None => "full".to_owned(),
    }
}

fn stored(report: &BackupReport) -> String {
    let sizes = report.sizes;
    if let Some(ebs) = &report.ebs {
        return format!("{}, of {} of volumes", snapshots(ebs), format::bytes(sizes.data_bytes));
    }
    let (stored, changed, data) = (
        format::bytes(sizes.stored_bytes),
        format::bytes(sizes.changed_bytes),
        format::bytes(sizes.data_bytes),
    );
    format!("{stored} for {changed} of changes, of {data} of data")
}

fn snapshots(ebs: &EbsSnapshots) -> String {
    let state = match ebs.state {
        None => "state unknown",
        Some(VolumeState::Completed) => "completed",
        Some(VolumeState::Pending) => "pending",
        Some(VolumeState::Error) => "FAILED",
        Some(VolumeState::Missing) => "GONE",
        Some(VolumeState::Archived) => "ARCHIVED",
        Some(VolumeState::Recycled) => "IN THE RECYCLE BIN",
    };
    format!("EBS {} in {} ({state})", ebs.snapshot_ids.join(", "), ebs.region)
}

/// Describes how writes on the source were held.
pub(super) fn freeze(freeze: &FreezeReport) -> String {
    let held = format::millis(freeze.held_ms);
    match freeze.mode {
        FreezeMode::None => "never held".to_owned(),
        FreezeMode::LockFree => format!("never held (DDL waited for {held})"),
        FreezeMode::Lock => format!("held for {held} by the read lock"),
    }
}

impl RenderText for BackupsReport {
    fn render_text(&self, out: &mut TextWriter) {
        if self.backups.is_empty() {
            out.line(format!("Shard {} has no backup.", self.shard));
            out.next(&[format!("backstop backup {}", self.shard)]);
            return;
        }
        out.table(
            &["BACKUP", "TAKEN AT", "KIND", "DATA", "STORED", "FROM"],
            self.backups.iter().map(row).collect(),
        );
        for row in self.backups.iter().filter(|row| row.report.is_doubtful()) {
            out.line(format!("Doubtful: {}", row.report.backup_id));
            super::findings(out, &row.report.findings);
        }
        out.next(&[
            format!("backstop plan {} --backup ID      shows what a recovery would do", self.shard),
            format!("backstop recover {} --backup ID --into DIR ( --join | --standalone )", self.shard),
        ]);
    }
}

impl RenderText for TaggedReport {
    fn render_text(&self, out: &mut TextWriter) {
        if self.from_tags.is_empty() {
            out.line(format!("No EBS snapshot is tagged as a proven backup of shard {}.", self.shard));
            return;
        }
        let row = |backup: &backstop_engine::report::TaggedBackup| {
            vec![
                backup.backup_id.to_string(),
                format::moment(backup.taken_at),
                snapshots(&backup.ebs),
                backup.source.clone(),
                backup.gtid.clone(),
            ]
        };
        out.table(&["BACKUP", "TAKEN AT", "DATA", "FROM", "GTID"], self.from_tags.iter().map(row).collect());
    }
}

fn row(row: &BackupRow) -> Vec<String> {
    let report = &row.report;
    let kind = if report.parent.is_some() { "increment" } else { "full" };
    vec![
        report.backup_id.to_string(),
        format::moment(report.taken_at),
        match row.state {
            BackupState::Complete if report.is_doubtful() => format!("{kind}, DOUBTFUL"),
            BackupState::Complete => kind.to_owned(),
            BackupState::Damaged => format!("{kind}, DAMAGED"),
            BackupState::Deleted => format!("{kind}, deleted"),
            BackupState::Pending => format!("{kind}, pending"),
            BackupState::Unknown => format!("{kind}, state unknown"),
        },
        format::bytes(report.sizes.data_bytes),
        format::bytes(report.sizes.stored_bytes),
        report.source.endpoint.to_string(),
    ]
}
