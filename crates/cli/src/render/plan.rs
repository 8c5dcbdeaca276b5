//! `plan` and `recover --plan`.

use backstop_model::plan::{RecoveryPlan, Replay};

use crate::human;
use crate::page::{Page, Screen};

impl Screen for RecoveryPlan {
    fn draw(&self, page: &mut Page) {
        let title =
            format!("Recovery of shard {} to `{}` (a plan: nothing was touched)", self.shard, self.target);
        page.line(page.paint.strong(&title));
        page.fields([
            ("backup", format!("{}: {}", self.backup_id, self.why)),
            ("taken at", human::moment(self.taken_at)),
            ("data", human::bytes(self.data_bytes)),
            ("gtid_executed", self.gtid_executed.to_string()),
            ("replay", self.replay.as_ref().map_or("nothing: there is no archive".to_owned(), replayed)),
        ]);
        super::findings(page, &self.findings);
        page.gap();
        page.line(page.paint.strong("Steps:"));
        let rows = self.steps.iter().enumerate();
        page.prose(rows.map(|(index, step)| {
            let name: &'static str = step.name;
            (name, format!("{}. {}", index + 1, step.what))
        }));
        page.next(&[format!(
            "backstop recover {} --to {} --into DIR ( --join | --standalone | --as-primary )",
            self.shard, self.target
        )]);
    }
}

fn replayed(replay: &Replay) -> String {
    let last =
        replay.last_commit.map_or(String::new(), |at| format!(", up to the commit of {}", human::moment(at)));
    format!(
        "{} of line {}, {}{last}",
        human::count(replay.transactions, "transaction"),
        replay.line,
        human::bytes(replay.bytes)
    )
}
