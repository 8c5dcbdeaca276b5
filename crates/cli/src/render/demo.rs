//! `demo`.

use backstop_model::report::{BackupReport, DemoReport};

use super::backup::freeze;
use crate::demo::{DemoDone, Kept};
use crate::human;
use crate::page::{Page, Screen};

impl Screen for DemoDone {
    fn draw(&self, page: &mut Page) {
        let rows = self.report.steps.iter();
        page.table(
            &["STEP", "TOOK", "SEEN"],
            rows.map(|step| vec![step.name.clone(), human::seconds(step.seconds), step.what.clone()])
                .collect(),
        );
        page.gap();
        page.fields(fields(&self.report));
        page.gap();
        page.line(match self.report.ok {
            true => page.paint.good("Nothing was lost: the rebuilt servers hold every acknowledged commit."),
            false => {
                page.paint.bad("The demonstration failed: the rebuilt server is not the same as the primary.")
            }
        });
        match &self.kept {
            Some(kept) => draw(kept, page),
            None => page.next(&["backstop demo --keep leaves the servers running, to look around"]),
        }
    }
}

fn draw(kept: &Kept, page: &mut Page) {
    page.gap();
    page.line(page.paint.strong("Kept, to look around:"));
    // Lines to be copied are not wrapped.
    for (server, command) in &kept.connect {
        page.line(format!("  {server:9}  {command}"));
    }
    page.line(format!("  status     {}", kept.status));
    page.line(format!("  remove     {}", kept.remove));
}

fn fields(report: &DemoReport) -> Vec<(&'static str, String)> {
    let gaps: Vec<String> = report.longest_gaps_ms.iter().map(|gap| human::millis(*gap)).collect();
    let sizes = |report: &BackupReport| {
        format!(
            "{} stored of {} of data",
            human::bytes(report.sizes.stored_bytes),
            human::bytes(report.sizes.data_bytes)
        )
    };
    let mut fields = vec![
        ("acknowledged commits", human::thousands(report.acknowledged_commits)),
        ("lost commits", human::thousands(report.lost_commits)),
        ("full backup", sizes(&report.first_backup)),
        ("increment", sizes(&report.backup)),
        ("writes on the source", freeze(&report.backup.freeze)),
        (
            "longest gaps",
            format!("{} between two commits on the primary, one for each backup", gaps.join(" and ")),
        ),
        ("recovery", format!("{} from nothing to caught up", human::seconds(report.recover.seconds.total))),
    ];
    if let Some(loss) = &report.total_loss {
        let (commits, lost) = (human::thousands(loss.acknowledged_commits), loss.lost_commits);
        fields.push(("RPO", format!("{lost} of {commits} acknowledged commits lost with all servers")));
        fields.push((
            "RTO",
            format!("{} from then to a primary that takes writes", human::seconds(loss.rto_seconds)),
        ));
    }
    fields
}
