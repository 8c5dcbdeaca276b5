//! `backup` and `backups`.

use backstop_model::freeze::{FreezeMode, FreezeReport};
use backstop_model::report::{BackupReport, BackupRow, BackupState, BackupsReport};

use crate::human;
use crate::page::{Page, Screen};

impl Screen for BackupReport {
    fn draw(&self, page: &mut Page) {
        let title = format!("Backup {} of shard {} is complete.", self.backup_id, self.shard);
        page.line(page.paint.strong(&title));
        page.fields(fields(self));
        page.next(&[
            format!("backstop backups {}                  lists what can be recovered", self.shard),
            format!("backstop recover {} --to latest --into DIR --join", self.shard),
        ]);
    }
}

/// The facts of a backup, by name.
pub(super) fn fields(report: &BackupReport) -> Vec<(&'static str, String)> {
    vec![
        ("source", format!("{}: {}", report.source.endpoint, report.source_reason)),
        ("taken at", human::moment(report.taken_at)),
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
    let (stored, changed, data) =
        (human::bytes(sizes.stored_bytes), human::bytes(sizes.changed_bytes), human::bytes(sizes.data_bytes));
    format!("{stored} for {changed} that changed, of {data} of data")
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
        page.next(&[
            format!("backstop plan {} --backup ID      shows what a recovery would do", self.shard),
            format!("backstop recover {} --backup ID --into DIR ( --join | --standalone )", self.shard),
        ]);
    }
}

fn row(row: &BackupRow) -> Vec<String> {
    let report = &row.report;
    let kind = if report.parent.is_some() { "increment" } else { "full" };
    vec![
        report.backup_id.to_string(),
        human::moment(report.taken_at),
        match row.state {
            BackupState::Complete => kind.to_owned(),
            BackupState::Damaged => format!("{kind}, DAMAGED"),
            BackupState::Deleted => format!("{kind}, deleted"),
            BackupState::Pending => format!("{kind}, pending"),
        },
        human::bytes(report.sizes.data_bytes),
        human::bytes(report.sizes.stored_bytes),
        report.source.endpoint.to_string(),
    ]
}
