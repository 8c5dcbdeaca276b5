//! `backup` and `backups`.

use backstop_model::freeze::{FreezeMode, FreezeReport};
use backstop_model::report::{
    BackupReport, BackupRow, BackupState, BackupsReport, EbsSnapshots, TaggedReport, VolumeState,
};

use crate::human;
use crate::page::{Page, Screen};

impl Screen for BackupReport {
    fn draw(&self, page: &mut Page) {
        let pending = self.ebs.as_ref().is_some_and(|ebs| ebs.state == Some(VolumeState::Pending));
        let end = if pending { "is taken; EC2 is still storing its blocks" } else { "is complete" };
        let title = format!("Backup {} of shard {} {end}.", self.backup_id, self.shard);
        page.line(page.paint.strong(&title));
        page.fields(fields(self, page));
        super::findings(page, &self.findings);
        page.next(&[
            format!("backstop backups {}                  lists what can be recovered", self.shard),
            format!("backstop recover {} --to latest --into DIR --join", self.shard),
        ]);
    }
}

/// The facts of a backup, by name.
fn fields(report: &BackupReport, page: &Page) -> Vec<(&'static str, String)> {
    vec![
        ("source", format!("{}: {}", report.source.endpoint, report.source_reason)),
        ("taken at", page.moment(report.taken_at)),
        ("kind", kind(report)),
        ("stored", stored(report)),
        ("writes", freeze(&report.freeze)),
        ("gtid_executed", report.gtid_executed.to_string()),
        ("took", human::seconds(report.seconds)),
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
        return format!("{}, of {} of volumes", snapshots(ebs), human::bytes(sizes.data_bytes));
    }
    let (stored, changed, data) =
        (human::bytes(sizes.stored_bytes), human::bytes(sizes.changed_bytes), human::bytes(sizes.data_bytes));
    format!("{stored} for {changed} that changed, of {data} of data")
}

fn snapshots(ebs: &EbsSnapshots) -> String {
    let state = match ebs.state {
        None => "state not asked",
        Some(VolumeState::Completed) => "completed",
        Some(VolumeState::Pending) => "pending",
        Some(VolumeState::Error) => "FAILED",
        Some(VolumeState::Missing) => "GONE",
    };
    format!("EBS {} in {} ({state})", ebs.snapshot_ids.join(", "), ebs.region)
}

/// How writes on the source were held.
pub(super) fn freeze(freeze: &FreezeReport) -> String {
    let held = human::millis(freeze.held_ms);
    match freeze.mode {
        FreezeMode::None => "never held".to_owned(),
        FreezeMode::LockFree => format!("never held (DDL waited for {held})"),
        FreezeMode::Lock => format!("held for {held} by the read lock"),
    }
}

impl Screen for BackupsReport {
    fn draw(&self, page: &mut Page) {
        if self.backups.is_empty() {
            page.line(format!("Shard {} has no backup.", self.shard));
            page.next(&[format!("backstop backup {}", self.shard)]);
            return;
        }
        page.table(
            &["BACKUP", "TAKEN AT", "KIND", "DATA", "STORED", "FROM"],
            self.backups.iter().map(row).collect(),
        );
        for row in self.backups.iter().filter(|row| row.report.is_doubtful()) {
            page.line(format!("Doubtful: {}", row.report.backup_id));
            super::findings(page, &row.report.findings);
        }
        page.next(&[
            format!("backstop plan {} --backup ID      shows what a recovery would do", self.shard),
            format!("backstop recover {} --backup ID --into DIR ( --join | --standalone )", self.shard),
        ]);
    }
}

impl Screen for TaggedReport {
    fn draw(&self, page: &mut Page) {
        if self.from_tags.is_empty() {
            page.line(format!("No EBS snapshot is tagged as a proven backup of shard {}.", self.shard));
            return;
        }
        let row = |backup: &backstop_model::report::TaggedBackup| {
            vec![
                backup.backup_id.to_string(),
                human::moment(backup.taken_at),
                snapshots(&backup.ebs),
                backup.source.clone(),
                backup.gtid.clone(),
            ]
        };
        page.table(&["BACKUP", "TAKEN AT", "DATA", "FROM", "GTID"], self.from_tags.iter().map(row).collect());
    }
}

fn row(row: &BackupRow) -> Vec<String> {
    let report = &row.report;
    let kind = if report.parent.is_some() { "increment" } else { "full" };
    vec![
        report.backup_id.to_string(),
        human::moment(report.taken_at),
        match row.state {
            BackupState::Complete if report.is_doubtful() => format!("{kind}, DOUBTFUL"),
            BackupState::Complete => kind.to_owned(),
            BackupState::Damaged => format!("{kind}, DAMAGED"),
            BackupState::Deleted => format!("{kind}, deleted"),
            BackupState::Pending => format!("{kind}, pending"),
            BackupState::Unknown => format!("{kind}, not asked"),
        },
        human::bytes(report.sizes.data_bytes),
        human::bytes(report.sizes.stored_bytes),
        report.source.endpoint.to_string(),
    ]
}
