//! Text output of `plan` and `recover --plan`.

use backstop_policy::plan::{Ending, RecoveryPlan, Replay};

use crate::format;
use crate::text::{RenderText, TextWriter};

impl RenderText for RecoveryPlan {
    fn render_text(&self, out: &mut TextWriter) {
        let title =
            format!("Recovery of shard {} to `{}` (a plan: nothing was touched)", self.shard, self.target);
        out.line(out.colors.strong(&title));
        out.fields([
            ("moment", out.target(&self.target)),
            ("backup", format!("{}: {}", self.backup_id, self.why)),
            ("taken at", out.moment(self.taken_at)),
            ("data", format::bytes(self.data_bytes)),
            ("gtid_executed", self.gtid_executed.to_string()),
            (
                "replay",
                self.replay
                    .as_ref()
                    .map_or("nothing: there is no archive".to_owned(), |replay| replayed(replay, out)),
            ),
        ]);
        super::findings(out, &self.findings);
        out.blank_line();
        out.line(out.colors.strong("Endings that fit this moment:"));
        out.prose(self.endings.iter().map(|fit| {
            let verdict = if fit.fits { "yes" } else { "no" };
            (flag(fit.ending), format!("{verdict}: {}", fit.why))
        }));
        out.blank_line();
        out.line(out.colors.strong(&format!("Steps with {}:", flag(self.ending))));
        let rows = self.steps.iter().enumerate();
        out.prose(rows.map(|(index, step)| {
            let name: &'static str = step.name;
            (name, format!("{}. {}", index + 1, step.what))
        }));
        let fits: Vec<&str> =
            self.endings.iter().filter(|fit| fit.fits).map(|fit| flag(fit.ending)).collect();
        out.next(&[format!(
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

fn replayed(replay: &Replay, out: &TextWriter) -> String {
    let last =
        replay.last_commit.map_or(String::new(), |at| format!(", up to the commit of {}", out.moment(at)));
    format!(
        "{} of timeline {}, {}{last}",
        format::count(replay.transactions, "transaction"),
        replay.timeline,
        format::bytes(replay.bytes)
    )
}
