//! `status`.

use backstop_model::report::{Coverage, ShardStatus, StatusReport};

use super::findings;
use crate::human;
use crate::page::{Page, Screen};

impl Screen for StatusReport {
    fn draw(&self, page: &mut Page) {
        for shard in &self.shards {
            page.gap();
            page.line(page.paint.strong(&format!("Shard {}", shard.shard)));
            page.fields(fields(shard));
            findings(page, &shard.findings);
        }
        page.gap();
        page.line(match self.ok {
            true => page.paint.good("All is well."),
            false => page.paint.bad("Something needs attention: see what is marked WRONG."),
        });
    }
}

fn fields(shard: &ShardStatus) -> Vec<(&'static str, String)> {
    let last = match &shard.last_backup {
        Some(backup) => format!("{} from {}", backup.backup_id, backup.source.endpoint),
        None => "none".to_owned(),
    };
    let seconds = |value: Option<f64>| value.map_or("not known".to_owned(), human::seconds);
    vec![
        ("last backup", last),
        ("recoverable", moments(&shard.coverage)),
        ("would be lost", seconds(shard.rpo_seconds)),
        ("recovery takes", seconds(shard.rto_seconds)),
    ]
}

/// The moments that can be recovered.
pub(super) fn moments(coverage: &Coverage) -> String {
    let windows = &coverage.windows;
    match (windows.first(), windows.last()) {
        (Some(first), Some(last)) if windows.len() > 1 => {
            let count = human::count(windows.len() as u64, "moment");
            format!("{count} from {} to {}", human::moment(first.from), human::moment(last.to))
        }
        (Some(only), _) if only.from == only.to => human::moment(only.from),
        (Some(only), _) => format!("{} to {}", human::moment(only.from), human::moment(only.to)),
        _ => "nothing".to_owned(),
    }
}
