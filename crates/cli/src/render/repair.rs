//! `repair`.

use backstop_model::ids::BackupId;
use backstop_model::report::{RepairReport, RepairedLog};

use crate::human;
use crate::page::{Page, Screen};

impl Screen for RepairReport {
    fn draw(&self, page: &mut Page) {
        for log in &self.logs {
            draw(log, page);
            page.gap();
        }
        let shard = &self.shard;
        match (self.logs.is_empty(), self.applied) {
            (true, _) => {
                page.line(page.paint.good(&format!("Nothing to repair: the logs of {shard} are whole.")))
            }
            (false, false) => {
                page.line("Nothing was written.");
                page.next(&[format!("backstop repair {shard} --apply")]);
            }
            (false, true) => {
                page.line(page.paint.good(&format!("The logs of {shard} are whole again.")));
                page.next(&[
                    format!("backstop verify {shard} --content      reads what was found again"),
                    format!("backstop backup {shard}"),
                ]);
            }
        }
    }
}

fn draw(log: &RepairedLog, page: &mut Page) {
    page.line(page.paint.strong(&log.log));
    let mut fields = vec![("wrong", log.wrong.clone())];
    if !log.kept.is_empty() {
        fields.push(("stay listed", human::count(log.kept.len() as u64, "backup")));
    }
    for (name, backups) in [("listed again", &log.found), ("removed by prune", &log.gone)] {
        if !backups.is_empty() {
            let ids: Vec<&str> = backups.iter().map(BackupId::as_str).collect();
            fields.push((name, ids.join(", ")));
        }
    }
    fields.extend(log.left.iter().map(|left| ("not usable", format!("{}: {}", left.object, left.why))));
    page.fields(fields);
}
