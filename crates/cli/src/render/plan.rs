//! `plan` and `recover --plan`.

use backstop_model::plan::RecoveryPlan;

use crate::human;
use crate::page::{Page, Screen};

impl Screen for RecoveryPlan {
    fn draw(&self, page: &mut Page) {
        let title =
            format!("Recovery of shard {} to `{}` (a plan: nothing was touched)", self.shard, self.target);
        page.line(page.paint.strong(&title));
        page.fields([
            ("backup", format!("{}: {}", self.backup_id, self.why)),
            ("moment", human::moment(self.taken_at)),
            ("data", human::bytes(self.data_bytes)),
            ("gtid_executed", self.gtid_executed.to_string()),
        ]);
        page.gap();
        page.line(page.paint.strong("Steps:"));
        let rows = self.steps.iter().enumerate();
        page.fields(rows.map(|(index, step)| {
            let name: &'static str = step.name;
            (name, format!("{}. {}", index + 1, step.what))
        }));
        page.next(&[format!(
            "backstop recover {} --backup {} --into DIR ( --join | --standalone )",
            self.shard, self.backup_id
        )]);
    }
}
