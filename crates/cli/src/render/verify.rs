//! `verify`.

use backstop_model::report::{BackupState, ShardVerified, VerifyReport};

use crate::human;
use crate::page::{Page, Screen};

impl Screen for VerifyReport {
    fn draw(&self, page: &mut Page) {
        for shard in &self.shards {
            page.gap();
            draw(shard, page);
        }
        page.gap();
        if self.ok {
            page.line(page.paint.good("Nothing is damaged."));
            return;
        }
        page.line(page.paint.bad("Stored data is damaged."));
        page.next(&[
            "recover only from backups that are not named above",
            "make a new backup: what it needs and is damaged is stored anew",
        ]);
    }
}

fn draw(shard: &ShardVerified, page: &mut Page) {
    page.line(page.paint.strong(&format!("Shard {}", shard.shard)));
    let sound = shard.backups.iter().filter(|backup| backup.state == BackupState::Complete).count();
    let read = if shard.depth == "content" { "every byte read" } else { "every object looked at" };
    page.fields([
        ("backups", format!("{sound} of {} can be restored completely", shard.backups.len())),
        (
            "objects",
            format!("{} ({read}, {})", human::thousands(shard.objects), human::bytes(shard.bytes_read)),
        ),
        ("archive", human::count(shard.segments, "piece")),
        (
            "unreferenced",
            format!("{} that `backstop prune --apply` removes", human::count(shard.unreferenced, "object")),
        ),
    ]);
    for damage in &shard.damaged {
        page.line(page.paint.bad(&format!("  damaged: {}", damage.object)));
        let backups: Vec<&str> = damage.backups.iter().map(|id| id.as_str()).collect();
        if let Some(gtids) = &damage.gtids {
            let moments = damage.moments.map_or("not known".to_owned(), |(from, to)| {
                format!("{} to {}", human::moment(from), human::moment(to))
            });
            let fields =
                [("  wrong", damage.wrong.clone()), ("  lost", gtids.to_string()), ("  moments", moments)];
            page.fields(fields);
            continue;
        }
        let needed = if backups.is_empty() { "no backup".to_owned() } else { backups.join(", ") };
        page.fields([("  wrong", damage.wrong.clone()), ("  needed by", needed)]);
    }
}
