//! `plan` and `recover --plan`.

use backstop_model::plan::{Ending, RecoveryPlan, Replay};

use crate::human;
use crate::page::{Page, Screen};

impl Screen for RecoveryPlan {
    fn draw(&self, page: &mut Page) {
        let title =
            format!("Recovery of shard {} to `{}` (a plan: nothing was touched)", self.shard, self.target);
        page.line(page.paint.strong(&title));
        page.fields([
            ("moment", page.target(&self.target)),
            ("backup", format!("{}: {}", self.backup_id, self.why)),
            ("backup of", page.moment(self.taken_at)),
            ("data", human::bytes(self.data_bytes)),
            ("gtid_executed", self.gtid_executed.to_string()),
            (
                "replay",
                self.replay
                    .as_ref()
                    .map_or("nothing: there is no archive".to_owned(), |replay| replayed(replay, page)),
            ),
        ]);
        super::findings(page, &self.findings);
        page.gap();
        page.line(page.paint.strong("Endings that fit this moment:"));
        page.prose(self.endings.iter().map(|fit| {
            let verdict = if fit.fits { "yes" } else { "no" };
            (flag(fit.ending), format!("{verdict}: {}", fit.why))
        }));
        page.gap();
        page.line(page.paint.strong(&format!("Steps with {}:", flag(self.ending))));
        let rows = self.steps.iter().enumerate();
        page.prose(rows.map(|(index, step)| {
            let name: &'static str = step.name;
            (name, format!("{}. {}", index + 1, step.what))
        }));
        let fits: Vec<&str> =
            self.endings.iter().filter(|fit| fit.fits).map(|fit| flag(fit.ending)).collect();
        page.next(&[format!(
            "backstop recover {} --to {} --into DIR ( {} )",
            self.shard,
            self.target,
            fits.join(" | ")
        )]);
    }
}

fn flag(ending: Ending) -> &'static str {
    match ending {
        Ending::Standalone => "--standalone",
        Ending::Join => "--join",
        Ending::AsPrimary => "--as-primary",
    }
}

fn replayed(replay: &Replay, page: &Page) -> String {
    let last =
        replay.last_commit.map_or(String::new(), |at| format!(", up to the commit of {}", page.moment(at)));
    format!(
        "{} of line {}, {}{last}",
        human::count(replay.transactions, "transaction"),
        replay.line,
        human::bytes(replay.bytes)
    )
}
